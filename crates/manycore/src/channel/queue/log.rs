//! The file in memory that takes what does not fit into the ring.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;

use super::ring::no_memory;
use super::state::{Taken, Written};
use crate::memory::Descriptor;
use crate::sys::{file, memory};
use crate::{Error, Result};

/// An empty log keeps so much memory for the next time.
const KEEP: u64 = 8 << 20;
/// Memory of items that were taken is given back in pieces of at least this size.
const PUNCH: u64 = 4 << 20;
const PAGE: u64 = 4 << 10;
/// Bytes before an item, which hold its length.
const HEADER: usize = 8;
/// So much is read at a time, with all the items that are in it.
const AHEAD: usize = 16 << 10;

/// An append-only file whose beginning is given back. Who may touch what is as for the ring.
pub(super) struct Log {
    fd: Descriptor,
    /// Only tried, never waited for: in a fork it may be held by a thread that is not there.
    ahead: Mutex<Ahead>,
}

/// A copy of a part of the log, so that many short items need a single call. It never goes stale:
/// what was put does not change, and no position is used twice.
#[derive(Default)]
struct Ahead {
    /// The position of the first byte.
    from: u64,
    bytes: Vec<u8>,
}

impl Log {
    /// # Errors
    ///
    /// The system is out of descriptors or memory.
    pub(super) fn new() -> Result<Self> {
        memory::create_growing().map(|fd| Self::of(Descriptor::new(fd)))
    }

    pub(super) fn of(fd: Descriptor) -> Self {
        Self { fd, ahead: Mutex::default() }
    }

    pub(super) fn descriptor(&self) -> &Descriptor {
        &self.fd
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Appends an item, of which [`Self::fattens`] knows. Only for the holder of the putting lock.
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
        Ok(())
    }

    /// Makes a note of how long the log will be with one more item. Whether it gets more memory
    /// than it may keep.
    pub(super) fn fattens(written: &mut Written, len: u64) -> bool {
        let size = written.log_tail - written.log_base + HEADER as u64 + len;
        let grows = size > written.log_size;
        written.log_size = written.log_size.max(size);
        grows && Self::is_fat(written)
    }

    /// The length of the first item. Only for the holder of the getting lock, if there is one.
    ///
    /// # Errors
    ///
    /// There is no memory, or the log is damaged.
    pub(super) fn first(&self, written: &Written, taken: &Taken) -> Result<u64> {
        let left = written.log_tail - taken.log_head;
        let len = self.with_ahead(|ahead| {
            let header = self.look(ahead, written, taken.log_head, HEADER)?;
            header.first_chunk().map(|header| u64::from_ne_bytes(*header)).ok_or_else(damaged)
        })?;
        if len > left - left.min(HEADER as u64) {
            return Err(damaged());
        }
        Ok(len)
    }

    /// Fills `into` from the first item, of `len` bytes, from its byte `from` on. Both are inside
    /// the item.
    ///
    /// # Errors
    ///
    /// As for [`Self::first`].
    pub(super) fn read(
        &self,
        written: &Written,
        taken: &Taken,
        len: u64,
        from: u64,
        into: &mut [MaybeUninit<u8>],
    ) -> Result<()> {
        let position = taken.log_head + HEADER as u64;
        let item = usize::try_from(len).map_err(|_| no_memory())?;
        if item > AHEAD {
            let place = position - written.log_base + from;
            return if file::fill_at(self.fd(), into, place)? { Ok(()) } else { Err(damaged()) };
        }
        self.with_ahead(|ahead| {
            let bytes = self.look(ahead, written, position, item)?;
            for (place, byte) in into.iter_mut().zip(&bytes[from as usize..]) {
                place.write(*byte);
            }
            Ok(())
        })
    }

    /// Takes the first item, of `len` bytes.
    pub(super) fn drop_first(&self, written: &Written, taken: &mut Taken, len: u64) {
        self.give_back(written, taken);
        taken.log_head += HEADER as u64 + len;
    }

    fn with_ahead<R>(&self, f: impl FnOnce(&mut Ahead) -> R) -> R {
        match self.ahead.try_lock() {
            Ok(mut ahead) => f(&mut ahead),
            Err(_) => f(&mut Ahead::default()),
        }
    }

    /// The `len` bytes at `position`, at most [`AHEAD`] of them, all of which were put.
    fn look<'a>(
        &self,
        ahead: &'a mut Ahead,
        written: &Written,
        position: u64,
        len: usize,
    ) -> Result<&'a [u8]> {
        if ahead.get(position, len).is_none() {
            let most = AHEAD.min(usize::try_from(written.log_tail - position).unwrap_or(AHEAD));
            ahead.bytes.clear();
            ahead.from = position;
            file::read_at(self.fd(), &mut ahead.bytes, most, position - written.log_base)?;
        }
        ahead.get(position, len).ok_or_else(damaged)
    }

    /// Gives back memory of items that were taken before the first one, which is still there: as
    /// long as it is, the log is not empty, and nobody starts it again at its beginning.
    fn give_back(&self, written: &Written, taken: &mut Taken) {
        let place = taken.log_head - written.log_base;
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

impl Ahead {
    /// The `len` bytes at `position`, if they are here.
    fn get(&self, position: u64, len: usize) -> Option<&[u8]> {
        let begin = usize::try_from(position.checked_sub(self.from)?).ok()?;
        self.bytes.get(begin..begin.checked_add(len)?)
    }
}

fn damaged() -> Error {
    Error::corrupt("an item of a queue")
}
