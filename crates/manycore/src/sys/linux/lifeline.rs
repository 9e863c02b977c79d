//! A pipe that hangs up when its process is gone, and the signal that the hang-up sends.

#![allow(clippy::disallowed_types, reason = "globals, which loom does not have")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::{fork, poll, signal};
use crate::{Error, Result};

/// Chooses the signal of a description; the libc crate leaves it out.
const F_SETSIG: libc::c_int = 10;

/// The end of this process's line whose closing tells that the process is gone.
static HELD: AtomicI32 = AtomicI32::new(-1);
/// Where this process listens to its parent's line.
static LISTENER: AtomicI32 = AtomicI32::new(-1);
/// The kernel's id of the timer that ends this process.
static TIMER: AtomicI32 = AtomicI32::new(-1);
/// How long the timer runs, in nanoseconds.
static GRACE: AtomicU64 = AtomicU64::new(0);

/// Makes the line of this process. Called while no fork happens, once per process.
pub(crate) fn create() -> Result<OwnedFd> {
    fork::on_fork_child(let_go);
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::os("make a pipe", e))?;
    HELD.store(write.into_raw_fd(), Ordering::Relaxed);
    Ok(read)
}

/// In a forked copy: neither hold the parent's line nor listen in its place. Timers are not
/// copied.
fn let_go() {
    TIMER.store(-1, Ordering::Relaxed);
    for number in [&HELD, &LISTENER] {
        let fd = number.swap(-1, Ordering::Relaxed);
        if fd >= 0 {
            // SAFETY: the number came from `into_raw_fd`, and the swap makes us the only one
            // that has it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// Has the kernel end this process `grace` after `line` hung up. Fails with the system's error
/// where /proc cannot be used.
pub(crate) fn watch(line: BorrowedFd<'_>, grace: Duration) -> Result<()> {
    fork::on_fork_child(let_go);
    let listener = reopen(line)?;
    let signo = if grace.is_zero() { libc::SIGKILL } else { prepare_grace(grace)? };
    send_on_hang_up(&listener, signo)?;
    // It may have hung up before the kernel knew whom to tell.
    let gone = poll::is_readable(line)?;
    let old = LISTENER.swap(listener.into_raw_fd(), Ordering::Relaxed);
    if old >= 0 {
        // SAFETY: as in `let_go`.
        drop(unsafe { OwnedFd::from_raw_fd(old) });
    }
    if gone {
        end(grace);
    }
    Ok(())
}

/// Ends this process after `grace`, or at once if there is none. Not by [`watch`]'s timer, which
/// may not be there.
pub(crate) fn end(grace: Duration) {
    if grace.is_zero() {
        kill_self();
    }
    hang_up(0);
}

pub(crate) fn kill_self() {
    let me = rustix::process::getpid();
    let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
}

/// Another open file description of the same pipe: the owner and the signal belong to the
/// description, and `line`'s is shared by everybody who inherited it.
fn reopen(line: BorrowedFd<'_>) -> Result<OwnedFd> {
    let path = Path::new("/proc/self/fd").join(line.as_raw_fd().to_string());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::os("reopen a lifeline", e))
}

fn send_on_hang_up(listener: &OwnedFd, signo: i32) -> Result<()> {
    let fd = listener.as_raw_fd();
    let flags = libc::O_ASYNC | libc::O_NONBLOCK;
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: these three change only the state of a description that nobody else has.
    let failed = unsafe {
        libc::fcntl(fd, F_SETSIG, signo) != 0
            || libc::fcntl(fd, libc::F_SETOWN, pid) != 0
            || libc::fcntl(fd, libc::F_SETFL, flags) != 0
    };
    if failed { Err(Error::last_os("listen to a lifeline")) } else { Ok(()) }
}

/// Makes ready what the handler needs, and tells the signal that runs it.
fn prepare_grace(grace: Duration) -> Result<i32> {
    let signo = libc::SIGRTMAX() - 3;
    GRACE.store(u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    if TIMER.load(Ordering::Relaxed) < 0 {
        TIMER.store(create_timer(libc::SIGKILL)?, Ordering::Relaxed);
    }
    // SAFETY: the handler loads two words and makes one system call, which may be made there.
    unsafe { signal::handle(signo, hang_up) }?;
    signal::unblock(signo);
    Ok(signo)
}

/// A timer whose end sends `signo` to this process. The system call itself, since glibc before
/// 2.34 has the function in another library.
fn create_timer(signo: i32) -> Result<i32> {
    let mut id: libc::c_int = -1;
    // SAFETY: all zero is a valid sigevent, and both pointers are to live objects.
    let result = unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = signo;
        libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, &raw mut event, &raw mut id)
    };
    if result == 0 { Ok(id) } else { Err(Error::last_os("make a timer")) }
}

extern "C" fn hang_up(_signo: libc::c_int) {
    let grace = Duration::from_nanos(GRACE.load(Ordering::Relaxed));
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let when = libc::itimerspec {
        it_interval: zero,
        it_value: libc::timespec {
            tv_sec: grace.as_secs() as libc::time_t,
            tv_nsec: grace.subsec_nanos().into(),
        },
    };
    let old: *mut libc::itimerspec = ptr::null_mut();
    let errno = io::Error::last_os_error();
    // SAFETY: the timer is this process's own, the new time is a live object and the old one is
    // not asked for.
    unsafe {
        libc::syscall(
            libc::SYS_timer_settime,
            TIMER.load(Ordering::Relaxed),
            0,
            &raw const when,
            old,
        );
        // The interrupted code may be about to look at it.
        *libc::__errno_location() = errno.raw_os_error().unwrap_or(0);
    }
}
