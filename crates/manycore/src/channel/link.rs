//! The link between a parent and one worker: a ring each way, a socket for descriptors, and a few
//! words about what the worker is doing.
//!
//! Nothing here is shared with another worker, so a worker that is killed at any instruction
//! harms its own link only.

mod receiver;
mod sender;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use self::receiver::Receiver;
use self::sender::Sender;
use super::hall::Hall;
use super::message::{Head, Kind, Message, OwnedPayload, Payload, Wire};
use crate::memory::{Descriptor, Segment};
use crate::primitive::{AtomicU32, Ordering};
use crate::ring::{Consumer, Memory};
use crate::sync::{Claims, Doorbell};
use crate::sys::socket;
use crate::{Error, Result};

/// Bytes of data in each ring: small enough to stay in a core's cache.
const RING: usize = 256 << 10;

const TASKS: usize = 4096;
const RESULTS: usize = TASKS + Memory::size(RING);
const SIZE: usize = RESULTS + Memory::size(RING);

/// What a worker says of itself outside the rings, where its parent can read it at any time and
/// after its death.
#[repr(C)]
struct Control {
    /// The worker sleeps here when it has no task or no room for a result.
    bell: Doorbell,
    _line: [u64; 15],
    /// A task is claimed before its record is released.
    claims: Claims,
    /// The item of the task started last that it is at.
    item: AtomicU32,
}

/// What a worker process needs to find its end of the link.
#[derive(Debug)]
pub struct Seat {
    link: OwnedFd,
    socket: OwnedFd,
    hall: OwnedFd,
}

impl Seat {
    /// The descriptors to hand to the worker, in the order in which [`Seat::from_fds`] takes them.
    #[must_use]
    pub fn fds(&self) -> [BorrowedFd<'_>; 3] {
        [self.link.as_fd(), self.socket.as_fd(), self.hall.as_fd()]
    }

    /// The seat in the worker, from the descriptors that arrived there.
    #[must_use]
    pub fn from_fds([link, socket, hall]: [OwnedFd; 3]) -> Self {
        Self { link, socket, hall }
    }

    /// The descriptors, given away.
    #[must_use]
    pub fn into_fds(self) -> [OwnedFd; 3] {
        [self.link, self.socket, self.hall]
    }
}

/// The parent's end.
pub(crate) struct ParentEnd {
    segment: Segment,
    sender: Sender,
    receiver: Receiver,
    /// The task ring once more, to read what a dead worker has left in it.
    tasks: Memory,
}

fn rings(segment: &Segment) -> (Memory, Memory) {
    let ring = |offset| Memory::new(segment.clone(), offset, RING);
    (ring(TASKS), ring(RESULTS))
}

fn control(segment: &Segment) -> &Control {
    // SAFETY: both ends use the beginning of a link's segment as its control words, which are
    // atomics in zeroed memory.
    unsafe { segment.at(0) }
}

impl ParentEnd {
    /// Makes a link whose worker belongs to the pool with this hall.
    pub(crate) fn new(hall: &Hall) -> Result<(Self, Seat)> {
        let mut segment = Segment::new(SIZE)?;
        let link = segment.take_fd().ok_or_else(|| Error::closed("a new segment"))?;
        segment.keep_from_forks()?;
        let (ours, theirs) = Descriptor::make_private(socket::pair)?;
        let (tasks, results) = rings(&segment);
        let sender = Sender::new(tasks.clone(), ours.clone(), Some(hall.clone()));
        let receiver = Receiver::new(results, ours);
        let seat = Seat { link, socket: theirs, hall: hall.fd()? };
        Ok((Self { segment, sender, receiver, tasks }, seat))
    }

    /// Sends a message and wakes the worker if it sleeps; false if there is no room now.
    pub(crate) fn send(&mut self, head: Head, payload: &Payload<'_>) -> Result<bool> {
        let before = self.sender.ring.position();
        let sent = self.sender.send(head, payload)?;
        // Without the message there may be a request to make room for it.
        if self.sender.ring.position() != before {
            control(&self.segment).bell.ring();
        }
        Ok(sent)
    }

    /// The next message of the worker.
    pub(crate) fn receive(&mut self) -> Result<Option<Message>> {
        let before = self.receiver.ring.position();
        let message = self.receiver.next()?;
        for reply in self.receiver.replies.drain(..) {
            self.sender.answer(&reply);
        }
        if self.receiver.ring.position() != before {
            // The worker may wait for the room that is free now.
            control(&self.segment).bell.ring();
        }
        Ok(message)
    }

