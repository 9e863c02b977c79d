//! A process that we started.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::ExitStatus;
use crate::sys::process::{Reserved, Sentinel};
use crate::sys::{event, fork as sys_fork, poll, process as sys};
use crate::{Error, Result};

/// A process that this one started, or had started by a [`super::ForkServer`].
///
/// Dropping it neither ends the process nor waits for it. In a forked copy of this process it is
/// of no use: all but [`Child::pid`] and [`Child::sentinel`] give `Err(is_inherited)`.
pub struct Child {
    pid: u32,
    /// Shared with those who watch it, who may outlive this object.
    sentinel: Arc<OwnedFd>,
    source: Source,
    /// Remembered, since the kernel tells it once. Locked only by the process that made it.
    status: Mutex<Option<ExitStatus>>,
    owner: u32,
    generation: u64,
}

/// Who tells the status.
enum Source {
    Kernel,
    /// The fork server puts it into the cell, and takes it along if it is killed.
    Server {
        cell: OwnedFd,
        server: Arc<Child>,
    },
}

/// Which of the two a process is after a fork.
#[derive(Debug)]
pub enum Forked {
    /// The original, with a handle of the copy.
    Parent(Child),
    /// The copy.
    Child,
}

/// Makes a copy of this process, with the calling thread only.
///
/// It is fork(2) of the C library, so that the handlers of everybody who registered some run.
///
/// # Safety
///
/// The copy has only the calling thread; locks that others held stay locked in it for ever. Either
/// the process has no other threads, or the copy keeps away from what they may have been doing.
///
/// # Errors
///
/// The system is out of processes, memory or descriptors. No copy is left behind then.
pub unsafe fn fork() -> Result<Forked> {
    let reserved = Reserved::new()?;
    // SAFETY: as the caller promises.
    match unsafe { sys_fork::fork() }? {
        0 => Ok(Forked::Child),
        pid => Child::started(pid, reserved).map(Forked::Parent),
    }
}

/// Ends this process with `code`, without running what the program registered for its exit. This
/// is how a forked copy ends that shares the original's program.
pub fn exit_at_once(code: i32) -> ! {
    sys::exit(code)
}

impl Child {
    /// The child `pid` of this process, for which nobody has waited.
    pub(super) fn started(pid: u32, reserved: Reserved) -> Result<Self> {
        Ok(match reserved.into_sentinel(pid)? {
            Sentinel::Pidfd(pidfd) => Self::new(pid, pidfd, Source::Kernel, None),
            Sentinel::Gone(fd) => Self::new(pid, fd, Source::Kernel, Some(ExitStatus::UNKNOWN)),
        })
    }

    /// A child of the fork server `server`, which puts the status into `cell`.
    pub(super) fn served(pid: u32, pidfd: OwnedFd, cell: OwnedFd, server: Arc<Self>) -> Self {
        Self::new(pid, pidfd, Source::Server { cell, server }, None)
    }

    fn new(pid: u32, sentinel: OwnedFd, source: Source, status: Option<ExitStatus>) -> Self {
        let status = Mutex::new(status);
        let generation = sys_fork::generation();
        let sentinel = Arc::new(sentinel);
        Self { pid, sentinel, source, status, owner: sys_fork::pid(), generation }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A descriptor that is readable once the process has ended; good for polling only.
    #[must_use]
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.sentinel.as_fd()
    }

    /// The sentinel, for longer than this object may live.
    pub(super) fn share_sentinel(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.sentinel)
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    ///
    /// `is_inherited` in a forked copy. `is_interrupted` if a signal came while a fork server was
    /// about to tell the status of a process that has ended.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.check_owner()?;
        match &self.source {
            Source::Kernel => self.reap(),
            Source::Server { .. } if !poll::is_readable(self.sentinel())? => Ok(None),
            Source::Server { cell, server } => self.ask(cell, server).map(Some),
        }
    }

    /// Waits until it has ended, and tells how. Any number of threads may wait.
    ///
    /// # Errors
    ///
    /// `is_timeout` when the deadline passes, `is_interrupted` when a signal arrives: wait again
    /// then, nothing is lost. `is_inherited` in a forked copy.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<ExitStatus> {
        self.check_owner()?;
        loop {
            poll::wait(self.sentinel(), deadline)?;
            if let Source::Server { cell, server } = &self.source {
                // Past the deadline, too: who has seen the sentinel may ask without waiting.
                return self.ask(cell, server);
            }
            if let Some(status) = self.reap()? {
                return Ok(status);
            }
        }
    }

    /// Sends it the signal with number `signo`. Nothing happens if it has ended.
    ///
    /// # Errors
    ///
    /// There is no such signal, or the process now belongs to another user. `is_inherited` in a
    /// forked copy.
    pub fn signal(&self, signo: i32) -> Result<()> {
        self.check_owner()?;
        match self.known() {
            Some(_) => Ok(()),
            None => sys::signal(self.sentinel(), signo),
        }
    }

    pub(super) fn check_owner(&self) -> Result<()> {
        if self.generation == sys_fork::generation() {
            return Ok(());
        }
        Err(Error::inherited("child process", self.owner))
    }

    fn known(&self) -> Option<ExitStatus> {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status, remembered or else from `look`, which runs in one thread at a time.
    fn settle(
        &self,
        look: impl FnOnce() -> Result<Option<ExitStatus>>,
    ) -> Result<Option<ExitStatus>> {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.is_none() {
            *status = look()?;
        }
        Ok(*status)
    }

    fn reap(&self) -> Result<Option<ExitStatus>> {
        self.settle(|| Ok(sys::reap(self.sentinel())?.map(ExitStatus::new)))
    }

    /// The status of a fork server's child that has ended: the server is about to tell it.
    fn ask(&self, cell: &OwnedFd, server: &Self) -> Result<ExitStatus> {
        loop {
            // Before the cell: a server that is gone now can have told nothing afterwards.
            let gone = poll::is_readable(server.sentinel())?;
            let told = self.settle(|| {
                let told = read_on(cell)?;
                Ok(told.or_else(|| gone.then_some(ExitStatus::UNKNOWN)))
            })?;
            match told {
                Some(status) => return Ok(status),
                None => drop(poll::poll([cell.as_fd(), server.sentinel()], None)?),
            }
        }
    }
}

/// Reads a cell and leaves the number in it, for the other threads that poll it.
fn read_on(cell: &OwnedFd) -> Result<Option<ExitStatus>> {
    let Some(number) = event::take(cell.as_fd())? else {
        return Ok(None);
    };
    event::put(cell.as_fd(), number)?;
    Ok(Some(ExitStatus::from_wire(number)))
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("pid", &self.pid).finish_non_exhaustive()
    }
}
