//! Private parts for the benchmarks in `benches`; no part of the API.

use crate::Result;
use crate::memory::Segment;
use crate::ring::{Consumer, Memory, Producer};

/// The side of a ring that writes.
pub struct RingWriter(Producer);

/// The side of a ring that reads.
pub struct RingReader(Consumer);

/// A ring in shared memory of its own, with so many bytes of room.
///
/// # Errors
///
/// There is no memory.
pub fn ring(capacity: usize) -> Result<(RingWriter, RingReader)> {
    let segment = Segment::new(Memory::size(capacity))?;
    let memory = || Memory::new(segment.clone(), 0, capacity);
    Ok((RingWriter(Producer::new(memory())), RingReader(Consumer::new(memory()))))
}

impl RingWriter {
    /// Publishes one record; false if there is no room now.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        self.0.push(&[bytes])
    }
}

impl RingReader {
    /// Takes the next record; false if there is none.
    ///
    /// # Errors
    ///
    /// The ring is damaged.
    #[inline]
    pub fn pop(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        self.0.pop(out)
    }
}
