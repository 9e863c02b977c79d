//! Files in memory, by position: reserve, read, write, give back.
//!
//! The position that processes share with a descriptor is never used.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{FallocateFlags, fallocate, fstat, ftruncate};
use rustix::io::{Errno, pread, pwritev};

use crate::{Error, Result};

/// How much one call reserves: small, because a signal makes the kernel throw away what the
/// interrupted call has reserved.
const STEP: u64 = 1 << 20;

/// The most slices that the kernel takes in one call.
const MOST_SLICES: usize = 1024;

/// Makes sure that the pages of a range exist, so that touching them cannot fail.
pub(crate) fn reserve(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    let end = offset + len;
    let mut from = offset;
    while from < end {
        let step = STEP.min(end - from);
        retry(|| fallocate(fd, FallocateFlags::empty(), from, step))
            .map_err(|e| Error::os("reserve shared memory", e))?;
        from += step;
    }
    Ok(())
}

/// Gives the pages of a range back; the range reads as zeros from now on.
pub(crate) fn punch(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    retry(|| fallocate(fd, flags, offset, len)).map_err(|e| Error::os("give memory back", e))
}

/// Sets the file's size.
pub(crate) fn truncate(fd: BorrowedFd<'_>, len: u64) -> Result<()> {
    retry(|| ftruncate(fd, len)).map_err(|e| Error::os("give memory back", e))
}

/// Appends up to `most` bytes from `offset` to `bytes`; fewer only at the end of the file.
pub(crate) fn read_at(
    fd: BorrowedFd<'_>,
    bytes: &mut Vec<u8>,
    most: usize,
    offset: u64,
) -> Result<()> {
    let start = bytes.len();
    bytes.try_reserve_exact(most).map_err(|_| Error::os("receive an item", Errno::NOMEM))?;
    while bytes.len() < start + most {
        let done = bytes.len() - start;
        let room = &mut bytes.spare_capacity_mut()[..most - done];
        let read = retry(|| pread(fd, &mut *room, offset + done as u64).map(|(new, _)| new.len()))
            .map_err(|e| Error::os("read shared memory", e))?;
        if read == 0 {
            break;
        }
        // SAFETY: the kernel has just written `read` bytes at the beginning of the spare room.
        unsafe { bytes.set_len(start + done + read) };
    }
    Ok(())
}

/// Fills all of `into` from `offset` on. False if the file ends before.
pub(crate) fn fill_at(
    fd: BorrowedFd<'_>,
    into: &mut [MaybeUninit<u8>],
    offset: u64,
) -> Result<bool> {
    let mut done = 0;
    while done < into.len() {
        let room = &mut into[done..];
        let read = retry(|| pread(fd, &mut *room, offset + done as u64).map(|(new, _)| new.len()))
            .map_err(|e| Error::os("read shared memory", e))?;
        if read == 0 {
            return Ok(false);
        }
        done += read;
    }
    Ok(true)
}

/// Writes all of `parts` one after the other from `offset` on. On failure some bytes may have
/// been written.
pub(crate) fn write_at(fd: BorrowedFd<'_>, parts: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
    let mut parts = parts;
    let mut offset = offset;
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let some = &parts[..parts.len().min(MOST_SLICES)];
        let written = retry(|| pwritev(fd, some, offset))
            .map_err(|e| Error::os("write to shared memory", e))?;
        if written == 0 {
            return Err(Error::os("write to shared memory", Errno::NOSPC));
        }
        offset += written as u64;
        IoSlice::advance_slices(&mut parts, written);
    }
    Ok(())
}

/// What tells the file from every other one that exists now: its device and inode.
pub(crate) fn identity(fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let stat = fstat(fd).map_err(|e| Error::os("look at shared memory", e))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Calls again when a signal came: none of these calls waits for anybody.
fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
