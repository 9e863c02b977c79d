//! Whether a process still lives, and when it began: together they tell it from a later process
//! with the same number.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};

/// When process `pid` began, in clock ticks since the system's start; `None` if /proc does not
/// tell.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything; the start
    // time is the 22nd.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

/// Whether process `pid` has not ended, by `is_same` asked with its start time if that is known.
/// A process that nobody has reaped yet has ended.
///
/// In doubt the answer is that it lives: to wait too long is better than to break a lock.
pub(crate) fn lives(pid: u32, is_same: impl FnOnce(u64) -> bool) -> bool {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    match pidfd_open(number, PidfdFlags::empty()) {
        // The descriptor is open before /proc is read and asked after it, so that both speak of
        // the same process.
        Ok(fd) => start_time(pid).is_none_or(is_same) && !has_ended(&fd),
        // INVAL and NOENT: the number now belongs to a thread of another process.
        Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => false,
        // No descriptor left, or a sandbox that knows no pidfd.
        Err(_) => test_kill_process(number) != Err(Errno::SRCH),
    }
}

/// A pidfd is readable once its process has ended.
fn has_ended(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready == 1)
}
