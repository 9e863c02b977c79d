#![doc = include_str!("README.md")]

mod memory;
#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use memory::Memory;

use crate::primitive::Ordering;
use crate::{Error, Result};

/// The length that stands for "go on at the beginning".
const WRAP: u32 = u32::MAX;

/// Bytes that a record of `len` bytes takes up: its length word, itself, padding.
fn footprint(len: usize) -> u64 {
    (4 + len).next_multiple_of(8) as u64
}

/// The side that writes.
pub(crate) struct Producer {
    memory: Memory,
    /// What `tail` holds: only this side writes it.
    tail: u64,
    /// What `head` held when it was last looked at; the true one can only be larger.
    head: u64,
}

impl Producer {
    pub(crate) fn new(memory: Memory) -> Self {
        Self { memory, tail: 0, head: 0 }
    }

    /// The longest record that always fits once the ring has been emptied.
    pub(crate) fn longest(&self) -> usize {
        self.memory.capacity() / 2 - 8
    }

    /// Writes one record made of `parts` and publishes it; false if there is no room now.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        debug_assert!(len <= self.longest());
        let Some(start) = self.reserve(footprint(len)) else { return false };
        let mut at = self.place(start);
        self.memory.write(at, &(len as u32).to_le_bytes());
        at += 4;
        for part in parts {
            self.memory.write(at, part);
            at += part.len();
        }
        self.publish(start + footprint(len));
        true
    }

    /// Where the consumer is; when this has changed there is more room.
    pub(crate) fn released(&self) -> u64 {
        self.load_head()
    }

    /// Where the next record goes: one that was pushed before has been taken once `released` is
    /// here.
    pub(crate) fn position(&self) -> u64 {
        self.tail
    }

    fn place(&self, position: u64) -> usize {
        (position % self.memory.capacity() as u64) as usize
    }

    /// Finds room for `size` bytes in one piece and says where it starts. Where the rest of the
    /// data is too short, the room starts after it, and the rest is marked.
    fn reserve(&mut self, size: u64) -> Option<u64> {
        let capacity = self.memory.capacity() as u64;
        let rest = capacity - self.tail % capacity;
        let skip = if rest < size { rest } else { 0 };
        if !self.has_room(skip + size) {
            return None;
        }
        if skip > 0 {
            self.memory.write(self.place(self.tail), &WRAP.to_le_bytes());
        }
        Some(self.tail + skip)
    }

    fn has_room(&mut self, size: u64) -> bool {
        let capacity = self.memory.capacity() as u64;
        if self.tail + size - self.head <= capacity {
            return true;
        }
        self.head = self.load_head();
        self.tail + size - self.head <= capacity
    }

    fn load_head(&self) -> u64 {
        // Acquire: pairs with the release store in `Consumer::release`, so that the consumer has
        // read the bytes before they are written over.
        let head = self.memory.header().head.position.load(Ordering::Acquire);
        // The peer may write nonsense; a head outside what was published counts as unmoved.
        if head > self.tail || head < self.head { self.head } else { head }
    }

    fn publish(&mut self, tail: u64) {
        self.tail = tail;
        // Release: pairs with the acquire load in `Consumer::available`; the bytes come first.
        self.memory.header().tail.position.store(tail, Ordering::Release);
    }
}

/// The side that reads.
pub(crate) struct Consumer {
    memory: Memory,
    /// What `head` holds: only this side writes it.
    head: u64,
    /// Where `head` goes when the record that was looked at is released.
    next: u64,
}

impl Consumer {
    pub(crate) fn new(memory: Memory) -> Self {
        // Relaxed: only this side writes it. Not 0 for the heir of a dead consumer.
        let head = memory.header().head.position.load(Ordering::Relaxed);
        Self { memory, head, next: head }
    }

    /// Where the next record is taken.
    pub(crate) fn position(&self) -> u64 {
        self.head
    }

    /// Whether there is a record to take.
    pub(crate) fn has_record(&self) -> bool {
        self.published() != self.head
    }

    /// Copies the next record to `out` and leaves it in the ring; false if there is none.
    ///
    /// # Errors
    ///
    /// The producer has written what cannot be a record.
    pub(crate) fn peek(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        out.clear();
        let available = self.available()?;
        if available == 0 {
            return Ok(false);
        }
        let (start, len) = self.find(available)?;
        self.memory.read(self.place(start) + 4, len, out);
        self.next = start + footprint(len);
        Ok(true)
    }

    /// Gives the place of the record that was looked at back to the producer.
    pub(crate) fn release(&mut self) {
        self.skip();
        // Release: pairs with the acquire load in `Producer::load_head`; our reads come first.
        self.memory.header().head.position.store(self.head, Ordering::Release);
    }

    /// Goes on to the record after the one that was looked at, and gives no place back: for a
    /// reader beside the consumer, which alone may say what was taken.
    pub(crate) fn skip(&mut self) {
        self.head = self.next;
    }

    /// Takes the next record: `peek` and `release` in one.
    ///
    /// # Errors
    ///
    /// As [`Self::peek`].
    pub(crate) fn pop(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        let found = self.peek(out)?;
        if found {
            self.release();
        }
        Ok(found)
    }

    fn published(&self) -> u64 {
        // Acquire: pairs with the release store in `Producer::publish`.
        self.memory.header().tail.position.load(Ordering::Acquire)
    }

    fn place(&self, position: u64) -> usize {
        (position % self.memory.capacity() as u64) as usize
    }

    fn available(&self) -> Result<u64> {
        let available = self.published().wrapping_sub(self.head);
        if available > self.memory.capacity() as u64 || !available.is_multiple_of(8) {
            return Err(Error::corrupt("a ring's position"));
        }
        Ok(available)
    }

    /// Where the next record starts, and its length, checked against what is published.
    fn find(&self, available: u64) -> Result<(u64, usize)> {
        let len = self.memory.length(self.place(self.head));
        let rest = (self.memory.capacity() - self.place(self.head)) as u64;
        if len != WRAP {
            return check(self.head, len, available.min(rest));
        }
        let available = available.checked_sub(rest).filter(|left| *left >= 8);
        let available = available.ok_or_else(|| Error::corrupt("a ring's wrap mark"))?;
        let start = self.head + rest;
        check(start, self.memory.length(self.place(start)), available)
    }
}

fn check(start: u64, len: u32, available: u64) -> Result<(u64, usize)> {
    if len == WRAP || footprint(len as usize) > available {
        return Err(Error::corrupt("a record's length"));
    }
    Ok((start, len as usize))
}
