//! An object in a block of shared memory, with its address at hand.

use std::fmt;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use crate::memory::Block;
use crate::{Error, Result};

/// A type that several processes may use at one place.
///
/// # Safety
///
/// It is `repr(C)`, every bit pattern is a value of it, all zeroes are its first state, all its
/// fields are atomics, and its alignment is at most 64.
pub(super) unsafe trait Layout {}

/// A `T` in a block; keeps the block mapped and saves the way through it on every access.
pub(super) struct Shared<T> {
    block: Block,
    place: NonNull<T>,
}

// SAFETY: `Shared` is a counted reference to a `T` of atomics, which any thread may use.
unsafe impl<T: Layout> Send for Shared<T> {}
// SAFETY: as for Send.
unsafe impl<T: Layout> Sync for Shared<T> {}

impl<T: Layout> Shared<T> {
    pub(super) fn new() -> Result<Self> {
        Self::from_block(Block::new(size_of::<T>())?)
    }

    pub(super) fn from_block(block: Block) -> Result<Self> {
        if block.len() < size_of::<T>() {
            return Err(Error::corrupt("the size of a shared block"));
        }
        // SAFETY: `Layout` promises what `get` asks of the type; that everybody uses the block as
        // the same type is what the processes agree on by handing it to each other as such.
        let place = NonNull::from(unsafe { block.get::<T>() });
        Ok(Self { block, place })
    }

    pub(super) fn block(&self) -> &Block {
        &self.block
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the place is inside the block, which stays mapped while `self` has it, and a
        // `T` of atomics may be referred to while others change it.
        unsafe { self.place.as_ref() }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { block: self.block.clone(), place: self.place }
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&ptr::from_ref(&**self), f)
    }
}
