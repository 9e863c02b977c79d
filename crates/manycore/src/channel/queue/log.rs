//! The file in memory that takes what does not fit into the ring.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::ring::no_memory;
use super::state::{Taken, Written};
use crate::sys::{file, memory};
use crate::{Error, Result};

/// An empty log keeps so much memory for the next time.
const KEEP: u64 = 8 << 20;
/// Memory of items that were taken is given back in pieces of at least this size.
const PUNCH: u64 = 4 << 20;
const PAGE: u64 = 4 << 10;
/// Bytes before an item, which hold its length.
const HEADER: usize = 8;
/// An item that is not longer comes with a single call, together with its length.
const SMALL: usize = 4 << 10;

/// An append-only file whose beginning is given back. Who may touch what is as for the ring.
pub(super) struct Log {
    fd: OwnedFd,
}

impl Log {
    /// # Errors
    ///
    /// The system is out of descriptors or memory.
    pub(super) fn new() -> Result<Self> {
        memory::create_growing().map(Self::attach)
    }

    pub(super) fn attach(fd: OwnedFd) -> Self {
        Self { fd }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Appends an item. Only for the holder of the putting lock.
    ///
    /// # Errors
    ///
    /// There is no memory; then the log is as before.
    pub(super) fn push(&self, written: &mut Written, len: u64, parts: &[&[u8]]) -> Result<()> {
        let place = written.log_tail - written.log_base;
        let header = len.to_ne_bytes();
        let mut all = Vec::with_capacity(parts.len() + 1);
        all.push(IoSlice::new(&header));
        all.extend(parts.iter().map(|part| IoSlice::new(part)));
        if let Err(error) = file::write_at(self.fd(), &mut all, place) {
            // What was written already is behind the tail, where nobody looks.
            let _ = file::truncate(self.fd(), place);
            return Err(error);
        }
        written.log_tail += HEADER as u64 + len;
        written.log_size = written.log_size.max(written.log_tail - written.log_base);
        Ok(())
    }

    /// Replaces `bytes` by the first item. Only for the holder of the getting lock, if there is
    /// one.
    ///
    /// # Errors
    ///
    /// There is no memory, or the log is damaged.
    pub(super) fn pop(
        &self,
        written: &Written,
        taken: &mut Taken,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        let place = taken.log_head - written.log_base;
        let left = written.log_tail - taken.log_head;
        let mut small = [0; SMALL];
        let read = file::read_some_at(self.fd(), &mut small, place)?.min(left as usize);
        let (header, body) = small[..read].split_first_chunk().ok_or_else(damaged)?;
        let len = u64::from_ne_bytes(*header);
        if len > left - HEADER as u64 {
            return Err(damaged());
        }
        let len = usize::try_from(len).map_err(|_| no_memory())?;
        let body = &body[..body.len().min(len)];
        self.read(bytes, len, body, place + (HEADER + body.len()) as u64)?;
        self.give_back(written, taken, place);
        taken.log_head += (HEADER + len) as u64;
        Ok(())
    }

    /// Reads an item of `len` bytes that begins with `first` and goes on at `rest`.
    fn read(&self, bytes: &mut Vec<u8>, len: usize, first: &[u8], rest: u64) -> Result<()> {
        bytes.clear();
        bytes.try_reserve(len).map_err(|_| no_memory())?;
        bytes.extend_from_slice(first);
        if first.len() < len {
            file::read_at(self.fd(), bytes, len - first.len(), rest)?;
        }
        if bytes.len() == len { Ok(()) } else { Err(damaged()) }
    }

    /// Gives back memory of items that were taken before the one at `place`, which is still there:
    /// as long as it is, the log is not empty, and nobody starts it again at its beginning.
    fn give_back(&self, written: &Written, taken: &mut Taken, place: u64) {
        let from = taken.punched.saturating_sub(written.log_base);
        let to = place - place % PAGE;
        if to >= from + PUNCH && file::punch(self.fd(), from, to - from).is_ok() {
            taken.punched = written.log_base + to;
        }
    }

    /// Lets an empty log begin at its beginning again, with not too much memory. Only for the
    /// holder of the putting lock, who sees that the log is empty.
    pub(super) fn restart(&self, written: &mut Written) {
        written.log_base = written.log_tail;
        if written.log_size > KEEP && file::truncate(self.fd(), KEEP).is_ok() {
            written.log_size = KEEP;
        }
    }

    /// Whether the log has much more memory than it needs when empty.
    pub(super) fn is_fat(written: &Written) -> bool {
        written.log_size > KEEP
    }
}

fn damaged() -> Error {
    Error::corrupt("an item of a queue")
}
