//! The fork server, seen from the process that uses it.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::serve::{ASK_FORK, ASK_KILL, MAX_REQUEST, REPLY_LEN, Reply};
use super::{Child, Command, ExitStatus, lifeline, watch};
use crate::sys::socket::{self, Message};
use crate::sys::{event, poll};
use crate::{Error, Result};

/// So many requests at most wait for their replies: neither side's socket can be full then.
const AT_ONCE: usize = 16;

/// A process that forks at our request: a small, clean one, in which no lock is held.
///
/// Dropping it has the server end once the children that it forked have ended.
pub struct ForkServer {
    /// Shared with the children, which may outlive this object.
    server: Arc<Child>,
    control: OwnedFd,
    /// Held from a request to its reply.
    turn: Mutex<()>,
}

impl ForkServer {
    /// Starts the server: the program that `make` tells, which calls [`super::serve`] with the
    /// descriptor of which `make` gets the number. It also finds open this process's
    /// [`lifeline::line`], under its number, which it should [`lifeline::watch`] first thing.
    ///
    /// # Errors
    ///
    /// The program cannot be started, or the system is out of descriptors.
    pub fn start<'fd>(make: impl FnOnce(RawFd) -> Command<'fd>) -> Result<Self> {
        let line = lifeline::line()?;
        let (control, theirs) = socket::pair()?;
        let mut command: Command<'_> = make(theirs.as_raw_fd());
        let server = Arc::new(command.fd(theirs.as_fd()).fd(line).spawn()?);
        Ok(Self { server, control, turn: Mutex::new(()) })
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The server itself.
    #[must_use]
    pub fn process(&self) -> &Child {
        &self.server
    }

    /// Has the server fork, and hands the new process `request` and copies of `fds`.
    ///
    /// The child's status comes by way of the server. If that is killed before it could tell, the
    /// status is unknown (255).
    ///
    /// # Errors
    ///
    /// `is_closed` when the server is gone. The system's error if it could not fork.
    pub fn fork(&self, request: &[u8], fds: &[BorrowedFd<'_>]) -> Result<Child> {
        self.fork_all(&[(request, fds)])
            .pop()
            .unwrap_or_else(|| Err(Error::closed("the fork server")))
    }

    /// As [`Self::fork`] for each request, with one wait for all. What became of each, up to the
    /// first of which that cannot be said, whose error is the last.
    pub fn fork_all(&self, requests: &[(&[u8], &[BorrowedFd<'_>])]) -> Vec<Result<Child>> {
        let mut forked = Vec::new();
        for some in requests.chunks(AT_ONCE) {
            if let Err(error) = self.fork_some(some, &mut forked) {
                forked.push(Err(error));
                break;
            }
        }
        forked
    }

    fn fork_some(
        &self,
        requests: &[(&[u8], &[BorrowedFd<'_>])],
        forked: &mut Vec<Result<Child>>,
    ) -> Result<()> {
        self.server.check_owner()?;
        let large = |request: &[u8], fds: &[_]| {
            request.len() >= MAX_REQUEST || fds.len() >= socket::MAX_FDS
        };
        if requests.iter().any(|(request, fds)| large(request, fds)) {
            return Err(Error::misuse("the request to a fork server is too large"));
        }
        let cells = requests.iter().map(|_| event::cell()).collect::<Result<Vec<_>>>()?;
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = Ok(());
        let mut asked = Vec::new();
        for ((request, fds), cell) in requests.iter().zip(cells) {
            let fds: Vec<_> = [cell.as_fd()].into_iter().chain(fds.iter().copied()).collect();
            sent = self.send(ASK_FORK, request, &fds);
            if sent.is_err() {
                break;
            }
            asked.push(cell);
        }
        // Each request that was sent has its reply, which must not be taken for that of another.
        for cell in asked {
            let reply = self.receive()?;
            forked.push(self.adopt(reply, cell));
        }
        drop(turn);
        sent
    }

    /// Tells the server to end, and waits until it has: when its last child has ended.
    ///
    /// # Errors
    ///
    /// As for [`Child::wait`].
    pub fn stop(&self, deadline: Option<Instant>) -> Result<ExitStatus> {
        self.server.check_owner()?;
        socket::shut_down(&self.control);
        self.server.wait(deadline)
    }

    fn send(&self, what: u8, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut bytes = vec![what];
        bytes.extend_from_slice(body);
        socket::send(&self.control, &bytes, fds)
    }

    /// The reply to the request just sent. Signals do not end this wait, or the reply would be
    /// taken for that to the next request; it is as short as a fork.
    fn receive(&self) -> Result<Message> {
        loop {
            // Besides the socket the process itself, of whose end others may hold a copy.
            let ready = match poll::poll([self.control.as_fd(), self.server.sentinel()], None) {
                Err(error) if error.is_interrupted() => continue,
                ready => ready?,
            };
            match socket::try_receive(&self.control, REPLY_LEN)? {
                Some(message) => return Ok(message),
                None if ready.has(1) => return Err(Error::closed("the fork server")),
                None => {}
            }
        }
    }

    /// Has the server waited for when it ends: nobody else will.
    fn reap_later(&self) {
        let server = Arc::clone(&self.server);
        let reap = move || drop(server.try_wait());
        // Without descriptors or threads to watch with, a zombie stays until this process ends.
        if let Ok(watch) = watch::on_exit(&self.server, Box::new(reap)) {
            std::mem::forget(watch);
        }
    }

    /// Makes a child of the server's reply.
    fn adopt(&self, mut reply: Message, cell: OwnedFd) -> Result<Child> {
        match Reply::from_bytes(&reply.bytes)? {
            Reply::Failed { errno } => {
                Err(Error::os("fork in the fork server", io::Error::from_raw_os_error(errno)))
            }
            Reply::Forked { pid } => match reply.fds.pop() {
                Some(pidfd) => Ok(Child::served(pid, pidfd, cell, self.server.clone())),
                None => Err(self.discard(pid)),
            },
        }
    }

    /// There was no room for the descriptor of child `pid`: only the server can still end it.
    fn discard(&self, pid: u32) -> Error {
        // If this fails the server is gone, and with it everybody who could name the child
        // safely; the lifeline is left.
        let _ = self.send(ASK_KILL, &pid.to_ne_bytes(), &[]);
        Error::os("receive a pidfd", io::Error::from_raw_os_error(libc::EMFILE))
    }
}

impl Drop for ForkServer {
    fn drop(&mut self) {
        // A forked copy leaves the connection to the original.
        if self.server.check_owner().is_ok() {
            socket::shut_down(&self.control);
            self.reap_later();
        }
    }
}

impl fmt::Debug for ForkServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForkServer").field("pid", &self.pid()).finish_non_exhaustive()
    }
}
