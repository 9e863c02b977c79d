//! Anonymous shared memory: memfd files and their mappings.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::{Error, Result};

/// Makes an anonymous shared-memory file of `len` zero bytes whose size can no longer change.
pub(crate) fn create(len: usize) -> Result<OwnedFd> {
    let fd = create_growing()?;
    ftruncate(&fd, len as u64).map_err(|e| Error::os("set the size of shared memory", e))?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(|e| Error::os("seal shared memory", e))?;
    Ok(fd)
}

/// Makes an empty anonymous shared-memory file that grows when it is written.
pub(crate) fn create_growing() -> Result<OwnedFd> {
    memfd_create(c"manycore", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|e| Error::os("create shared memory", e))
}

/// The size in bytes of the file behind `fd`.
pub(crate) fn len(fd: BorrowedFd<'_>) -> Result<usize> {
    let stat = fstat(fd).map_err(|e| Error::os("look at shared memory", e))?;
    usize::try_from(stat.st_size).map_err(|_| Error::corrupt("the size of shared memory"))
}

/// Maps `len` bytes of `fd`, readable and writable, shared with everybody who maps it.
pub(crate) fn map(fd: impl AsFd, len: usize) -> Result<NonNull<u8>> {
    // SAFETY: a null hint lets the kernel choose an address range that nothing else uses, so no
    // memory of this program changes.
    let address = unsafe {
        mmap(
            ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::NORESERVE,
            fd,
            0,
        )
    }
    .map_err(|e| Error::os("map shared memory", e))?;
    NonNull::new(address.cast()).ok_or_else(|| Error::corrupt("the address of shared memory"))
}

/// Ends a mapping made by [`map`].
///
/// # Safety
///
/// `address` and `len` are those of a mapping made by [`map`], and nothing uses it any more.
pub(crate) unsafe fn unmap(address: NonNull<u8>, len: usize) {
    // SAFETY: the caller promises that the range is a mapping of ours that nothing uses.
    let result = unsafe { munmap(address.as_ptr().cast(), len) };
    debug_assert!(result.is_ok(), "munmap: {result:?}");
}

/// Leaves `len` bytes from `address` on out of all copies that are forked of this process.
///
/// # Safety
///
/// The range is a mapping made by [`map`], and no copy of this process uses it.
pub(crate) unsafe fn keep_from_forks(address: NonNull<u8>, len: usize) -> Result<()> {
    // SAFETY: nothing changes for this process, and the caller promises that for its copies.
    unsafe { madvise(address.as_ptr().cast(), len, Advice::LinuxDontFork) }
        .map_err(|e| Error::os("keep shared memory from forks", e))
}

/// Gives pages to `len` bytes from `address` on, so that touching them later neither faults one
/// page at a time nor fails: a shortage of memory is an error here.
///
/// # Safety
///
/// The range is inside a mapping made by [`map`].
pub(crate) unsafe fn populate(address: NonNull<u8>, len: usize) -> Result<()> {
    // SAFETY: populating changes no byte, and the caller promises a mapping of ours.
    let result = unsafe { madvise(address.as_ptr().cast(), len, Advice::LinuxPopulateWrite) };
    match result {
        // INVAL: a kernel before 5.14 does not know the advice; pages come as they are touched.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(Error::os("get memory for a shared buffer", error)),
    }
}