    /// How many bytes the messages had that were sent to the worker.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.sender.sent
    }

    /// Whether descriptors have ended that the worker may have.
    pub(crate) fn has_ended_descriptors(&self) -> bool {
        self.sender.descriptors.has_news()
    }

    /// Tells the worker of descriptors that have ended, so that it lets go of them.
    pub(crate) fn release_descriptors(&mut self) {
        if self.sender.release_descriptors() {
            control(&self.segment).bell.ring();
        }
    }

    pub(crate) fn has_message(&self) -> bool {
        self.receiver.ring.has_record()
    }

    /// Whether the worker sleeps, so that a task would have to wake it.
    pub(crate) fn is_parked(&self) -> bool {
        control(&self.segment).bell.is_parked()
    }

    /// The last task that the worker has started, 0 if none.
    pub(crate) fn started(&self) -> u64 {
        control(&self.segment).claims.started()
    }

    /// The item of its task that the worker is or was at.
    pub(crate) fn item(&self) -> u32 {
        // Relaxed: a number for people, read after the worker's death.
        control(&self.segment).item.load(Ordering::Relaxed)
    }

    /// Takes all tasks back that the worker has not started, of which `last` was sent last. Gives
    /// them in order, without their descriptors; `None` if there are none, or if it has yet to see
    /// those of the last time.
    pub(crate) fn take_back(&mut self, last: u64) -> Result<Option<Vec<(Head, OwnedPayload)>>> {
        // Before the claim: the worker passes what was taken back, and then it would be too late.
        let ring = Consumer::new(self.tasks.clone());
        let before = control(&self.segment).claims.take_back(last);
        before.map(|before| self.tasks_after(before, ring)).transpose()
    }

    /// Whether the worker has seen all that was taken back. It rings when nothing is left to see.
    pub(crate) fn has_settled_claims(&self) -> bool {
        control(&self.segment).claims.are_settled()
    }

    /// The tasks that a dead worker has not started, in order, without their descriptors. Some
    /// may have been taken back before.
    pub(crate) fn unstarted(&mut self) -> Result<Vec<(Head, OwnedPayload)>> {
        self.tasks_after(self.started(), Consumer::new(self.tasks.clone()))
    }

    /// The tasks behind one, read from a place before them. The worker claims a task before it
    /// releases the record, and only this side writes over what was released, so each of them is
    /// still whole. A living worker goes on reading, so nothing is released here.
    fn tasks_after(&self, before: u64, mut ring: Consumer) -> Result<Vec<(Head, OwnedPayload)>> {
        let mut record = Vec::new();
        let mut tasks = Vec::new();
        while ring.peek(&mut record)? {
            ring.skip();
            let wire = Wire::decode(&record)?;
            if wire.head.kind == Kind::Task && wire.head.task > before {
                tasks.push((wire.head, self.recover(&wire, &record)?));
            }
        }
        Ok(tasks)
    }

    fn recover(&self, wire: &Wire, record: &[u8]) -> Result<OwnedPayload> {
        let data = match wire.slab {
            0 => record[Wire::LEN..].to_vec(),
            slab => self.sender.slabs.copy(slab, wire.len as usize)?,
        };
        Ok(Message::own(wire, data, 0)?.to_payload())
    }
}

/// The worker's end.
pub(crate) struct WorkerEnd {
    segment: Segment,
    hall: Hall,
    sender: Sender,
    receiver: Receiver,
}

impl WorkerEnd {
    pub(crate) fn new(seat: Seat) -> Result<Self> {
        let mut segment = Segment::from_fd(seat.link)?;
        drop(segment.take_fd());
        if segment.len() != SIZE {
            return Err(Error::corrupt("the size of a link"));
        }
        let socket = Descriptor::private(seat.socket);
        let (tasks, results) = rings(&segment);
        let sender = Sender::new(results, socket.clone(), None);
        let receiver = Receiver::new(tasks, socket);
        Ok(Self { segment, hall: Hall::from_fd(seat.hall)?, sender, receiver })
    }

    /// The next message of the parent; a task is started by this.
    pub(crate) fn receive(&mut self) -> Result<Option<Message>> {
        let before = self.sender.ring.position();
        let message = self.next_claimed()?;
        for reply in self.receiver.replies.drain(..) {
            self.sender.answer(&reply);
        }
        // After the look: what the parent has let go of may be what it has from here.
        self.sender.release_descriptors();
        if self.sender.ring.position() != before {
            self.hall.front().ring();
        }
        Ok(message)
    }

    /// The next message that is not a task which the parent has taken back.
    fn next_claimed(&mut self) -> Result<Option<Message>> {
        while let Some(message) = self.receiver.peek()? {
            let claimed = message.head.kind != Kind::Task || self.start(message.head.task);
            self.receiver.ring.release();
            if claimed {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    fn start(&self, task: u64) -> bool {
        let control = control(&self.segment);
        control.item.store(0, Ordering::Relaxed);
        control.claims.start(task)
    }

    /// Says which item of its task the worker is at.
    pub(crate) fn at_item(&self, item: u32) {
        control(&self.segment).item.store(item, Ordering::Relaxed);
    }

    /// Sends a message; false if there is no room now.
    pub(crate) fn send(&mut self, head: Head, payload: &Payload<'_>) -> Result<bool> {
        let before = self.sender.ring.position();
        let sent = self.sender.send(head, payload)?;
        // Without the message there may be a request to make room for it.
        if self.sender.ring.position() != before {
            self.hall.front().nudge();
        }
        Ok(sent)
    }

    pub(crate) fn has_message(&self) -> bool {
        self.receiver.ring.has_record()
    }

    /// How far the parent has read; when this has changed there may be room.
    pub(crate) fn released(&self) -> u64 {
        self.sender.ring.released()
    }

    pub(crate) fn bell(&self) -> &Doorbell {
        &control(&self.segment).bell
    }

    pub(crate) fn hall(&self) -> &Hall {
        &self.hall
    }
}
