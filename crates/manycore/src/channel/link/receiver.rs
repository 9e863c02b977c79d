//! The side of a link that receives.

use super::super::descriptors::Received;
use super::super::mail::Mail;
use super::super::message::{Head, Kind, Message, Wire};
use crate::memory::Descriptor;
use crate::ring::{Consumer, Memory};
use crate::{Error, Result};

/// The side of a link that receives.
pub(super) struct Receiver {
    pub(super) ring: Consumer,
    pub(super) mail: Mail,
    /// The record that was last looked at.
    record: Vec<u8>,
    /// What the sender of the same side has to be told.
    pub(super) replies: Vec<Reply>,
}

/// What a receiver wants its own side's sender to do.
pub(super) enum Reply {
    /// Say that a descriptor was lost on the way.
    Lost(u64),
    /// Send a descriptor again when it is needed.
    SendAgain(u64),
    /// Say that there is room on the socket.
    TakenIn,
}

impl Receiver {
    pub(super) fn new(ring: Memory, socket: Descriptor) -> Self {
        let (ring, mail) = (Consumer::new(ring), Mail::new(socket));
        Self { ring, mail, record: Vec::new(), replies: Vec::new() }
    }

    /// The next message, still in the ring until `release`.
    pub(super) fn peek(&mut self) -> Result<Option<Message>> {
        while self.ring.peek(&mut self.record)? {
            let wire = Wire::decode(&self.record)?;
            if !self.heed(wire.head)? {
                return self.open(&wire).map(Some);
            }
            self.ring.release();
        }
        Ok(None)
    }

    /// Does what the record says if it is about the link itself; false if it is not.
    fn heed(&mut self, Head { kind, task: name, .. }: Head) -> Result<bool> {
        match kind {
            Kind::Retire => self.mail.forget_slab(name),
            Kind::Release => self.mail.forget_descriptor(name),
            Kind::Lost => self.replies.push(Reply::SendAgain(name)),
            Kind::TakeIn => {
                self.mail.take_in_all()?;
                self.replies.push(Reply::TakenIn);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn open(&mut self, wire: &Wire) -> Result<Message> {
        let message = if wire.slab == 0 {
            Message::own(wire, std::mem::take(&mut self.record), Wire::LEN)?
        } else {
            let len =
                usize::try_from(wire.len).map_err(|_| Error::corrupt("the length of a message"))?;
            Message::leased(wire, self.mail.lease(wire.slab, len)?)?
        };
        if wire.descriptors == 0 {
            return Ok(message);
        }
        let names = message.names().into_iter();
        let descriptors = names.map(|name| self.descriptor(name)).collect::<Result<_>>()?;
        Ok(message.with_descriptors(descriptors))
    }

    fn descriptor(&mut self, name: u64) -> Result<Received> {
        let received = self.mail.descriptor(name)?;
        if received.is_lost() {
            self.replies.push(Reply::Lost(name));
        }
        Ok(received)
    }

    pub(super) fn next(&mut self) -> Result<Option<Message>> {
        let message = self.peek()?;
        if message.is_some() {
            self.ring.release();
        }
        Ok(message)
    }
}
