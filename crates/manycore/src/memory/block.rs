//! A place in shared memory that holds one object: a lock, a value, an array.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use super::heap::{self, Lease};
use super::{Descriptor, Segment};
use crate::{Error, Result};

/// What every block is aligned to: a cache line, so that two objects never share one.
pub(super) const ALIGN: usize = 64;

/// `len` zeroed bytes of shared memory, aligned to 64 bytes; freed with the last clone.
///
/// Its memory is there from the beginning: touching it never fails.
#[derive(Clone)]
pub struct Block {
    /// Where the block begins in this process. Copied out of the lease, for it is on the path of
    /// every operation on the object in the block.
    address: NonNull<u8>,
    offset: usize,
    len: usize,
    /// What keeps the memory mapped.
    lease: Arc<Lease>,
}

// SAFETY: `address` points into the mapping that `lease` keeps; the memory is plain and shared
// with other processes anyway, and whoever touches its bytes does so through atomics or under a
// protocol of its own.
unsafe impl Send for Block {}
// SAFETY: as for Send; a `Block` has no interior state.
unsafe impl Sync for Block {}

impl Block {
    /// Allocates a new block.
    ///
    /// # Errors
    ///
    /// The system is out of memory, descriptors or address space.
    pub fn new(len: usize) -> Result<Self> {
        let lease = heap::allocate(len)?;
        let offset = lease.offset();
        Self::at(lease.into(), offset, len)
    }

    /// The block that another process has at `offset` of the segment behind `fd`.
    ///
    /// Blocks of one segment share one mapping, however often it arrives.
    ///
    /// # Errors
    ///
    /// The descriptor is no shared memory, or the place is not inside it.
    pub fn attach(fd: OwnedFd, offset: usize, len: usize) -> Result<Self> {
        let (lease, _) = heap::attach(Descriptor::new(fd))?;
        Self::at(lease.into(), offset, len)
    }

    /// All of the segment behind a descriptor as one block, and whether this process had no
    /// mapping of it before.
    pub(crate) fn attach_whole(descriptor: Descriptor) -> Result<(Self, bool)> {
        let (lease, new) = heap::attach(descriptor)?;
        let len = lease.segment().len();
        Self::at(lease.into(), 0, len).map(|block| (block, new))
    }

    /// The block at `offset` of `segment`.
    ///
    /// # Errors
    ///
    /// The place is not inside the segment, or not aligned to 64 bytes.
    pub fn in_segment(segment: Segment, offset: usize, len: usize) -> Result<Self> {
        Self::at(Lease::of(segment).into(), offset, len)
    }

    /// The part of the block that begins `offset` bytes into it, as a block that keeps the whole.
    ///
    /// # Errors
    ///
    /// The part is not inside the block, or not aligned to 64 bytes.
    pub fn part(&self, offset: usize, len: usize) -> Result<Self> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::misuse("the part is not inside the block"));
        }
        Self::at(Arc::clone(&self.lease), self.offset + offset, len)
    }

    /// The block at `offset` of the lease's segment.
    fn at(lease: Arc<Lease>, offset: usize, len: usize) -> Result<Self> {
        let segment = lease.segment();
        if offset.checked_add(len).is_none_or(|end| end > segment.len())
            || !offset.is_multiple_of(ALIGN)
        {
            return Err(Error::corrupt("the place of a shared block"));
        }
        let address = NonNull::new(segment.as_ptr().wrapping_add(offset))
            .ok_or_else(|| Error::corrupt("the address of a shared block"))?;
        Ok(Self { address, offset, len, lease })
    }

    /// What another process needs to attach the block: descriptor, offset and length.
    ///
    /// A block that was shared is not used again for something else while its arena lives.
    ///
    /// # Errors
    ///
    /// The descriptor was given away.
    pub fn share(&self) -> Result<(BorrowedFd<'_>, usize, usize)> {
        self.lease.share();
        let fd = self.segment().fd();
        let fd = fd.ok_or_else(|| Error::misuse("the block's descriptor was given away"))?;
        Ok((fd, self.offset, self.len))
    }

    /// As [`Block::share`], for a message: what travels with it, and the block's place there.
    ///
    /// # Errors
    ///
    /// As for [`Block::share`].
    pub fn share_descriptor(&self) -> Result<(Descriptor, usize, usize)> {
        self.lease.share();
        let descriptor = self.segment().descriptor().cloned();
        let descriptor =
            descriptor.ok_or_else(|| Error::misuse("the block's descriptor was given away"))?;
        Ok((descriptor, self.offset, self.len))
    }

    /// The segment that the block lies in. To hand the block on, use [`Block::share`].
    #[must_use]
    pub fn segment(&self) -> &Segment {
        self.lease.segment()
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
    #[inline]
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// The `T` at the block's beginning, shared with every process that maps the block.
    ///
    /// # Safety
    ///
    /// As for [`Segment::at`].
    ///
    /// # Panics
    ///
    /// If the block is shorter than a `T`, or `T` needs more alignment than a block has.
    #[inline]
    #[must_use]
    pub unsafe fn get<T>(&self) -> &T {
        assert!(size_of::<T>() <= self.len, "the block is too short");
        const { assert!(align_of::<T>() <= ALIGN) };
        // SAFETY: the place is inside the mapping, which `self.lease` keeps, and aligned; the
        // caller vouches for the type.
        unsafe { self.address.cast().as_ref() }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("offset", &self.offset)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
