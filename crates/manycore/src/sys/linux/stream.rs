//! Pipes and sockets: single reads and writes, and waiting for several at once.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll as sys_poll};
use rustix::io::{
    Errno, ReadWriteFlags, preadv2, pwritev2, read as sys_read, writev as sys_writev,
};
use rustix::net::{RecvFlags, SendFlags, recv, send};

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

/// Reads once, into the beginning of `into`, which need not be initialised.
pub(crate) fn read_uninit(fd: BorrowedFd<'_>, into: &mut [MaybeUninit<u8>]) -> Result<Moved> {
    sort_out("receive a message", sys_read(fd, into).map(|(new, _)| new.len()))
}

/// How to ask a descriptor for what it can do at once, whatever its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is a socket.
    Socket,
    /// It is a pipe, and this kernel knows how to ask one.
    Pipe,
    /// There is no way.
    Neither,
}

/// Reads once, as [`read`], but does not wait: `WouldBlock`, also from a blocking descriptor.
/// `None` if this is not the way.
pub(crate) fn read_now(fd: BorrowedFd<'_>, way: Way, into: &mut [u8]) -> Result<Option<Moved>> {
    sort_out_now(
        "receive a message",
        match way {
            Way::Socket => recv(fd, into, RecvFlags::DONTWAIT).map(|(_, read)| read),
            Way::Pipe => {
                preadv2(fd, &mut [IoSliceMut::new(into)], WHERE_IT_IS, ReadWriteFlags::NOWAIT)
            }
            Way::Neither => return Ok(None),
        },
    )
}

/// Writes once, as [`write`], but does not wait. `None` if this is not the way.
pub(crate) fn write_now(fd: BorrowedFd<'_>, way: Way, bytes: &[u8]) -> Result<Option<Moved>> {
    sort_out_now(
        "send a message",
        match way {
            Way::Socket => send(fd, bytes, SendFlags::DONTWAIT),
            Way::Pipe => pwritev2(fd, &[IoSlice::new(bytes)], WHERE_IT_IS, ReadWriteFlags::NOWAIT),
            Way::Neither => return Ok(None),
        },
    )
}

/// For calls that want a position: pipes have none.
const WHERE_IT_IS: u64 = u64::MAX;

fn sort_out_now(what: &'static str, result: rustix::io::Result<usize>) -> Result<Option<Moved>> {
    match result {
        Err(Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::SPIPE) => Ok(None),
        result => sort_out(what, result).map(Some),
    }
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

/// Whether there is something to read, or the end has come.
pub(crate) fn is_ready(fd: BorrowedFd<'_>) -> Result<bool> {
    let mut list = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    match sys_poll(&mut list, Some(&Timespec::default())) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
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
