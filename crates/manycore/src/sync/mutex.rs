//! A lock between processes that knows when its holder has died.

use std::time::Instant;

use super::owner;
use super::patience::{Patience, Slept};
use super::shared::{Layout, Shared};
use crate::memory::Block;
use crate::primitive::{AtomicU32, Ordering, futex, spin_loop};
use crate::{Error, Result};

/// The mutex itself, to be placed in shared memory; zeroed it is free.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct RawMutex {
    /// | bits | meaning |
    /// |---|---|
    /// | 0 to 21 | the holder's process id; 0: free |
    /// | 22 to 30 | hash of the time at which the holder began; 0: not known |
    /// | 31 | somebody may sleep here |
    ///
    /// | from | to | by | when |
    /// |---|---|---|---|
    /// | free | `p` | `p` | locks without having slept |
    /// | free | `p`, sleepers | `p` | locks after it slept: others may sleep still |
    /// | `p` | `p`, sleepers | a waiter | is about to sleep |
    /// | `p` | free | anybody | unlocks |
    /// | `p`, sleepers | free | anybody | unlocks, then wakes one sleeper |
    /// | `p`, perhaps sleepers | `q`, sleepers | `q` | takes over from the dead `p` |
    ///
    /// Acquisition and ownership are one store: no instant at which the lock is held and its
    /// holder is not known.
    word: AtomicU32,
}

const FREE: u32 = 0;
const SLEEPERS: u32 = 1 << 31;
/// Looks at a held lock before going to sleep: about as long as a short critical section and a
/// fraction of what it costs to sleep and be woken.
const SPINS: u32 = if cfg!(loom) { 1 } else { 100 };

/// What to do about a holder that has died.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnDeath {
    Report,
    TakeOver,
}

impl RawMutex {
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self { word: AtomicU32::new(FREE) }
    }

    #[inline]
    pub(crate) fn lock(&self, deadline: Option<Instant>) -> Result<()> {
        if self.try_lock() { Ok(()) } else { self.lock_slow(deadline, OnDeath::Report).map(drop) }
    }

    /// As `lock`, but a dead holder's lock is taken over: `true`.
    #[inline]
    pub(crate) fn lock_or_recover(&self, deadline: Option<Instant>) -> Result<bool> {
        if self.try_lock() { Ok(false) } else { self.lock_slow(deadline, OnDeath::TakeOver) }
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        self.try_lock_as(owner::process())
    }

    /// As `try_lock`, for those who know the tag of this process already.
    #[inline]
    pub(super) fn try_lock_as(&self, process: u32) -> bool {
        // Acquire, partner: the Release in `unlock`.
        self.word.compare_exchange(FREE, process, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    pub(crate) fn unlock(&self) -> Result<()> {
        // Release, partner: the Acquire of whoever locks next.
        let seen = self.word.swap(FREE, Ordering::Release);
        if seen & SLEEPERS != 0 {
            self.wake_one();
        }
        if seen == FREE { Err(Error::misuse("the lock is not held")) } else { Ok(()) }
    }

    #[cold]
    fn wake_one(&self) {
        futex::wake(&self.word, 1);
    }

    /// The process that holds the lock, as its tag; 0: free.
    #[inline]
    pub(crate) fn holder(&self) -> u32 {
        self.word.load(Ordering::Relaxed) & owner::TAG
    }

    #[cold]
    fn lock_slow(&self, deadline: Option<Instant>, on_death: OnDeath) -> Result<bool> {
        if self.try_lock_for_a_moment() {
            return Ok(false);
        }
        let mut patience = Patience::new();
        while let Some(seen) = self.lock_or_mark() {
            let slept = patience.sleep(&self.word, seen, deadline);
            // Also at a deadline and at a signal: with short ones patience would never run out.
            let looks = !matches!(slept, Ok(Slept::Woken)) && patience.is_worth_a_look();
            if looks && self.look(seen, on_death)? {
                return Ok(true);
            }
            slept?;
        }
        Ok(false)
    }

    /// Waits a moment for a holder that has no sleepers to wake. Whether the lock is ours.
    #[cold]
    pub(crate) fn try_lock_for_a_moment(&self) -> bool {
        for _ in 0..SPINS {
            match self.word.load(Ordering::Relaxed) {
                FREE if self.try_lock() => return true,
                seen if seen & SLEEPERS != 0 => return false,
                _ => spin_loop(),
            }
        }
        false
    }

    /// Takes the lock if it is free; else marks that there is a sleeper and gives the word to
    /// sleep on.
    fn lock_or_mark(&self) -> Option<u32> {
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            let (new, order) = match seen {
                // One wake-up brought us here; the others that sleep need the next one.
                // Acquire, partner: the Release in `unlock`.
                FREE => (owner::process() | SLEEPERS, Ordering::Acquire),
                held if held & SLEEPERS != 0 => return Some(held),
                held => (held | SLEEPERS, Ordering::Relaxed),
            };
            if self.word.compare_exchange(seen, new, order, Ordering::Relaxed).is_ok() {
                return if seen == FREE { None } else { Some(new) };
            }
        }
    }

    /// Looks whether the holder in `seen` is dead and acts on it. Whether the lock is ours.
    fn look(&self, seen: u32, on_death: OnDeath) -> Result<bool> {
        // It may have unlocked and ended in between; then the word has changed.
        if !owner::is_dead(seen) || self.word.load(Ordering::Relaxed) != seen {
            return Ok(false);
        }
        if on_death == OnDeath::Report {
            return Err(Error::owner_died(owner::pid(seen)));
        }
        // Acquire, partner: none is left. The holder's stores are visible since its process has
        // ended, which the kernel told us.
        Ok(self
            .word
            .compare_exchange(
                seen,
                owner::process() | SLEEPERS,
                Ordering::Acquire,
                Ordering::Relaxed,
            )
            .is_ok())
    }
}

