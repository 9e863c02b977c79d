//! Sleep on a word in shared memory until another process changes it.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};

use crate::primitive::fixed::AtomicU32;

/// How a sleep on a futex word ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Woken, or the word no longer held the expected value. May be spurious.
    Woken,
    /// The deadline passed.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// Sleeps while `word` holds `expected`, at most until `deadline`.
///
/// The word may lie in memory shared with other processes.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Wake {
    let timeout = match deadline {
        None => None,
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Wake::TimedOut;
            }
            Some(timespec(left))
        }
    };
    match futex::wait(word, Flags::empty(), expected, timeout.as_ref()) {
        Err(Errno::TIMEDOUT) => Wake::TimedOut,
        Err(Errno::INTR) => Wake::Interrupted,
        // AGAIN: the word had already changed. Anything else would be a bug of ours (an
        // unaligned or unmapped word); the caller looks at the word again in each case.
        Ok(()) | Err(_) => Wake::Woken,
    }
}

/// Wakes at most `count` sleepers on `word`, in whatever process they are, and says how many.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    // The kernel takes the count as a signed number.
    let count = count.min(i32::MAX as u32);
    // Fails only for an address that is no futex word, which a reference cannot be.
    futex::wake(word, Flags::empty(), count).map_or(0, |woken| woken as u32)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        // A wait of more than 2^62 seconds ends early, and the caller sleeps again.
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 2),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
