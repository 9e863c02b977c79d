//! A counter that can be taken from while it is above zero.

use std::time::Instant;

use super::patience::Patience;
use super::shared::{Layout, Shared};
use crate::memory::Block;
use crate::primitive::{AtomicU32, Ordering, futex};
use crate::{Error, Result};

#[repr(C)]
pub(super) struct RawSemaphore {
    /// | bits | meaning |
    /// |---|---|
    /// | 0 to 30 | the value |
    /// | 31 | somebody may sleep here whom no wake-up is on its way to |
    ///
    /// | from | to | by | when |
    /// |---|---|---|---|
    /// | `v, s` | `v - 1, s` | anybody | acquires without having slept |
    /// | `0` | `0, sleepers` | a waiter | is about to sleep |
    /// | `v, s` | `v - 1, sleepers` | a waiter | acquires after it slept: others may sleep still |
    /// | `v` | `v + n` | anybody | releases |
    /// | `v, sleepers` | `v + n` | anybody | releases, then wakes `n` sleepers |
    ///
    /// A release that finds no mark, because one before has just taken it away, wakes nobody.
    /// Whoever was woken by that one and leaves a value behind therefore wakes the next: the
    /// sleepers wake each other in a chain.
    word: AtomicU32,
    /// The greatest value. Written once.
    max: AtomicU32,
}

const VALUE: u32 = SLEEPERS - 1;
const SLEEPERS: u32 = 1 << 31;

impl RawSemaphore {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self { word: AtomicU32::new(0), max: AtomicU32::new(VALUE) }
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        // Acquire, partner: the Release in `release`.
        self.word
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |seen| {
                (seen & VALUE > 0).then(|| seen - 1)
            })
            .is_ok()
    }

    #[inline]
    pub(super) fn acquire(&self, deadline: Option<Instant>) -> Result<()> {
        if self.try_acquire() { Ok(()) } else { self.acquire_slow(deadline) }
    }

    #[cold]
    fn acquire_slow(&self, deadline: Option<Instant>) -> Result<()> {
        let mut patience = Patience::new();
        while !self.acquire_or_mark() {
            patience.sleep(&self.word, SLEEPERS, deadline)?;
        }
        Ok(())
    }

    /// Acquires if it can, and passes on the wake-up if others can too. Else marks that there is
    /// a sleeper.
    fn acquire_or_mark(&self) -> bool {
        // Acquire, partner: the Release in `release`.
        let before = self
            .word
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |seen| {
                Some(if seen & VALUE > 0 { (seen - 1) | SLEEPERS } else { SLEEPERS })
            })
            .unwrap_or_else(|seen| seen);
        if before & VALUE > 1 {
            futex::wake(&self.word, 1);
        }
        before & VALUE > 0
    }

    #[inline]
    pub(super) fn release(&self, n: u32) -> Result<()> {
        let max = self.max.load(Ordering::Relaxed);
        let fits = |value: u32| value.checked_add(n).filter(|&sum| sum <= max);
        // Release, partner: the Acquire of whoever acquires next.
        match self
            .word
            .fetch_update(Ordering::Release, Ordering::Relaxed, |seen| fits(seen & VALUE))
        {
            Ok(seen) if seen & SLEEPERS != 0 => self.wake(n),
            Ok(_) => {}
            Err(_) => return Err(Error::misuse("the semaphore was released too many times")),
        }
        Ok(())
    }

    #[cold]
    fn wake(&self, n: u32) {
        futex::wake(&self.word, n);
    }
}

// SAFETY: repr(C), nothing but atomics; zeroed it is a semaphore that nobody can release.
unsafe impl Layout for RawSemaphore {}

/// A counting semaphore between processes.
#[derive(Clone, Debug)]
pub struct Semaphore {
    raw: Shared<RawSemaphore>,
}

impl Semaphore {
    /// The greatest value of a semaphore without a limit of its own.
    pub const MAX: u32 = VALUE;

    /// A semaphore in a block of its own, which starts at `value` and never exceeds `max`.
    ///
    /// # Errors
    ///
    /// [`Error::is_misuse`] if `value` is above `max` or `max` above [`MAX`](Self::MAX); the
    /// system is out of memory, descriptors or address space.
    pub fn new(value: u32, max: Option<u32>) -> Result<Self> {
        let max = max.unwrap_or(Self::MAX);
        if value > max || max > Self::MAX {
            return Err(Error::misuse("the semaphore's initial value is too large"));
        }
        let raw = Shared::<RawSemaphore>::new()?;
        raw.word.store(value, Ordering::Relaxed);
        raw.max.store(max, Ordering::Relaxed);
        Ok(Self { raw })
    }

    /// The semaphore that another process has in `block`.
    ///
    /// # Errors
    ///
    /// The block is too short.
    pub fn from_block(block: Block) -> Result<Self> {
        Ok(Self { raw: Shared::from_block(block)? })
    }

    /// Where the semaphore lies, to hand it to another process.
    #[must_use]
    pub fn block(&self) -> &Block {
        self.raw.block()
    }

    /// Waits until the value is above zero and takes one.
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`], [`Error::is_interrupted`].
    #[inline]
    pub fn acquire(&self, deadline: Option<Instant>) -> Result<()> {
        self.raw.acquire(deadline)
    }

    /// Takes one if the value is above zero. Whether it did.
    ///
    /// # Errors
    ///
    /// None at present.
    #[inline]
    pub fn try_acquire(&self) -> Result<bool> {
        Ok(self.raw.try_acquire())
    }

    /// Adds `n` and wakes as many.
    ///
    /// # Errors
    ///
    /// [`Error::is_misuse`], and nothing is added, if the value would exceed its limit.
    #[inline]
    pub fn release(&self, n: u32) -> Result<()> {
        self.raw.release(n)
    }

    /// The value, as it just was.
    #[must_use]
    pub fn value(&self) -> u32 {
        self.raw.word.load(Ordering::Relaxed) & VALUE
    }
}
