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
    /// | 0 | parked: somebody sleeps, or is about to |
    /// | 1 | rung: whoever is about to sleep must not any more |
    /// | 2 | napping: a nudge need not wake |
    /// | 3 to 31 | how many times somebody has parked, wrapping |
    ///
    /// | from | to | by | when |
    /// |---|---|---|---|
    /// | `n, any` | `n + 1, parked` | sleeper | begins to park |
    /// | `n, any` | `n + 1, parked, napping` | sleeper | begins to nap |
    /// | `n, any` | `n, -` | sleeper | ready after all, woken, timed out or interrupted |
    /// | `n, parked, …` | `n, parked, …, rung` | ringer | before its wake-up |
    /// | `n, parked, …, rung` | `n, -` | ringer | after its wake-up: the next need not wake again |
    parked: AtomicU32,
}

const PARKED: u32 = 1;
const RUNG: u32 = 2;
const NAPPING: u32 = 4;
const ONE_PARK: u32 = 8;

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
        // Partner: the fence in `sleep`. Either the load below sees that somebody is parked, or
        // the sleeper's look sees what we stored before.
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) & PARKED != 0 {
            self.ring_slow();
        }
    }

    /// As [`Self::ring`], but lets a sleeper nap on.
    #[inline]
    pub fn nudge(&self) {
        // Partner: the fence in `sleep`, as in `ring`.
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) & (PARKED | NAPPING) == PARKED {
            self.ring_slow();
        }
    }

    /// Whether somebody sleeps here, or is about to. A hint: it may change at once.
    #[inline]
    pub fn is_parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed) & PARKED != 0
    }

    /// `rung` keeps a sleeper that is only about to sleep from it, and the wake-up ends the sleep
    /// of one that was earlier. `parked` goes last: should this process be killed before, then
    /// the next ringer still wakes.
    #[cold]
    fn ring_slow(&self) {
        let seen = self.parked.fetch_or(RUNG, Ordering::Relaxed) | RUNG;
        futex::wake(&self.parked, 1);
        // A sleeper that has parked again since then has another number and keeps its mark.
        let silent = seen & !(PARKED | RUNG | NAPPING);
        let _ = self.parked.compare_exchange(seen, silent, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Sleeps until somebody rings, unless `is_ready` says that there is something already. May
    /// return early; the caller looks and parks again.
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`], [`Error::is_interrupted`].
    pub fn park(&self, is_ready: impl FnOnce() -> bool, deadline: Option<Instant>) -> Result<()> {
        self.sleep(PARKED, is_ready, deadline)
    }

    /// As [`Self::park`], but a nudge does not end the sleep.
    ///
    /// # Errors
    ///
    /// As [`Self::park`].
    pub fn nap(&self, is_ready: impl FnOnce() -> bool, deadline: Instant) -> Result<()> {
        self.sleep(PARKED | NAPPING, is_ready, Some(deadline))
    }

    fn sleep(
        &self,
        mark: u32,
        is_ready: impl FnOnce() -> bool,
        deadline: Option<Instant>,
    ) -> Result<()> {
        // Only the sleeper begins a new number. What late ringers of the last park do to the word
        // is lost before this swap; after it they leave the new number alone or ring it.
        let last = self.parked.load(Ordering::Relaxed) & !(PARKED | RUNG | NAPPING);
        let number = last.wrapping_add(ONE_PARK);
        // A store would do; but loom lets a later store slip in between the two halves of a
        // ringer's compare-exchange.
        self.parked.swap(number | mark, Ordering::Relaxed);
        // Partner: the fence in `ring`.
        fence(Ordering::SeqCst);
        let wake = if is_ready() {
            Wake::Woken
        } else {
            futex::wait(&self.parked, number | mark, deadline)
        };
        self.parked.swap(number, Ordering::Relaxed);
        match wake {
            Wake::Woken => Ok(()),
            Wake::TimedOut => Err(Error::timed_out()),
            Wake::Interrupted => Err(Error::interrupted()),
        }
    }
}
