//! A flag that can be waited for.

use std::time::Instant;

use super::patience::Patience;
use super::shared::{Layout, Shared};
use crate::Result;
use crate::memory::Block;
use crate::primitive::{AtomicU32, Ordering, futex};

#[repr(C)]
pub(super) struct RawEvent {
    /// | bits | meaning |
    /// |---|---|
    /// | 0 | set |
    /// | 1 | somebody may sleep here; never together with bit 0 |
    /// | 2 to 31 | how many times the flag went from clear to set, wrapping |
    ///
    /// | from | to | by | when |
    /// |---|---|---|---|
    /// | `n` | `n, sleepers` | a waiter | is about to sleep |
    /// | `n` | `n + 1, set` | anybody | sets |
    /// | `n, sleepers` | `n + 1, set` | anybody | sets, then wakes all |
    /// | `n, set` | `n` | anybody | clears |
    ///
    /// A waiter leaves when the flag is set or when the number has moved on, so a clear right
    /// after the set keeps nobody asleep.
    word: AtomicU32,
}

const SET: u32 = 1;
const SLEEPERS: u32 = 2;
const ONE_SET: u32 = 4;

impl RawEvent {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    pub(super) fn rounds(&self) -> u32 {
        self.word.load(Ordering::Relaxed) / ONE_SET
    }

    pub(super) fn is_set(&self) -> bool {
        // Acquire, partner: the Release in `set`.
        self.word.load(Ordering::Acquire) & SET != 0
    }

    pub(super) fn set(&self) {
        // Release, partner: the Acquire of whoever finds it set.
        let before = self.word.fetch_update(Ordering::Release, Ordering::Relaxed, |seen| {
            let next = (seen & !(SET | SLEEPERS)).wrapping_add(ONE_SET) | SET;
            (seen & SET == 0).then_some(next)
        });
        if before.is_ok_and(|seen| seen & SLEEPERS != 0) {
            futex::wake(&self.word, u32::MAX);
        }
    }

    pub(super) fn clear(&self) {
        self.word.fetch_and(!SET, Ordering::Relaxed);
    }

    pub(super) fn wait(&self, deadline: Option<Instant>) -> Result<()> {
        if self.is_set() { Ok(()) } else { self.wait_after(self.rounds(), deadline) }
    }

    pub(super) fn wait_after(&self, rounds: u32, deadline: Option<Instant>) -> Result<()> {
        let mut patience = Patience::new();
        loop {
            // Acquire, partner: the Release in `set`; a clear in between continues its sequence.
            let seen = self.word.load(Ordering::Acquire);
            if seen & SET != 0 || seen / ONE_SET != rounds {
                return Ok(());
            }
            if self.mark(seen) {
                patience.sleep(&self.word, seen | SLEEPERS, deadline)?;
            }
        }
    }

    /// Marks that there is a sleeper, unless the word is no longer `seen`.
    fn mark(&self, seen: u32) -> bool {
        seen & SLEEPERS != 0
            || self
                .word
                .compare_exchange(seen, seen | SLEEPERS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

// SAFETY: repr(C), one atomic word, clear when zero.
unsafe impl Layout for RawEvent {}

/// A flag between processes that is set, cleared and waited for.
#[derive(Clone, Debug)]
pub struct Event {
    raw: Shared<RawEvent>,
}

impl Event {
    /// A clear event in a block of its own.
    ///
    /// # Errors
    ///
    /// The system is out of memory, descriptors or address space.
    pub fn new() -> Result<Self> {
        Ok(Self { raw: Shared::new()? })
    }

    /// The event that another process has in `block`; a clear one if the block is zeroed.
    ///
    /// # Errors
    ///
    /// The block is too short.
    pub fn from_block(block: Block) -> Result<Self> {
        Ok(Self { raw: Shared::from_block(block)? })
    }

    /// Where the event lies, to hand it to another process.
    #[must_use]
    pub fn block(&self) -> &Block {
        self.raw.block()
    }

    /// Sets the flag; all who wait go on, even if it is cleared at once.
    pub fn set(&self) {
        self.raw.set();
    }

    /// Clears the flag.
    pub fn clear(&self) {
        self.raw.clear();
    }

    /// Whether the flag is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.raw.is_set()
    }

    /// Waits until the flag is set, or was set since the call.
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`](crate::Error::is_timeout),
    /// [`Error::is_interrupted`](crate::Error::is_interrupted).
    pub fn wait(&self, deadline: Option<Instant>) -> Result<()> {
        self.raw.wait(deadline)
    }

    /// How many times the flag went from clear to set so far, modulo 2^30.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        self.raw.rounds()
    }

    /// Waits until the flag is set, or was set since [`rounds`](Self::rounds) gave this number:
    /// whoever calls again after an interruption misses no set that was cleared in between.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_after(&self, rounds: u32, deadline: Option<Instant>) -> Result<()> {
        self.raw.wait_after(rounds, deadline)
    }
}
