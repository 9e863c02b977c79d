//! Starting, watching and ending processes.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, pidfd_open, waitid,
};

use crate::{Error, Result};

/// How a child ended, as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Code(i32),
    Signal(i32),
    /// Somebody else has asked before, and the kernel tells only once.
    Unknown,
}

/// A descriptor set aside before a process is started, so that the process cannot end up
/// without one.
pub(crate) struct Reserved(OwnedFd);

/// A descriptor that is readable once a process has ended.
pub(crate) enum Sentinel {
    /// Its pidfd.
    Pidfd(OwnedFd),
    /// The process had ended, and was no longer known to the kernel, when we asked for it.
    Gone(OwnedFd),
}

impl Reserved {
    pub(crate) fn new() -> Result<Self> {
        eventfd(1, EventfdFlags::CLOEXEC)
            .map(Self)
            .map_err(|e| Error::os("make a descriptor for a process", e))
    }

    /// Turns it into the sentinel of the child `pid`, which nobody here has waited for. If there
    /// can be none the child is killed.
    pub(crate) fn into_sentinel(self, pid: u32) -> Result<Sentinel> {
        let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Err(Error::corrupt("the pid of a child"));
        };
        match pidfd_open(id, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Sentinel::Pidfd(pidfd)),
            // SIGCHLD is ignored, or a handler waits for every child.
            Err(Errno::SRCH) => Ok(Sentinel::Gone(self.0)),
            Err(Errno::MFILE | Errno::NFILE) => {
                drop(self.0);
                pidfd_open(id, PidfdFlags::empty()).map(Sentinel::Pidfd).map_err(|e| discard(id, e))
            }
            Err(error) => Err(discard(id, error)),
        }
    }
}

/// Ends a child that we cannot watch.
fn discard(id: Pid, error: Errno) -> Error {
    // It is our child and not waited for, so the pid is still its own. A failure means that it
    // has gone by itself.
    let _ = kill_process(id, Signal::KILL);
    let _ = retry_on_intr(|| rustix::process::waitpid(Some(id), WaitOptions::empty()));
    Error::os("open a pidfd", error)
}

/// Takes the status of the child behind `pidfd`, if it has ended.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> Result<Option<Ending>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match waitid(WaitId::PidFd(pidfd), options) {
        Ok(None) => Ok(None),
        Ok(Some(status)) => Ok(Some(
            status
                .exit_status()
                .map(Ending::Code)
                .or_else(|| status.terminating_signal().map(Ending::Signal))
                .unwrap_or(Ending::Unknown),
        )),
        Err(Errno::CHILD) => Ok(Some(Ending::Unknown)),
        Err(error) => Err(Error::os("wait for a process", error)),
    }
}

/// Sends signal number `signo` to the process behind `pidfd`; nothing happens if it has ended.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signo: i32) -> Result<()> {
    let info: *const libc::siginfo_t = ptr::null();
    // SAFETY: pidfd_send_signal takes a descriptor, a number, no siginfo and no flags; it
    // touches no memory of ours. rustix has it only for the signals that have names.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signo, info, 0) };
    if result == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        error => Err(Error::os("signal a process", error)),
    }
}

/// Ends this process at once, without running what the program wants to do at its exit.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: `_exit` has no requirements.
    unsafe { libc::_exit(code) }
}

/// Starts `program` with the descriptors `fds` open, no signal blocked but `blocked`, and this
/// process's environment with `env` (entries of the form `NAME=value`) laid over it.
pub(crate) fn spawn(
    program: &CStr,
    args: &[CString],
    env: &[CString],
    fds: &[RawFd],
    blocked: Option<i32>,
) -> Result<u32> {
    let attributes = Attributes::new(blocked)?;
    let actions = Actions::new(fds)?;
    let args: Vec<_> = pointers(args.iter().map(|arg| arg.as_ptr()));
    // SAFETY: nobody frees the environment's entries while other threads may read them; who
    // changes it with `set_var` has promised that nobody reads it meanwhile.
    let env = unsafe { environment(env) };
    let mut pid = 0;
    // SAFETY: all pointers are to live, initialised objects; the two arrays end with a null and
    // their strings outlive the call.
    let failed = unsafe {
        libc::posix_spawn(
            &mut pid,
            program.as_ptr(),
            &actions.0,
            &attributes.0,
            args.as_ptr(),
            env.as_ptr(),
        )
    };
    check(failed, "start a program")?;
    u32::try_from(pid).map_err(|_| Error::corrupt("the pid of a child"))
}

fn pointers(strings: impl Iterator<Item = *const libc::c_char>) -> Vec<*mut libc::c_char> {
    strings.map(<*const libc::c_char>::cast_mut).chain([ptr::null_mut()]).collect()
}

/// The entries of the environment, with those of `additions` instead of the ones that have the
/// same name.
///
/// Reads `environ` itself: std's lock for it may be held for ever in a forked copy.
///
/// # Safety
///
/// Nobody changes the environment during the call and while the result is used.
unsafe fn environment(additions: &[CString]) -> Vec<*mut libc::c_char> {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    let mut inherited = Vec::new();
    // SAFETY: the environment is a null-terminated array of strings, or null when cleared.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            inherited.push(*entry);
            entry = entry.add(1);
        }
    }
    inherited.retain(|&entry| {
        // SAFETY: one of the strings found above.
        let entry = unsafe { CStr::from_ptr(entry) }.to_bytes();
        !additions.iter().any(|addition| name(addition.to_bytes()) == name(entry))
    });
    pointers(inherited.into_iter().chain(additions.iter().map(|entry| entry.as_ptr())))
}

fn name(entry: &[u8]) -> &[u8] {
    entry.split(|&byte| byte == b'=').next().unwrap_or(entry)
}

fn check(errno: libc::c_int, what: &'static str) -> Result<()> {
    match errno {
        0 => Ok(()),
        errno => Err(Error::os(what, io::Error::from_raw_os_error(errno))),
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new(blocked: Option<i32>) -> Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given.
        check(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) }, "start a program")?;
        // SAFETY: initialised just now.
        let mut attributes = Self(unsafe { raw.assume_init() });
        let mut mask = MaybeUninit::uninit();
        // SAFETY: the set is initialised before it is read, and both objects are live.
        unsafe {
            libc::sigemptyset(mask.as_mut_ptr());
            if let Some(signo) = blocked {
                libc::sigaddset(mask.as_mut_ptr(), signo);
            }
            libc::posix_spawnattr_setsigmask(&mut attributes.0, mask.as_ptr());
            let flags = libc::POSIX_SPAWN_SETSIGMASK as libc::c_short;
            libc::posix_spawnattr_setflags(&mut attributes.0, flags);
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    /// Opens `fds` in the child under their own numbers: a dup2 onto itself takes away the
    /// close-on-exec flag.
    fn new(fds: &[RawFd]) -> Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given.
        check(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) }, "start a program")?;
        // SAFETY: initialised just now.
        let mut actions = Self(unsafe { raw.assume_init() });
        for &fd in fds {
            // SAFETY: the object is live; the descriptor is only a number here.
            let failed = unsafe { libc::posix_spawn_file_actions_adddup2(&mut actions.0, fd, fd) };
            check(failed, "hand a descriptor to a program")?;
        }
        Ok(actions)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}
