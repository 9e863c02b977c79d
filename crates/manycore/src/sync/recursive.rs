//! A lock that its holder, one thread, may take again.

use std::time::Instant;

use super::mutex::RawMutex;
use super::owner;
use super::shared::{Layout, Shared};
use crate::memory::Block;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::{Error, Result};

#[repr(C)]
struct RawRecursive {
    mutex: RawMutex,
    /// How many times the holder has it. Written by the holder only.
    count: AtomicU32,
    /// The name of the holding thread (see `owner::thread`), 0 if none. Written with the mutex
    /// held, so a thread that reads its own name here has written it and holds the mutex; what
    /// others read may be old, but never their name.
    owner: AtomicU64,
}

// SAFETY: repr(C), nothing but atomics, free when zero.
unsafe impl Layout for RawRecursive {}

/// A lock between the threads of several processes that its holder may take more than once.
///
/// The holder is one thread of one process: a fork of it does not hold the lock.
#[derive(Clone, Debug)]
pub struct RecursiveMutex {
    raw: Shared<RawRecursive>,
}

impl RecursiveMutex {
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

    /// Waits until the lock is free or ours and takes it once more.
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`], [`Error::is_interrupted`]; [`Error::dead_owner`] if the process
    /// that holds the lock is dead; [`Error::is_misuse`] if we have it 2^32 - 1 times.
    #[inline]
    pub fn lock(&self, deadline: Option<Instant>) -> Result<()> {
        let me = owner::thread();
        if self.raw.owner.load(Ordering::Relaxed) == me {
            return self.again();
        }
        self.raw.mutex.lock(deadline)?;
        self.begin(me);
        Ok(())
    }

    /// Takes the lock if it is free or ours. Whether it did.
    ///
    /// # Errors
    ///
    /// [`Error::is_misuse`] if we have it 2^32 - 1 times.
    #[inline]
    pub fn try_lock(&self) -> Result<bool> {
        let me = owner::thread();
        if self.raw.owner.load(Ordering::Relaxed) == me {
            return self.again().map(|()| true);
        }
        let locked = self.raw.mutex.try_lock_as(owner::process_of(me));
        if locked {
            self.begin(me);
        }
        Ok(locked)
    }

    /// Runs `f`, which neither waits nor panics, with the lock held; `None` if it is held by another.
    ///
    /// Cheaper than [`try_lock`](Self::try_lock) and [`unlock`](Self::unlock), for as long as `f`
    /// runs nobody asks whose thread has the lock.
    #[inline]
    pub fn try_with<T>(&self, f: impl FnOnce() -> T) -> Option<T> {
        let me = owner::thread();
        if self.raw.owner.load(Ordering::Relaxed) == me {
            return Some(f());
        }
        if !self.raw.mutex.try_lock_as(owner::process_of(me)) {
            return None;
        }
        let result = f();
        // That it was not held any more would be another's mistake, and his to be told.
        let _ = self.raw.mutex.unlock();
        Some(result)
    }

    #[inline]
    fn begin(&self, me: u64) {
        self.raw.count.store(1, Ordering::Relaxed);
        self.raw.owner.store(me, Ordering::Relaxed);
    }

    #[inline]
    fn again(&self) -> Result<()> {
        match self.raw.count.load(Ordering::Relaxed).checked_add(1) {
            Some(count) => self.raw.count.store(count, Ordering::Relaxed),
            None => return Err(Error::misuse("the lock is held too many times")),
        }
        Ok(())
    }

    /// Undoes one `lock`; the last frees the lock.
    ///
    /// # Errors
    ///
    /// [`Error::is_misuse`] if the calling thread does not hold it.
    #[inline]
    pub fn unlock(&self) -> Result<()> {
        if !self.is_owned() {
            return Err(Error::misuse("the lock is not held by this thread"));
        }
        let count = self.raw.count.load(Ordering::Relaxed) - 1;
        self.raw.count.store(count, Ordering::Relaxed);
        if count > 0 {
            return Ok(());
        }
        self.raw.owner.store(0, Ordering::Relaxed);
        self.raw.mutex.unlock()
    }

    /// Whether the calling thread holds the lock.
    #[must_use]
    #[inline]
    pub fn is_owned(&self) -> bool {
        self.raw.owner.load(Ordering::Relaxed) == owner::thread()
    }

    /// How many times the lock's holder has it; 0: free. Exact only for the holder.
    #[must_use]
    pub fn count(&self) -> u32 {
        match self.raw.owner.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.raw.count.load(Ordering::Relaxed),
        }
    }

    /// The id of the process that holds the lock.
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        match self.raw.mutex.holder() {
            0 => None,
            tag => Some(owner::pid(tag)),
        }
    }
}
