//! The ring of bytes that most items go through.

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use super::state::{Taken, Written};
use crate::memory::Block;
use crate::sys::file;
use crate::{Error, Result};

/// Size of the ring. Only the part that was ever needed has memory: an empty ring starts again at
/// its beginning, where the pages, and often the caches, are warm.
pub(super) const SIZE: u64 = 8 << 20;
/// The longest item that goes through the ring.
const LONGEST: u64 = SIZE / 4;
/// Memory is reserved in pieces of this size.
const STEP: u64 = 64 << 10;
/// Bytes before an item, which hold its length. Items begin at multiples of it.
const HEADER: u64 = 8;

/// The memory of a ring. Who may touch which bytes follows from the records: those from head to
/// tail belong to the holder of the getting lock, the others to the one of the putting lock.
pub(super) struct Ring {
    block: Block,
}

impl Ring {
    /// # Errors
    ///
    /// The block is not [`SIZE`] bytes long.
    pub(super) fn new(block: Block) -> Result<Self> {
        if block.len() as u64 != SIZE {
            return Err(Error::corrupt("the size of a queue"));
        }
        Ok(Self { block })
    }

    /// Whether items of `len` bytes go through the ring at all.
    pub(super) fn takes(len: u64) -> bool {
        len <= LONGEST
    }

    /// Whether an item of `len` bytes fits behind the last one.
    pub(super) fn fits(written: &Written, taken: &Taken, len: u64) -> bool {
        Self::takes(len) && written.ring_tail - taken.ring_head + space(len) <= SIZE
    }

    /// Writes an item that fits behind the last one. Only for the holder of the putting lock.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub(super) fn push(&self, written: &mut Written, len: u64, parts: &[&[u8]]) -> Result<()> {
        let place = place(written, written.ring_tail);
        self.reserve(written, place + space(len))?;
        self.write(place, &len.to_ne_bytes());
        let mut place = place + HEADER;
        for part in parts {
            self.write(place, part);
            place += part.len() as u64;
        }
        written.ring_tail += space(len);
        Ok(())
    }

    /// The length of the first item. Only for the holder of the getting lock, if there is one.
    ///
    /// # Errors
    ///
    /// The ring is damaged.
    pub(super) fn first(&self, written: &Written, taken: &Taken) -> Result<u64> {
        let len = self.read_len(place(written, taken.ring_head));
        if len > LONGEST || space(len) > written.ring_tail - taken.ring_head {
            return Err(Error::corrupt("an item of a queue"));
        }
        Ok(len)
    }

    /// Fills `into` from the first item, from its byte `from` on. Both are inside the item, whose
    /// length [`Self::first`] has told.
    pub(super) fn read(
        &self,
        written: &Written,
        taken: &Taken,
        from: u64,
        into: &mut [MaybeUninit<u8>],
    ) {
        let place = ((place(written, taken.ring_head) + HEADER + from) % SIZE) as usize;
        let first = into.len().min(SIZE as usize - place);
        let second = into.len() - first;
        let into = into.as_mut_ptr().cast::<u8>();
        // SAFETY: both ranges are inside the block, and inside `into` together. They lie between
        // head and tail, so nobody but the holder of the getting lock touches them, which is the
        // caller; the record that told the tail was published after the bytes were written.
        unsafe {
            into.copy_from_nonoverlapping(self.block.as_ptr().add(place), first);
            into.add(first).copy_from_nonoverlapping(self.block.as_ptr(), second);
        }
    }

    /// Takes the first item, of `len` bytes.
    pub(super) fn drop_first(taken: &mut Taken, len: u64) {
        taken.ring_head += space(len);
    }

    /// Sees to it that the first `end` bytes of the ring have memory.
    #[inline]
    fn reserve(&self, written: &mut Written, end: u64) -> Result<()> {
        let end = end.min(SIZE);
        if end <= written.reserved { Ok(()) } else { self.reserve_slow(written, end) }
    }

    #[cold]
    fn reserve_slow(&self, written: &mut Written, end: u64) -> Result<()> {
        let end = end.next_multiple_of(STEP);
        let from = self.block.offset() as u64 + written.reserved;
        file::reserve(self.descriptor()?, from, end - written.reserved)?;
        written.reserved = end;
        Ok(())
    }

    fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        let fd = self.block.segment().fd();
        fd.ok_or_else(|| Error::misuse("the queue's descriptor was given away"))
    }

    fn write(&self, place: u64, bytes: &[u8]) {
        let place = (place % SIZE) as usize;
        let (first, second) = bytes.split_at(bytes.len().min(SIZE as usize - place));
        // SAFETY: both ranges are inside the block. They lie outside of head to tail, so nobody
        // but the holder of the putting lock touches them, which is the caller.
        unsafe {
            self.block.as_ptr().add(place).copy_from_nonoverlapping(first.as_ptr(), first.len());
            self.block.as_ptr().copy_from_nonoverlapping(second.as_ptr(), second.len());
        }
    }

    fn read_len(&self, place: u64) -> u64 {
        let place = (place % SIZE) as usize;
        // SAFETY: items begin at multiples of 8, so the 8 bytes are inside the block and aligned;
        // that nobody writes to them is as for `read`.
        unsafe { self.block.as_ptr().add(place).cast::<u64>().read() }
    }
}

pub(super) fn no_memory() -> Error {
    Error::os("receive an item", std::io::Error::from_raw_os_error(libc::ENOMEM))
}

/// Where a position lies in the ring, as long as the ring is not empty.
fn place(written: &Written, position: u64) -> u64 {
    (position - written.ring_base) % SIZE
}

/// What an item of `len` bytes takes up.
pub(super) fn space(len: u64) -> u64 {
    HEADER + len.next_multiple_of(HEADER)
}
