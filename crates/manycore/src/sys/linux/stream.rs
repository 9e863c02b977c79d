//! Pipes and sockets: single reads and writes, and waiting for several at once.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll as sys_poll};
use rustix::io::{Errno, read as sys_read, writev as sys_writev};

use crate::{Error, Result};

/// The most slices that the kernel takes in one call.
const MOST_SLICES: usize = 1024;

/// How one read or write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// So many bytes went through; 0 for a read at the end.
    Bytes(usize),
    /// A signal handler ran before anything was moved.
    Interrupted,
    /// The descriptor is non-blocking and has no room or no data now.
    WouldBlock,
    /// The peer has thrown the connection away.
    Reset,
}

/// Reads once, into the beginning of `into`.
pub(crate) fn read(fd: BorrowedFd<'_>, into: &mut [u8]) -> Result<Moved> {
    sort_out("receive a message", sys_read(fd, into))
}

/// Reads once, appending at most `most` bytes to the spare room that `bytes` has.
pub(crate) fn read_append(fd: BorrowedFd<'_>, bytes: &mut Vec<u8>, most: usize) -> Result<Moved> {
    let len = bytes.len();
    let room = bytes.spare_capacity_mut();
    let most = most.min(room.len());
    let read = sys_read(fd, &mut room[..most]).map(|(new, _)| new.len());
    if let Ok(read) = read {
        // SAFETY: the kernel has just written `read` bytes at the beginning of the spare room.
        unsafe { bytes.set_len(len + read) };
    }
    sort_out("receive a message", read)
}

/// Writes once, from the beginning of `parts`.
pub(crate) fn write(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> Result<Moved> {
    sort_out("send a message", sys_writev(fd, &parts[..parts.len().min(MOST_SLICES)]))
}

fn sort_out(what: &'static str, result: rustix::io::Result<usize>) -> Result<Moved> {
    match result {
        Ok(bytes) => Ok(Moved::Bytes(bytes)),
        Err(Errno::INTR) => Ok(Moved::Interrupted),
        Err(Errno::AGAIN) => Ok(Moved::WouldBlock),
        Err(Errno::CONNRESET) => Ok(Moved::Reset),
        Err(error) => Err(Error::os(what, error)),
    }
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
}

/// Waits until one of `fds` is ready or has failed, and gives the places of all that are.
pub(crate) fn poll(
    fds: &[BorrowedFd<'_>],
    interest: Interest,
    deadline: Option<Instant>,
) -> Result<Vec<usize>> {
    let flags = match interest {
        Interest::Read => PollFlags::IN,
        Interest::Write => PollFlags::OUT,
    };
    let mut list: Vec<_> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, flags)).collect();
    let timeout = deadline.map(left);
    match sys_poll(&mut list, timeout.as_ref()) {
        Ok(0) => Err(Error::timed_out()),
        Ok(_) => Ok((0..list.len()).filter(|&i| !list[i].revents().is_empty()).collect()),
        Err(error) => Err(Error::os("wait for a message", error)),
    }
}

fn left(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec {
        // A wait of more than 2^62 seconds ends early; nobody will be there to see it.
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX / 2),
        tv_nsec: left.subsec_nanos().into(),
    }
}
