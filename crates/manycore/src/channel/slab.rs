//! Large messages travel in slabs: shared memory that one side writes, the other reads in place,
//! and that is used again.
//!
//! A slab belongs to the side that writes it. Its first word says who may touch the rest:
//!
//! | state | who may touch the data | next |
//! |---|---|---|
//! | `FREE` | the writer | `LEASED`, by the writer, before it publishes the record that names the slab |
//! | `LEASED` | the reader | `FREE`, by the reader, when the last view of the data is gone |
//!
//! The descriptor crosses once, over the link's socket, before the first record that names the
//! slab; neither side keeps it, so descriptors do not grow with the number of slabs.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use super::mail::{self, Content};
use crate::memory::{Descriptor, Segment};
use crate::primitive::{AtomicU32, Ordering};
use crate::sys::fork;
use crate::{Error, Result};

const FREE: u32 = 0;
const LEASED: u32 = 1;

/// Where the data begins: after the state word, on a cache line of its own.
const DATA: usize = 64;

/// The smallest slab; smaller messages that do not fit the ring use one of these.
const SMALLEST: usize = 256 << 10;

/// Free slabs of more bytes than this in total are given back to the system.
const WARM: usize = 256 << 20;

/// The side that owns the slabs and writes into them.
pub(super) struct SlabWriter {
    socket: Descriptor,
    slabs: Vec<Slab>,
    last: u64,
}

struct Slab {
    id: u64,
    segment: Segment,
    /// How many bytes have pages already.
    populated: usize,
}

impl Slab {
    fn capacity(&self) -> usize {
        self.segment.len() - DATA
    }

    fn state(&self) -> &AtomicU32 {
        state(&self.segment)
    }

    fn is_free(&self) -> bool {
        // Acquire: pairs with the release store in `Lease::drop`; the reader's last access to
        // the data comes before our next write.
        self.state().load(Ordering::Acquire) == FREE
    }
}

fn state(segment: &Segment) -> &AtomicU32 {
    // SAFETY: both sides use the first word of a slab as its atomic state and nothing else.
    unsafe { segment.at(0) }
}

impl SlabWriter {
    pub(super) fn new(socket: Descriptor) -> Self {
        Self { socket, slabs: Vec::new(), last: 0 }
    }

