//! The memory of a ring: a shared segment, or loom's cells in a model.

use crate::primitive::AtomicU64;

/// The two positions, each on a cache line of its own: each is written by one side only.
#[derive(Default)]
#[repr(C)]
pub(super) struct Header {
    pub(super) head: Line,
    pub(super) tail: Line,
}

#[derive(Default)]
#[repr(C, align(128))]
pub(super) struct Line {
    pub(super) position: AtomicU64,
}

#[cfg(not(loom))]
pub(crate) use shared::Memory;

#[cfg(not(loom))]
mod shared {
    use super::Header;
    use crate::memory::Segment;

    /// A header and `capacity` bytes of data in a segment.
    #[derive(Clone)]
    pub(crate) struct Memory {
        segment: Segment,
        offset: usize,
        capacity: usize,
    }

    impl Memory {
        /// The bytes that a ring takes up in its segment.
        pub(crate) const fn size(capacity: usize) -> usize {
            size_of::<Header>() + capacity
        }

        /// The ring memory at `offset` of `segment`, which must be a multiple of 128.
        ///
        /// # Panics
        ///
        /// If it does not fit, or if `capacity` is not a power of two.
        pub(crate) fn new(segment: Segment, offset: usize, capacity: usize) -> Self {
            assert!(capacity.is_power_of_two());
            assert!(offset + Self::size(capacity) <= segment.len());
            Self { segment, offset, capacity }
        }

        pub(in crate::ring) fn capacity(&self) -> usize {
            self.capacity
        }

        pub(in crate::ring) fn header(&self) -> &Header {
            // SAFETY: the header is two atomic words in zeroed memory, and every process that
            // maps this place uses it as the header of this ring.
            unsafe { self.segment.at(self.offset) }
        }

        fn data(&self, at: usize, len: usize) -> *mut u8 {
            assert!(at.checked_add(len).is_some_and(|end| end <= self.capacity));
            self.segment.as_ptr().wrapping_add(self.offset + size_of::<Header>() + at)
        }

        /// Copies `bytes` to place `at`.
        pub(in crate::ring) fn write(&self, at: usize, bytes: &[u8]) {
            let place = self.data(at, bytes.len());
            // SAFETY: `data` checked that the range is inside the mapping. The consumer reads
            // only below `tail`, and this range is beyond it, so nobody else touches it now; a
            // peer that breaks the protocol can only change what bytes arrive.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        }

        /// The length word at place `at`.
        pub(in crate::ring) fn length(&self, at: usize) -> u32 {
            let place = self.data(at, 4).cast::<u32>();
            // SAFETY: as in `read`; records start at multiples of 8, so the word is aligned.
            u32::from_le(unsafe { place.read() })
        }

        /// Appends `len` bytes from place `at` to `out`.
        pub(in crate::ring) fn read(&self, at: usize, len: usize, out: &mut Vec<u8>) {
            out.reserve(len);
            let place = self.data(at, len);
            // SAFETY: `data` checked the range, `reserve` made room for it, and the producer
            // leaves the range alone until `head` has passed it. The bytes are plain memory; a
            // peer that breaks the protocol can only change what bytes we copy.
            unsafe {
                std::ptr::copy_nonoverlapping(place, out.as_mut_ptr().add(out.len()), len);
                out.set_len(out.len() + len);
            }
        }
    }
}

#[cfg(loom)]
pub(crate) use modelled::Memory;

#[cfg(loom)]
mod modelled {
    use std::sync::Arc;

    use loom::cell::Cell;

    use super::Header;

    /// A ring on the heap, each word of data a loom cell, so that loom sees every race on it.
    #[derive(Clone)]
    pub(crate) struct Memory {
        header: Arc<Header>,
        cells: Arc<Vec<Cell<u8>>>,
    }

    // SAFETY: loom itself reports any two accesses to a cell that are not ordered.
    unsafe impl Send for Memory {}

    impl Memory {
        pub(crate) fn heap(capacity: usize) -> Self {
            let cells = (0..capacity).map(|_| Cell::new(0)).collect();
            Self { header: Arc::default(), cells: Arc::new(cells) }
        }

        pub(in crate::ring) fn capacity(&self) -> usize {
            self.cells.len()
        }

        pub(in crate::ring) fn header(&self) -> &Header {
            &self.header
        }

        pub(in crate::ring) fn write(&self, at: usize, bytes: &[u8]) {
            for (cell, byte) in self.cells[at..at + bytes.len()].iter().zip(bytes) {
                cell.set(*byte);
            }
        }

        pub(in crate::ring) fn read(&self, at: usize, len: usize, out: &mut Vec<u8>) {
            out.extend(self.cells[at..at + len].iter().map(Cell::get));
        }

        pub(in crate::ring) fn length(&self, at: usize) -> u32 {
            u32::from_le_bytes(std::array::from_fn(|i| self.cells[at + i].get()))
        }
    }
}
