//! Shared memory that nobody can change any more, and private copies of it that cost nothing.

use std::fmt;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use super::Descriptor;
use crate::sys::{file, memory as sys};
use crate::{Error, Result};

/// Bytes in anonymous shared memory that were written once and never change; cheap to clone, freed
/// with the last user in any process.
///
/// The kernel sees to that, so whoever has the descriptor may rely on it.
#[derive(Clone)]
pub struct Sealed {
    descriptor: Descriptor,
    len: usize,
}

impl Sealed {
    /// Copies `pieces`, each to its offset, into new memory of `len` bytes. What lies between them
    /// is zero.
    ///
    /// # Errors
    ///
    /// The system is out of memory or descriptors, or there are no bytes at all.
    pub fn write(len: usize, pieces: &[(usize, &[u8])]) -> Result<Self> {
        let fd = write(len, pieces)?;
        Ok(Self { descriptor: Descriptor::new(fd), len })
    }

    /// As [`Self::write`], but forked children do not inherit it.
    pub(crate) fn write_private(len: usize, pieces: &[(usize, &[u8])]) -> Result<Self> {
        let fd = write(len, pieces)?;
        Ok(Self { descriptor: Descriptor::private(fd), len })
    }

    /// What is behind a descriptor that came from another process.
    ///
    /// # Errors
    ///
    /// It is no sealed memory.
    pub fn attach(descriptor: Descriptor) -> Result<Self> {
        if !sys::is_sealed(&descriptor) {
            return Err(Error::corrupt("the kind of sealed memory"));
        }
        let len = sys::len(descriptor.as_fd())?;
        Ok(Self { descriptor, len })
    }

    /// A copy for this process. It costs memory only where it is written to.
    ///
    /// # Errors
    ///
    /// There is no address space left.
    pub fn copy(&self) -> Result<PrivateCopy> {
        let address = sys::map_private(&self.descriptor, self.len)?;
        Ok(PrivateCopy { address, len: self.len })
    }

    /// What another process needs to attach it.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Size in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "sealed memory is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// What tells this memory from all other that exists now, in every process.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn identity(&self) -> Result<(u64, u64)> {
        file::identity(self.descriptor.as_fd())
    }
}

fn write(len: usize, pieces: &[(usize, &[u8])]) -> Result<OwnedFd> {
    if len == 0 {
        return Err(Error::misuse("sealed memory cannot be empty"));
    }
    sys::check_room("sealed memory", len)?;
    let fd = sys::create_growing()?;
    sys::set_len(&fd, len)?;
    for (offset, bytes) in pieces {
        assert!(offset + bytes.len() <= len);
        file::write_at(fd.as_fd(), &mut [IoSlice::new(bytes)], *offset as u64)?;
    }
    sys::seal(&fd)?;
    Ok(fd)
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("len", &self.len).finish_non_exhaustive()
    }
}

/// A private, writable copy of [`Sealed`] memory: pages that were not written to are the shared
/// ones.
pub struct PrivateCopy {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory, valid from every thread until it is dropped; those who write
// to it see to it that they are alone, as `as_ptr` says.
unsafe impl Send for PrivateCopy {}
// SAFETY: as for Send; `PrivateCopy` has no interior state.
unsafe impl Sync for PrivateCopy {}

impl PrivateCopy {
    /// Where the copy is: readable and writable as long as this value lives. Whoever writes takes
    /// care that nobody else looks.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// Size in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "sealed memory is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl fmt::Debug for PrivateCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateCopy").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        // SAFETY: this is the one owner of the mapping that `Sealed::copy` made.
        unsafe { sys::unmap(self.address, self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Segment;

    fn bytes(copy: &PrivateCopy) -> &[u8] {
        // SAFETY: the test writes to a copy only while it has no slice of it.
        unsafe { std::slice::from_raw_parts(copy.as_ptr(), copy.len()) }
    }

    fn fill(copy: &PrivateCopy, value: u8) {
        // SAFETY: nobody looks at the copy meanwhile.
        unsafe { copy.as_ptr().write_bytes(value, copy.len()) };
    }

    #[test]
    fn copies_are_writable_and_know_nothing_of_each_other() {
        let sealed = Sealed::write(10_000, &[(0, b"begin"), (9_997, b"end")]).unwrap();
        let (one, other) = (sealed.copy().unwrap(), sealed.copy().unwrap());
        assert_eq!(&bytes(&one)[..6], b"begin\0");
        fill(&one, 7);
        assert_eq!(&bytes(&other)[9_997..], b"end");
        let again = Sealed::attach(sealed.descriptor().clone()).unwrap().copy().unwrap();
        drop(sealed);
        assert_eq!(&bytes(&again)[..5], b"begin");
        assert_eq!(bytes(&one)[0], 7);
    }

    #[test]
    fn nobody_can_change_it() {
        let sealed = Sealed::write(100, &[(0, b"begin")]).unwrap();
        let fd = sealed.descriptor().as_fd();
        assert!(file::write_at(fd, &mut [IoSlice::new(b"other")], 0).is_err());
        assert!(sys::set_len(fd, 0).is_err());
        assert!(Segment::from_descriptor(sealed.descriptor().clone()).is_err());
    }

    #[test]
    fn other_memory_is_refused() {
        let segment = Segment::new(100).unwrap();
        assert!(Sealed::attach(segment.descriptor().unwrap().clone()).is_err());
        assert!(Sealed::write(0, &[]).unwrap_err().is_misuse());
    }
}
