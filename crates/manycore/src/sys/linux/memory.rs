//! Anonymous shared memory: memfd files and their mappings.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create,
};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use super::room;
use crate::{Error, Result};

/// Makes an anonymous shared-memory file of `len` zero bytes whose size can no longer change.
pub(crate) fn create(len: usize) -> Result<OwnedFd> {
    let fd = create_growing()?;
    set_len(&fd, len)?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(|e| Error::os("seal shared memory", e))?;
    Ok(fd)
}

/// Makes an empty anonymous shared-memory file that grows when it is written.
pub(crate) fn create_growing() -> Result<OwnedFd> {
    memfd_create(c"manycore", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|e| Error::os("create shared memory", e))
}

/// Sets the size; new bytes are zero.
pub(crate) fn set_len(fd: impl AsFd, len: usize) -> Result<()> {
    ftruncate(fd, len as u64).map_err(|e| Error::os("set the size of shared memory", e))
}

/// Makes sure that the file never changes again. Nobody may have it mapped, but by [`map_private`].
pub(crate) fn seal(fd: impl AsFd) -> Result<()> {
    fcntl_add_seals(fd, UNCHANGEABLE | SealFlags::SEAL)
        .map_err(|e| Error::os("seal shared memory", e))
}

const UNCHANGEABLE: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

/// Whether the file is one that [`seal`] was called for.
pub(crate) fn is_sealed(fd: impl AsFd) -> bool {
    fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(UNCHANGEABLE))
}

/// The size in bytes of the file behind `fd`.
pub(crate) fn len(fd: BorrowedFd<'_>) -> Result<usize> {
    let stat = fstat(fd).map_err(|e| Error::os("look at shared memory", e))?;
    usize::try_from(stat.st_size).map_err(|_| Error::corrupt("the size of shared memory"))
}

/// Maps `len` bytes of `fd`, readable and writable, shared with everybody who maps it.
pub(crate) fn map(fd: impl AsFd, len: usize) -> Result<NonNull<u8>> {
    map_as(fd, len, MapFlags::SHARED)
}

/// As [`map`], but what is written stays in this mapping: the kernel copies a page when it is first
/// written to.
pub(crate) fn map_private(fd: impl AsFd, len: usize) -> Result<NonNull<u8>> {
    map_as(fd, len, MapFlags::PRIVATE)
}

fn map_as(fd: impl AsFd, len: usize, kind: MapFlags) -> Result<NonNull<u8>> {
    // SAFETY: a null hint lets the kernel choose an address range that nothing else uses, so no
    // memory of this program changes.
    let address = unsafe {
        mmap(
            ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            kind | MapFlags::NORESERVE,
            fd,
            0,
        )
    }
    .map_err(|e| Error::os("map shared memory", e))?;
    NonNull::new(address.cast()).ok_or_else(|| Error::corrupt("the address of shared memory"))
}

/// Ends a mapping made by [`map`] or [`map_private`].
///
/// # Safety
///
/// `address` and `len` are those of such a mapping, and nothing uses it any more.
pub(crate) unsafe fn unmap(address: NonNull<u8>, len: usize) {
    // SAFETY: the caller promises that the range is a mapping of ours that nothing uses.
    let result = unsafe { munmap(address.as_ptr().cast(), len) };
    debug_assert!(result.is_ok(), "munmap: {result:?}");
}

const WHAT: &str = "a message";

/// From this size on it is asked how much memory is left. The kernel kills somebody if it has
/// promised too much; for less than this the question would cost more than it is worth.
const MUCH: usize = 64 << 20;

/// An error if there are no `len` bytes left for `what`.
pub(crate) fn check_room(what: &'static str, len: usize) -> Result<()> {
    if len < MUCH {
        return Ok(());
    }
    match room::narrowest() {
        Some(room) if room.left < len as u64 => Err(Error::no_memory(what, len, Some(room))),
        _ => Ok(()),
    }
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
/// page at a time nor fails: a shortage of memory is an error here. The first `before` bytes have
/// theirs already.
///
/// # Safety
///
/// The range is inside a mapping made by [`map`].
pub(crate) unsafe fn populate(address: NonNull<u8>, before: usize, len: usize) -> Result<()> {
    check_room(WHAT, len.saturating_sub(before))?;
    // SAFETY: populating changes no byte, and the caller promises a mapping of ours.
    let result = unsafe { madvise(address.as_ptr().cast(), len, Advice::LinuxPopulateWrite) };
    match result {
        // INVAL: a kernel before 5.14 does not know the advice; pages come as they are touched.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(Errno::NOMEM) => Err(Error::no_memory(WHAT, len, room::narrowest())),
        Err(error) => Err(Error::os("get memory for a shared buffer", error)),
    }
}
