//! A piece of anonymous shared memory, mapped into this process.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use super::Descriptor;
use crate::sys::{fork, memory as sys};
use crate::{Error, Result};

/// A sealed memfd, mapped readable and writable; cheap to clone, unmapped with the last clone.
///
/// Other processes get it by its descriptor: inherited, or sent over a socket. Its size never
/// changes, so no access inside it can fault.
#[derive(Clone)]
pub struct Segment {
    mapping: Arc<Mapping>,
}

struct Mapping {
    address: NonNull<u8>,
    len: usize,
    /// Kept only by those who will hand the segment on.
    fd: Option<Descriptor>,
    /// Of the process that has the mapping to itself, if one has: its forked copies do not have it.
    owner: Option<u64>,
}

// SAFETY: the mapping is plain memory, valid from every thread until it is dropped; whoever
// touches its bytes does so through atomics or under a protocol of its own.
unsafe impl Send for Mapping {}
// SAFETY: as for Send; `Mapping` itself has no interior state.
unsafe impl Sync for Mapping {}

impl Segment {
    /// Makes a new segment of `len` zero bytes.
    ///
    /// # Errors
    ///
    /// The system is out of memory, descriptors or address space.
    pub fn new(len: usize) -> Result<Self> {
        Self::map(Descriptor::new(sys::create(len)?), len)
    }

    /// Maps the segment behind a descriptor that came from another process.
    ///
    /// # Errors
    ///
    /// The descriptor is no shared memory, or there is no address space left.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        Self::from_descriptor(Descriptor::new(fd))
    }

    /// As [`Self::from_fd`], for a descriptor that others go on with.
    ///
    /// # Errors
    ///
    /// As for [`Self::from_fd`].
    pub fn from_descriptor(descriptor: Descriptor) -> Result<Self> {
        let len = sys::len(descriptor.as_fd())?;
        Self::map(descriptor, len)
    }

    fn map(fd: Descriptor, len: usize) -> Result<Self> {
        if len == 0 {
            return Err(Error::misuse("a segment cannot be empty"));
        }
        let address = sys::map(&fd, len)?;
        Ok(Self { mapping: Arc::new(Mapping { address, len, fd: Some(fd), owner: None }) })
    }

    /// Gives the descriptor away; the mapping stays. `None` if it was given before or if the
    /// segment has clones; or its descriptor, which then is no longer the segment's either.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        Arc::get_mut(&mut self.mapping)?.fd.take()?.into_fd()
    }

    /// Leaves the mapping out of copies that are forked of this process: they have no use for it,
    /// and a fork takes longer the more there is to copy. Does nothing if there are clones.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub(crate) fn keep_from_forks(&mut self) -> Result<()> {
        let Some(mapping) = Arc::get_mut(&mut self.mapping) else { return Ok(()) };
        // SAFETY: it is this mapping, and its drop does nothing in a process that does not have it.
        unsafe { sys::keep_from_forks(mapping.address, mapping.len) }?;
        mapping.owner = Some(fork::generation());
        Ok(())
    }

    /// The descriptor, to hand the segment to another process.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.mapping.fd.as_ref().map(AsFd::as_fd)
    }

    /// As [`Self::fd`], to go with messages.
    #[must_use]
    pub fn descriptor(&self) -> Option<&Descriptor> {
        self.mapping.fd.as_ref()
    }

    /// Size in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> usize {
        self.mapping.len
    }

    /// Where this process has the segment mapped.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.mapping.address.as_ptr()
    }

    /// Gives pages to the first `len` bytes, so that writing them cannot fail later. The first
    /// `before` have theirs already.
    ///
    /// # Errors
    ///
    /// The system is out of memory.
    ///
    /// # Panics
    ///
    /// If the segment is shorter than that.
    pub fn populate(&self, before: usize, len: usize) -> Result<()> {
        assert!(len <= self.len());
        // SAFETY: the range is inside this mapping, as just checked.
        unsafe { sys::populate(self.mapping.address, before, len) }
    }

    /// The `T` at `offset`, shared with every process that maps the segment.
    ///
    /// # Safety
    ///
    /// `T` is valid for every bit pattern, has no padding that matters and only atomic fields;
    /// everybody who uses this place uses it as a `T`.
    ///
    /// # Panics
    ///
    /// If the place is outside the segment or not aligned for `T`.
    #[must_use]
    pub unsafe fn at<T>(&self, offset: usize) -> &T {
        assert!(
            offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.len()),
            "{offset} is outside the segment"
        );
        let place = self.as_ptr().wrapping_add(offset).cast::<T>();
        assert!(place.is_aligned(), "{offset} is not aligned");
        // SAFETY: the place is inside the mapping and aligned, the mapping lives as long as
        // `self`, and the caller vouches for the type.
        unsafe { &*place }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.owner.is_some_and(|owner| owner != fork::generation()) {
            // This copy of the process never had it, and may have something else in its place.
            return;
        }
        // SAFETY: this is the last user of the mapping that `map` made.
        unsafe { sys::unmap(self.address, self.len) };
    }
}
