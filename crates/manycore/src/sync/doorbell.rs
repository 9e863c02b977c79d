//! The word that a sleeping side waits on.

use std::time::Instant;

use crate::primitive::futex::{self, Wake};
use crate::primitive::{AtomicU32, Ordering, fence};
use crate::{Error, Result};

/// Lets one thread sleep until others have something for it; lies in shared memory, zeroed.
///
/// The sleeper: mark itself as parked, fence, look whether there is something, sleep. The others:
/// make it visible, fence, look whether somebody is parked, wake. Of two fences one is first in
/// the total order of sequentially consistent fences, so at least one side sees the other.
///
/// Any number may ring. One thread at a time may park.
#[derive(Debug)]
#[repr(C)]
pub struct Doorbell {
    /// | bits | meaning |
    /// |---|---|
    /// | 0 | somebody is parked, or is about to |
    /// | 1 to 31 | how many times somebody has parked, wrapping |
    ///
    /// | from | to | by | when |
    /// |---|---|---|---|
    /// | `n, 0` or `n, 1` | `n + 1, 1` | sleeper | begins to park (`n, 1` was left by one that died) |
    /// | `n, 1` | `n, 0` | sleeper | is ready after all, woken, timed out or interrupted |
    /// | `n, 1` | `n, 0` | ringer | after its wake-up, unless the sleeper has parked again |
    parked: AtomicU32,
}

const PARKED: u32 = 1;
const ONE_PARK: u32 = 2;

impl Doorbell {
    /// A bell at which nobody is parked: all zeroes.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "made in place by zeroed memory, as a rule")]
    pub fn new() -> Self {
        Self { parked: AtomicU32::new(0) }
    }

    /// Wakes the sleeper, if there is one. To be called after the stores that it waits for.
    #[inline]
    pub fn ring(&self) {
        // Partner: the fence in `park`. Either the load below sees that somebody is parked, or
        // the sleeper's look sees what we stored before.
        fence(Ordering::SeqCst);
        let seen = self.parked.load(Ordering::Relaxed);
        if seen & PARKED != 0 {
            self.ring_slow(seen);
        }
    }

    /// First the wake-up and then the mark: a ringer killed in between leaves the mark, so the
    /// next one wakes. The other way round nobody would any more.
    #[cold]
    fn ring_slow(&self, seen: u32) {
        futex::wake(&self.parked, 1);
        // A sleeper that is only about to sleep was not woken; it sees that the word has changed.
        // One that has parked again since then has another number and keeps its mark.
        let _ = self.parked.compare_exchange(
            seen,
            seen & !PARKED,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// Sleeps until somebody rings, unless `is_ready` says that there is something already. May
    /// return early; the caller looks and parks again.
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`], [`Error::is_interrupted`].
    pub fn park(&self, is_ready: impl FnOnce() -> bool, deadline: Option<Instant>) -> Result<()> {
        // Only the sleeper begins a new number, so nobody interferes with this store.
        let number = (self.parked.load(Ordering::Relaxed) & !PARKED).wrapping_add(ONE_PARK);
        self.parked.store(number | PARKED, Ordering::Relaxed);
        // Partner: the fence in `ring`.
        fence(Ordering::SeqCst);
        let wake = if is_ready() {
            Wake::Woken
        } else {
            futex::wait(&self.parked, number | PARKED, deadline)
        };
        self.parked.store(number, Ordering::Relaxed);
        match wake {
            Wake::Woken => Ok(()),
            Wake::TimedOut => Err(Error::timed_out()),
            Wake::Interrupted => Err(Error::interrupted()),
        }
    }
}