// SAFETY: repr(C), one atomic word, free when zero.
unsafe impl Layout for RawMutex {}

/// A lock between the threads of several processes; anybody may unlock it.
///
/// The holder is a process, as far as deaths go: a thread that ends without unlocking leaves the
/// lock held as long as its process lives.
#[derive(Clone, Debug)]
pub struct Mutex {
    raw: Shared<RawMutex>,
}

impl Mutex {
    /// A free lock in a block of its own.
    ///
    /// # Errors
    ///
    /// The system is out of memory, descriptors or address space.
    pub fn new() -> Result<Self> {
        Ok(Self { raw: Shared::new()? })
    }

    /// The lock that another process has in `block`; a free one if the block is zeroed.
    ///
    /// # Errors
    ///
    /// The block is too short.
    pub fn from_block(block: Block) -> Result<Self> {
        Ok(Self { raw: Shared::from_block(block)? })
    }

    /// Where the lock lies, to hand it to another process.
    #[must_use]
    pub fn block(&self) -> &Block {
        self.raw.block()
    }

    /// Waits until the lock is free and takes it.
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`], [`Error::is_interrupted`]; [`Error::dead_owner`] if the process
    /// that holds the lock is dead, in which case it stays held until somebody unlocks it.
    #[inline]
    pub fn lock(&self, deadline: Option<Instant>) -> Result<()> {
        self.raw.lock(deadline)
    }

    /// As [`lock`](Self::lock), but takes the lock over from a dead holder: `true`. For data that
    /// is whole at every instruction of those who change it.
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`], [`Error::is_interrupted`].
    #[inline]
    pub fn lock_or_recover(&self, deadline: Option<Instant>) -> Result<bool> {
        self.raw.lock_or_recover(deadline)
    }

    /// Takes the lock if it is free. Whether it did.
    ///
    /// # Errors
    ///
    /// None at present.
    #[inline]
    pub fn try_lock(&self) -> Result<bool> {
        Ok(self.raw.try_lock())
    }

    /// Frees the lock, whoever holds it.
    ///
    /// # Errors
    ///
    /// [`Error::is_misuse`] if it is free.
    #[inline]
    pub fn unlock(&self) -> Result<()> {
        self.raw.unlock()
    }

    /// Whether somebody holds the lock.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.raw.holder() != FREE
    }

    /// The id of the process that holds the lock.
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        match self.raw.holder() {
            FREE => None,
            tag => Some(owner::pid(tag)),
        }
    }
}
