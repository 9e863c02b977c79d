//! The side of a link that sends.

use super::super::descriptors::DescriptorWriter;
use super::super::hall::Hall;
use super::super::message::{Head, Kind, Layout, Payload, Wire};
use super::super::slab::SlabWriter;
use super::receiver::Reply;
use crate::memory::Descriptor;
use crate::ring::{Memory, Producer};
use crate::{Error, Result};

/// Longer messages travel in a slab.
const INLINE: usize = 32 << 10;

/// The side of a link that sends.
pub(super) struct Sender {
    pub(super) ring: Producer,
    pub(super) slabs: SlabWriter,
    pub(super) descriptors: DescriptorWriter,
    /// Where the ring was when the other side was last asked to take in what is on the socket.
    asked: u64,
    /// How many bytes the messages had.
    pub(super) sent: u64,
}

impl Sender {
    /// If there is a hall, its supervisor is woken when a descriptor that was sent has ended.
    pub(super) fn new(ring: Memory, socket: Descriptor, hall: Option<Hall>) -> Self {
        let slabs = SlabWriter::new(socket.clone());
        let descriptors = DescriptorWriter::new(socket, hall);
        Self { ring: Producer::new(ring), slabs, descriptors, asked: 0, sent: 0 }
    }

    /// Sends a message; false if there is no room for it now.
    pub(super) fn send(&mut self, head: Head, payload: &Payload<'_>) -> Result<bool> {
        let (wire, layout) =
            payload.plan(head).ok_or_else(|| Error::misuse("a message of more than 2^64 bytes"))?;
        if !payload.descriptors.is_empty() && !self.send_descriptors(payload)? {
            return Ok(false);
        }
        let sent = if layout.len <= INLINE && payload.buffers.is_empty() {
            self.send_inline(&wire, payload)
        } else {
            self.send_in_slab(wire, payload, &layout)?
        };
        if sent {
            self.sent += layout.len as u64;
        }
        Ok(sent)
    }

    /// Sends the descriptors that the other side does not have yet.
    fn send_descriptors(&mut self, payload: &Payload<'_>) -> Result<bool> {
        let sent = self.descriptors.send(payload.descriptors)?;
        // Nothing else that it has to read might make it look at the socket.
        if !sent && self.ring.released() >= self.asked && self.push_bare(Head::new(Kind::TakeIn)) {
            self.asked = self.ring.position();
        }
        Ok(sent)
    }

    fn push_bare(&mut self, head: Head) -> bool {
        self.ring.push(&[&Wire::bare(head).encode()])
    }

    /// Tells the other side of descriptors that have ended; whether there were any. If there is
    /// no room the rest waits for the next time: the other side has much to read anyway.
    pub(super) fn release_descriptors(&mut self) -> bool {
        let mut any = false;
        while let Some(id) = self.descriptors.next_end() {
            if !self.push_bare(Head { task: id, ..Head::new(Kind::Release) }) {
                break;
            }
            self.descriptors.told();
            any = true;
        }
        any
    }

    /// Does what the receiver of the same side wants.
    pub(super) fn answer(&mut self, reply: &Reply) {
        // Each may get lost in a full ring: then a lost descriptor stays lost, which costs tasks
        // an error, and who waits for room on the socket sees us read the ring.
        match reply {
            Reply::Lost(id) => {
                self.push_bare(Head { task: *id, ..Head::new(Kind::Lost) });
            }
            Reply::TakenIn => {
                self.push_bare(Head::new(Kind::TakenIn));
            }
            Reply::SendAgain(id) => self.descriptors.unknow(*id),
        }
    }

    fn send_in_slab(
        &mut self,
        mut wire: Wire,
        payload: &Payload<'_>,
        layout: &Layout,
    ) -> Result<bool> {
        let table = payload.table();
        let pieces = layout.pieces(&table, payload);
        let Some(slab) = self.slabs.write(layout.len, &pieces)? else { return Ok(false) };
        wire.slab = slab;
        let sent = self.ring.push(&[&wire.encode()]);
        if !sent {
            self.slabs.take_back(slab);
        }
        self.retire();
        Ok(sent)
    }

    fn send_inline(&mut self, wire: &Wire, payload: &Payload<'_>) -> bool {
        let head = wire.encode();
        if !payload.descriptors.is_empty() {
            let record = [&head, payload.table().as_slice(), &payload.body.concat()].concat();
            return self.ring.push(&[&record]);
        }
        match payload.body {
            [] => self.ring.push(&[&head]),
            [body] => self.ring.push(&[&head, body]),
            body => self.ring.push(&[&[head.as_slice()], body].concat()),
        }
    }

    fn retire(&mut self) {
        // At most one a message: enough to follow the demand down. If the ring is full the slab
        // is let go all the same, and the other side keeps its mapping until the link ends.
        if let Some(slab) = self.slabs.retire() {
            let head = Head { task: slab, ..Head::new(Kind::Retire) };
            self.push_bare(head);
        }
    }
}