    /// Copies `pieces`, each to its offset, into a slab that is leased from now on, and gives the
    /// slab's name; `None` if the other side has not yet taken earlier descriptors.
    pub(super) fn write(&mut self, len: usize, pieces: &[(usize, &[u8])]) -> Result<Option<u64>> {
        let Some(index) = self.find(len)? else { return Ok(None) };
        let slab = &mut self.slabs[index];
        if slab.populated < len {
            slab.segment.populate(slab.populated, DATA + len)?;
            slab.populated = len;
        }
        // Relaxed: the release store that publishes the record naming this slab carries it.
        slab.state().store(LEASED, Ordering::Relaxed);
        for (offset, bytes) in pieces {
            assert!(offset + bytes.len() <= len);
            let place = slab.segment.as_ptr().wrapping_add(DATA + offset);
            // SAFETY: `find` chose a slab with room for `len` bytes and the piece lies inside
            // them; the slab was free, so the reader does not look at it now.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        }
        Ok(Some(slab.id))
    }

    /// Takes a slab back whose record could not be published.
    pub(super) fn take_back(&mut self, id: u64) {
        if let Some(slab) = self.slabs.iter().find(|slab| slab.id == id) {
            slab.state().store(FREE, Ordering::Relaxed);
        }
    }

    /// Lets go of one free slab if there are more than enough, and gives its name, which the
    /// other side must be told.
    pub(super) fn retire(&mut self) -> Option<u64> {
        let free = || self.slabs.iter().enumerate().filter(|(_, slab)| slab.is_free());
        let total: usize = free().map(|(_, slab)| slab.populated).sum();
        if total <= WARM {
            return None;
        }
        let (largest, _) = free().max_by_key(|(_, slab)| slab.populated)?;
        Some(self.slabs.swap_remove(largest).id)
    }

    /// The smallest free slab that is large enough but not far too large, or a new one.
    fn find(&mut self, len: usize) -> Result<Option<usize>> {
        let limit = SMALLEST.max(len.saturating_mul(4));
        let found = self
            .slabs
            .iter()
            .enumerate()
            .filter(|(_, slab)| slab.capacity() >= len && slab.capacity() <= limit)
            .filter(|(_, slab)| slab.is_free())
            .min_by_key(|(_, slab)| slab.capacity());
        match found {
            Some((index, _)) => Ok(Some(index)),
            None => self.add(len),
        }
    }

    fn add(&mut self, len: usize) -> Result<Option<usize>> {
        let size = len.checked_add(DATA).and_then(usize::checked_next_power_of_two);
        let size = size.ok_or_else(|| Error::misuse("a message of more than 2^63 bytes"))?;
        let mut segment = Segment::new(size.max(SMALLEST))?;
        let fd = segment.take_fd().ok_or_else(|| Error::misuse("a new segment has clones"))?;
        let id = self.last + 1;
        if !mail::send(&self.socket, Content::Slab, &[id], &[fd.as_fd()])? {
            return Ok(None);
        }
        self.last = id;
        self.slabs.push(Slab { id, segment, populated: 0 });
        Ok(Some(self.slabs.len() - 1))
    }

    /// Copies a slab's data out, for a message that its reader never started on.
    pub(super) fn copy(&self, id: u64, len: usize) -> Result<Vec<u8>> {
        let slab = self.slabs.iter().find(|slab| slab.id == id && len <= slab.capacity());
        let slab = slab.ok_or_else(|| Error::corrupt("the name of a slab"))?;
        let mut bytes = Vec::with_capacity(len);
        // SAFETY: the range is inside the slab and has `len` initialised bytes (shared memory is
        // zeroed), and the vector has room for them.
        unsafe {
            let place = slab.segment.as_ptr().add(DATA);
            std::ptr::copy_nonoverlapping(place, bytes.as_mut_ptr(), len);
            bytes.set_len(len);
        }
        Ok(bytes)
    }
}

/// The side that reads.
#[derive(Default)]
pub(super) struct SlabReader {
    segments: HashMap<u64, Segment>,
}

impl SlabReader {
    pub(super) fn has(&self, id: u64) -> bool {
        self.segments.contains_key(&id)
    }

    pub(super) fn insert(&mut self, id: u64, fd: OwnedFd) -> Result<()> {
        let mut segment = Segment::from_fd(fd)?;
        // The mapping is all that is needed from here on.
        drop(segment.take_fd());
        self.segments.insert(id, segment);
        Ok(())
    }

    /// The first `len` bytes of the slab's data, which the record just received has leased to us.
    pub(super) fn lease(&self, id: u64, len: usize) -> Result<Lease> {
        let segment = self.segments.get(&id).ok_or_else(|| Error::corrupt("the name of a slab"))?;
        let segment = segment.clone();
        if segment.len() < DATA || len > segment.len() - DATA {
            return Err(Error::corrupt("the length of a slab's message"));
        }
        Ok(Lease { segment, len, generation: fork::generation() })
    }

    /// Forgets a slab that the other side will not use again; leases on it live on.
    pub(super) fn forget(&mut self, id: u64) {
        self.segments.remove(&id);
    }
}

/// The right to use a slab's data, readable and writable, until it is dropped.
pub(super) struct Lease {
    segment: Segment,
    len: usize,
    /// A forked child has a copy of this value; only the original gives the slab back.
    generation: u64,
}

impl Lease {
    pub(super) fn data(&self) -> *mut u8 {
        self.segment.as_ptr().wrapping_add(DATA)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.generation == fork::generation() {
            // Release: pairs with the acquire load in `Slab::is_free`.
            state(&self.segment).store(FREE, Ordering::Release);
        }
    }
}
