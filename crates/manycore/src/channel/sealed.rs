//! Messages that are written once and opened any number of times, in any number of processes.

use super::message::{Head, Kind, Message, Payload, Wire};
use crate::memory::{Descriptor, PrivateCopy, Sealed};
use crate::{Error, Result};

/// A message in sealed memory: the body and the buffers of a payload.
///
/// Each time that it is opened the receiver gets a copy that is its own to write to. Until then it
/// is the one memory that all share.
#[derive(Debug)]
pub struct SealedMessage {
    memory: Sealed,
}

impl SealedMessage {
    /// Copies a payload's bytes into sealed memory; its descriptors stay behind.
    ///
    /// # Errors
    ///
    /// The system is out of memory or descriptors.
    pub fn new(payload: &Payload<'_>) -> Result<Self> {
        let memory = with_pieces(payload, Sealed::write)?;
        Ok(Self { memory })
    }

    /// As [`Self::new`], but forked children do not inherit it.
    pub(crate) fn private(payload: &Payload<'_>) -> Result<Self> {
        let memory = with_pieces(payload, Sealed::write_private)?;
        Ok(Self { memory })
    }

    /// The message behind a descriptor that came from another process.
    ///
    /// # Errors
    ///
    /// It is no sealed memory.
    pub fn attach(descriptor: Descriptor) -> Result<Self> {
        Ok(Self { memory: Sealed::attach(descriptor)? })
    }

    /// The message, with bytes of the caller's own.
    ///
    /// # Errors
    ///
    /// There is no address space left, or the memory does not hold a message.
    pub fn open(&self) -> Result<Message> {
        let copy = self.memory.copy()?;
        let wire = Wire::decode(&head(&copy))?;
        Message::sealed(&wire, copy, Wire::LEN)
    }

    /// Whether it has the same bytes as a payload.
    ///
    /// # Errors
    ///
    /// There is no address space left.
    pub fn has_bytes_of(&self, payload: &Payload<'_>) -> Result<bool> {
        with_pieces(payload, |len, pieces| {
            if len != self.memory.len() {
                return Ok(false);
            }
            // Not kept: a forked child would inherit it.
            let original = self.memory.copy()?;
            Ok(pieces.iter().all(|(at, bytes)| same(&original, *at, bytes)))
        })
    }

    /// The memory that it lies in.
    #[must_use]
    pub fn memory(&self) -> &Sealed {
        &self.memory
    }
}

/// Calls `f` with the length of the whole message, its head included, and the parts with their
/// places.
fn with_pieces<R>(
    payload: &Payload<'_>,
    f: impl FnOnce(usize, &[(usize, &[u8])]) -> Result<R>,
) -> Result<R> {
    let payload = &Payload { descriptors: &[], ..*payload };
    let too_long = || Error::misuse("a message of more than 2^64 bytes");
    let (wire, layout) = payload.plan(Head::new(Kind::Define)).ok_or_else(too_long)?;
    let len = Wire::LEN.checked_add(layout.len).ok_or_else(too_long)?;
    let (head, table) = (wire.encode(), payload.table());
    let mut pieces = layout.pieces(&table, payload);
    pieces.iter_mut().for_each(|(at, _)| *at += Wire::LEN);
    pieces.insert(0, (0, &head));
    f(len, &pieces)
}

fn head(copy: &PrivateCopy) -> Vec<u8> {
    bytes(copy, 0, Wire::LEN.min(copy.len())).to_vec()
}

fn same(original: &PrivateCopy, at: usize, expected: &[u8]) -> bool {
    bytes(original, at, expected.len()) == expected
}

/// A part of a copy to which nobody writes.
fn bytes(copy: &PrivateCopy, at: usize, len: usize) -> &[u8] {
    assert!(at.checked_add(len).is_some_and(|end| end <= copy.len()));
    // SAFETY: the range is inside the mapping, which lives as long as the borrow; the copies that
    // this module looks at are not written to before it has done so.
    unsafe { std::slice::from_raw_parts(copy.as_ptr().add(at), len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[&[u8]] = &[b"in two ", b"pieces"];
    const BUFFERS: &[&[u8]] = &[&[1; 100], b"", &[3; 5000]];

    fn payload() -> Payload<'static> {
        Payload { body: BODY, buffers: BUFFERS, descriptors: &[] }
    }

    #[test]
    fn every_opening_gives_what_was_put_in() {
        let message = SealedMessage::new(&payload()).unwrap();
        let again = SealedMessage::attach(message.memory().descriptor().clone()).unwrap();
        let first = message.open().unwrap();
        for view in first.buffers().filter(|view| !view.is_empty()) {
            // SAFETY: this view is the only one of its bytes.
            unsafe { view.as_ptr().write_bytes(9, view.len()) };
        }
        for opened in [message.open().unwrap(), again.open().unwrap()] {
            assert_eq!(opened.body().to_vec(), b"in two pieces");
            assert!(opened.body().is_sealed() && !opened.body().is_leased());
            let buffers: Vec<_> = opened.buffers().map(|view| view.to_vec()).collect();
            assert_eq!(buffers, BUFFERS);
        }
    }

    #[test]
    fn it_is_told_from_others_by_its_bytes() {
        let message = SealedMessage::new(&payload()).unwrap();
        assert!(message.has_bytes_of(&payload()).unwrap());
        let joined = Payload { body: &[b"in two pieces"], ..payload() };
        assert!(message.has_bytes_of(&joined).unwrap());
        for other in [
            Payload { body: &[b"in two Pieces"], ..payload() },
            Payload { body: &[b"in two piece"], ..payload() },
            Payload { buffers: &[&[1; 100], b"", &[4; 5000]], ..payload() },
            Payload { buffers: &[&[1; 100], &[3; 5000], b""], ..payload() },
            Payload { buffers: &BUFFERS[1..], ..payload() },
        ] {
            assert!(!message.has_bytes_of(&other).unwrap());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let nonsense = Sealed::write(4, &[(0, b"none")]).unwrap();
        let message = SealedMessage::attach(nonsense.descriptor().clone()).unwrap();
        assert!(message.open().is_err());
        let long = Sealed::write(100, &[(0, &[255; 100])]).unwrap();
        assert!(SealedMessage::attach(long.descriptor().clone()).unwrap().open().is_err());
    }
}
