//! Waiting until descriptors become readable.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::{Error, Result};

/// Which of the descriptors given to [`poll`] are readable or hung up, by their position.
pub(crate) struct Ready<'fd>(Vec<PollFd<'fd>>);

impl Ready<'_> {
    /// Whether the descriptor that was given as number `index` is readable or hung up.
    pub(crate) fn has(&self, index: usize) -> bool {
        !self.0[index].revents().is_empty()
    }
}

/// Waits until one of `fds` is readable or hung up.
///
/// Also after the deadline it looks once.
pub(crate) fn poll<'fd>(
    fds: impl IntoIterator<Item = BorrowedFd<'fd>>,
    deadline: Option<Instant>,
) -> Result<Ready<'fd>> {
    let mut fds: Vec<_> =
        fds.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    poll_once(&mut fds, deadline)?;
    Ok(Ready(fds))
}

/// Waits until `fd` is readable or hung up. Also after the deadline it looks once.
pub(crate) fn wait(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<()> {
    poll_once(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], deadline)
}

/// Whether `fd` is readable or hung up now.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> Result<bool> {
    loop {
        match wait(fd, Some(Instant::now())) {
            Ok(()) => return Ok(true),
            Err(error) if error.is_timeout() => return Ok(false),
            // A signal was there; looking again takes no time.
            Err(error) if error.is_interrupted() => {}
            Err(error) => return Err(error),
        }
    }
}

fn poll_once(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> Result<()> {
    let timeout = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(0) => Err(Error::timed_out()),
        Ok(_) => Ok(()),
        Err(error) => Err(Error::os("poll", error)),
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        // Longer than the machine will run, and short enough for the kernel's own sums.
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX).min(1 << 40),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
