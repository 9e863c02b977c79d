//! A process's lifeline: the pipe by which its descendants learn that it is gone.
//!
//! A process keeps the write end to itself: it is close-on-exec, and every forked copy closes it
//! first thing. So the pipe hangs up exactly when the process is gone, however it ended. A child
//! has the kernel send it a signal at that moment; there is no thread and nothing is polled.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::sys::fork::PerProcess;
use crate::sys::{lifeline as sys, poll, signal, thread as threads};

static LINE: PerProcess<OwnedFd> = PerProcess::new();

/// The end of this process's lifeline that its children watch, open until the process ends.
///
/// Ask for it before a fork: in the copy it is that of the copy.
///
/// # Errors
///
/// The system is out of descriptors.
pub fn line() -> Result<BorrowedFd<'static>> {
    LINE.get_or_make(sys::create).map(AsFd::as_fd)
}

/// Ends this process with SIGKILL `grace` after the process that made `line` is gone, whatever
/// this one is doing then. If it is gone already the time starts now.
///
/// For a program that another one started, or for a forked copy. One line is watched at a time.
/// With a grace a real-time signal (`SIGRTMAX - 3`) is handled and unblocked for it. `line` may
/// be closed afterwards.
///
/// # Errors
///
/// The system is out of descriptors, or, without /proc, of threads.
pub fn watch(line: BorrowedFd<'_>, grace: Duration) -> Result<()> {
    // Whatever keeps us from asking the kernel, most likely that there is no /proc here, must
    // not leave us without a lifeline.
    sys::watch(line, grace).or_else(|_| watch_in_thread(line, grace))
}

fn watch_in_thread(line: BorrowedFd<'_>, grace: Duration) -> Result<()> {
    let line = crate::sys::event::duplicate(line)?;
    let _blocked = signal::AllBlocked::new();
    threads::start(c"manycore-line", 64 << 10, move || wait_and_end(line.as_fd(), grace))
}

fn wait_and_end(line: BorrowedFd<'_>, grace: Duration) {
    while poll::wait(line, None).is_err_and(|error| error.is_interrupted()) {}
    thread::sleep(grace);
    sys::kill_self();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Forked, exit_at_once, fork};

    #[test]
    fn a_thread_does_where_the_kernel_does_not() {
        let (ours, theirs) = std::io::pipe().unwrap();
        // SAFETY: the copy makes a thread and waits; both are fine after a fork with glibc.
        let Forked::Parent(child) = (unsafe { fork() }).unwrap() else {
            drop(theirs);
            if watch_in_thread(ours.as_fd(), Duration::from_millis(1)).is_err() {
                exit_at_once(1);
            }
            loop {
                thread::park();
            }
        };
        assert_eq!(child.try_wait().unwrap(), None);
        drop(theirs);
        assert_eq!(child.wait(None).unwrap().signal(), Some(9));
    }
}
