//! What crosses a link's socket: the descriptors of slabs and those that go with messages.
//!
//! A descriptor crosses before the first record that names it is published, so whoever reads such
//! a record finds it on the socket, or has taken it in before.

use std::os::fd::BorrowedFd;

use super::descriptors::{DescriptorReader, Received};
use super::slab::{Lease, SlabReader};
use crate::memory::Descriptor;
use crate::sys::socket;
use crate::{Error, Result};

/// The most descriptors of one letter.
pub(super) const MOST: usize = socket::MAX_FDS;

/// What the descriptors of a letter are. It begins with this, as a word; their names follow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Slab = 1,
    Descriptors = 2,
    /// Descriptors that forked children must not have.
    Private = 3,
}

/// Sends descriptors with their names; false if the other side has not made room yet.
pub(super) fn send(
    socket: &Descriptor,
    content: Content,
    ids: &[u64],
    fds: &[BorrowedFd<'_>],
) -> Result<bool> {
    let words = [content as u64].into_iter().chain(ids.iter().copied());
    let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    socket::try_send(socket, &bytes, fds)
}

/// The receiving side of a link's socket. No forked child has a copy of a link's socket: what is
/// under way when the link ends would stay open for as long as the child lives.
pub(super) struct Mail {
    socket: Descriptor,
    slabs: SlabReader,
    descriptors: DescriptorReader,
}

impl Mail {
    pub(super) fn new(socket: Descriptor) -> Self {
        Self { socket, slabs: SlabReader::default(), descriptors: DescriptorReader::default() }
    }

    /// The first `len` bytes of a slab's data, which the record just received has leased to us.
    pub(super) fn lease(&mut self, slab: u64, len: usize) -> Result<Lease> {
        while !self.slabs.has(slab) {
            self.take_in()?.ok_or_else(|| Error::corrupt("the name of a slab"))?;
        }
        self.slabs.lease(slab, len)
    }

    /// Forgets a slab that the other side will not use again; leases on it live on.
    pub(super) fn forget_slab(&mut self, slab: u64) {
        self.slabs.forget(slab);
    }

    /// The descriptor with this name. One that was lost on the way may have come again since.
    pub(super) fn descriptor(&mut self, id: u64) -> Result<Received> {
        while !self.descriptors.has(id) {
            if self.take_in()?.is_none() {
                break;
            }
        }
        self.descriptors.get(id).ok_or_else(|| Error::corrupt("the name of a descriptor"))
    }

    /// Forgets a descriptor that the other side will not name again.
    pub(super) fn forget_descriptor(&mut self, id: u64) {
        if !self.descriptors.forget(id) {
            // It is still on the socket: the record with it could not be published. Nonsense
            // there is seen by the next one who has to look.
            let _ = self.take_in_all();
            self.descriptors.forget(id);
        }
    }

    /// Takes in everything, so that there is room for more.
    pub(super) fn take_in_all(&mut self) -> Result<()> {
        while self.take_in()?.is_some() {}
        Ok(())
    }

    /// Takes in one letter; `None` if there is none.
    fn take_in(&mut self) -> Result<Option<()>> {
        let Some(letter) = socket::try_receive(&self.socket, 8 * (MOST + 1))? else {
            return Ok(None);
        };
        let (words, []) = letter.bytes.as_chunks::<8>() else {
            return Err(Error::corrupt("the length of a letter"));
        };
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        match words.as_slice() {
            [content, id] if *content == Content::Slab as u64 => {
                self.slabs.insert(*id, letter.fds.into_iter().next().ok_or_else(lost)?)?;
            }
            [content, ids @ ..] if *content == Content::Descriptors as u64 => {
                self.descriptors.insert_all(ids, letter.fds.into_iter().map(Descriptor::new));
            }
            [content, ids @ ..] if *content == Content::Private as u64 => {
                self.descriptors.insert_all(ids, letter.fds.into_iter().map(Descriptor::private));
            }
            _ => return Err(Error::corrupt("the content of a letter")),
        }
        Ok(Some(()))
    }
}

/// This process has too many descriptors open to take one more.
pub(super) fn lost() -> Error {
    Error::os("receive a descriptor", std::io::Error::from_raw_os_error(libc::EMFILE))
}
