//! How sleepers are woken such that no death can make them sleep for ever.

use std::time::Instant;

use crate::primitive::futex::{self, Wake};
use crate::primitive::{AtomicU32, Ordering};
use crate::{Error, Result};

/// A word to sleep on. It belongs to a lock: who holds that changes the word.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Bell {
    /// | bits | meaning |
    /// |---|---|
    /// | 0 | somebody may sleep here |
    /// | 1 to 31 | grows with every ring, so that who is about to sleep does not |
    ///
    /// | from | to | by |
    /// |---|---|---|
    /// | `n`, any bit | `n`, bit | a process that is going to sleep |
    /// | `n`, bit | `n + 1`, bit | a ring, before it wakes the sleepers |
    /// | `n + 1`, bit | `n + 1`, no bit | the same ring, after it has woken all of them |
    ///
    /// A ring that is killed in between leaves the bit, so the next one wakes them.
    word: AtomicU32,
}

const SLEEPERS: u32 = 1;
const RING: u32 = 2;
/// The kernel counts in `i32`.
const EVERYBODY: u32 = i32::MAX as u32;

/// What a sleeper saw when it made itself known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(u32);

impl Bell {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// Makes a sleeper known. The caller holds the lock, and sleeps after it has released it.
    pub(super) fn announce(&self) -> Ticket {
        // Relaxed, here and below: the lock orders those who change the word, and the kernel
        // looks at it under a lock of its own.
        let word = self.word.load(Ordering::Relaxed) | SLEEPERS;
        self.word.store(word, Ordering::Relaxed);
        Ticket(word)
    }

    /// Sleeps unless the bell has rung since `ticket` was given. May wake up without reason.
    pub(super) fn sleep(&self, ticket: Ticket, deadline: Option<Instant>) -> Result<()> {
        match futex::wait(&self.word, ticket.0, deadline) {
            Wake::Woken => Ok(()),
            Wake::TimedOut => Err(Error::timed_out()),
            Wake::Interrupted => Err(Error::interrupted()),
        }
    }

    /// Wakes all sleepers. The caller holds the lock, and keeps it until it has made the change
    /// that they wait for.
    #[inline]
    pub(super) fn ring(&self) {
        let word = self.word.load(Ordering::Relaxed);
        if word & SLEEPERS != 0 {
            self.ring_slow(word);
        }
    }

    #[cold]
    fn ring_slow(&self, word: u32) {
        let rung = word.wrapping_add(RING);
        self.word.store(rung, Ordering::Relaxed);
        futex::wake(&self.word, EVERYBODY);
        self.word.store(rung & !SLEEPERS, Ordering::Relaxed);
    }
}
