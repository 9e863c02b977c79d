//! A place in shared memory that holds one object: a lock, a value, an array.

use std::os::fd::OwnedFd;

use super::Segment;
use crate::{Error, Result};

/// `len` zeroed bytes of shared memory, aligned to 64 bytes; freed with the last clone.
#[derive(Clone, Debug)]
pub struct Block {
    segment: Segment,
    offset: usize,
    len: usize,
}

impl Block {
    /// Allocates a new block.
    ///
    /// # Errors
    ///
    /// The system is out of memory, descriptors or address space.
    pub fn new(len: usize) -> Result<Self> {
        Ok(Self { segment: Segment::new(len.max(1))?, offset: 0, len })
    }

    /// The block that another process has at `offset` of the segment behind `fd`.
    ///
    /// # Errors
    ///
    /// The descriptor is no shared memory, or the place is not inside it.
    pub fn attach(fd: OwnedFd, offset: usize, len: usize) -> Result<Self> {
        let segment = Segment::from_fd(fd)?;
        if offset.checked_add(len).is_none_or(|end| end > segment.len()) || offset % 64 != 0 {
            return Err(Error::corrupt("the place of a shared block"));
        }
        Ok(Self { segment, offset, len })
    }

    /// The segment that the block lies in.
    #[must_use]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Where in its segment the block begins.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the block has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where this process has the block mapped.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.segment.as_ptr().wrapping_add(self.offset)
    }

    /// The `T` at the block's beginning, shared with every process that maps the block.
    ///
    /// # Safety
    ///
    /// As for [`Segment::at`].
    ///
    /// # Panics
    ///
    /// If the block is shorter than a `T`.
    #[must_use]
    pub unsafe fn get<T>(&self) -> &T {
        assert!(size_of::<T>() <= self.len, "the block is too short");
        // SAFETY: the caller makes the same promise as `at` asks for.
        unsafe { self.segment.at(self.offset) }
    }
}
