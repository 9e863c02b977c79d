//! Numbers that can be waited for, and sets of descriptors to wait on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;

use crate::{Error, Result};

/// A cell for one number, readable as a descriptor once it holds one.
pub(crate) fn cell() -> Result<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|e| Error::os("make an eventfd", e))
}

/// Puts `number`, which is not 0, into an empty cell.
pub(crate) fn put(cell: BorrowedFd<'_>, number: u64) -> Result<()> {
    match rustix::io::write(cell, &number.to_ne_bytes()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::os("write an eventfd", error)),
    }
}

/// Takes the number out of the cell, if it holds one.
pub(crate) fn take(cell: BorrowedFd<'_>) -> Result<Option<u64>> {
    let mut bytes = [0; 8];
    match rustix::io::read(cell, &mut bytes) {
        Ok(_) => Ok(Some(u64::from_ne_bytes(bytes))),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(Error::os("read an eventfd", error)),
    }
}

/// Another descriptor for the same thing.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(|e| Error::os("duplicate a descriptor", e))
}

/// Descriptors, each with a number, of which one at a time is reported readable, once.
pub(crate) struct Set(OwnedFd);

impl Set {
    pub(crate) fn new() -> Result<Self> {
        epoll::create(CreateFlags::CLOEXEC).map(Self).map_err(|e| Error::os("make an epoll", e))
    }

    pub(crate) fn add(&self, fd: BorrowedFd<'_>, number: u64) -> Result<()> {
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        epoll::add(&self.0, fd, EventData::new_u64(number), flags)
            .map_err(|e| Error::os("watch a descriptor", e))
    }

    /// Takes `fd` out of the set, if it is in.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits until a descriptor is readable and tells its number.
    pub(crate) fn next(&self) -> Result<u64> {
        let mut events = Vec::with_capacity(1);
        loop {
            match epoll::wait(&self.0, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Error::os("wait for a descriptor", error)),
            }
            if let Some(event) = events.pop() {
                return Ok(event.data.u64());
            }
        }
    }
}
