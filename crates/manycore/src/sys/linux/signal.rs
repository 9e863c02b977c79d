//! Signal masks and dispositions.

use std::mem::MaybeUninit;
use std::ptr;

use crate::{Error, Result};

/// While it lives no signal is delivered to the thread that made it, nor ever to the threads
/// started meanwhile.
pub(crate) struct AllBlocked {
    before: libc::sigset_t,
}

impl AllBlocked {
    pub(crate) fn new() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: each call initialises what it is given; SIG_SETMASK with two sets does not
        // fail.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self { before: before.assume_init() }
        }
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        // SAFETY: the mask is the one that the kernel gave.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

/// Has the calling thread take signal `signo`.
pub(crate) fn unblock(signo: i32) {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is initialised before it is read.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signo);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
    }
}

/// What this process does on one signal, changed until this is dropped.
pub(crate) struct Disposition {
    signo: i32,
    before: libc::sigaction,
}

impl Disposition {
    /// Ignores `signo`.
    pub(crate) fn ignore(signo: i32) -> Result<Self> {
        Self::set(signo, libc::SIG_IGN)
    }

    /// Does on `signo` what the system does by default.
    pub(crate) fn default(signo: i32) -> Result<Self> {
        Self::set(signo, libc::SIG_DFL)
    }

    fn set(signo: i32, handler: libc::sighandler_t) -> Result<Self> {
        // SAFETY: neither disposition runs code.
        unsafe { act(signo, handler, 0) }.map(|before| Self { signo, before })
    }
}

impl Drop for Disposition {
    fn drop(&mut self) {
        // SAFETY: the action is the one that was there before.
        unsafe { libc::sigaction(self.signo, &self.before, ptr::null_mut()) };
    }
}

/// Has `handler` run on `signo`, for good.
///
/// # Safety
///
/// The handler does only what is async-signal-safe.
pub(crate) unsafe fn handle(signo: i32, handler: extern "C" fn(libc::c_int)) -> Result<()> {
    // SAFETY: as the caller says; RESTART, since the program's calls are none of its business.
    unsafe { act(signo, handler as libc::sighandler_t, libc::SA_RESTART) }.map(drop)
}

/// # Safety
///
/// `handler` is SIG_IGN, SIG_DFL or a function that does only what is async-signal-safe.
unsafe fn act(
    signo: i32,
    handler: libc::sighandler_t,
    flags: libc::c_int,
) -> Result<libc::sigaction> {
    let mut before = MaybeUninit::uninit();
    // SAFETY: all zero is a valid sigaction (SIG_DFL, no flags); `before` is written by a call
    // that succeeds.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigemptyset(&mut action.sa_mask);
        if libc::sigaction(signo, &action, before.as_mut_ptr()) != 0 {
            return Err(Error::last_os("set the handling of a signal"));
        }
        Ok(before.assume_init())
    }
}
