//! The link between a parent and one worker: a ring each way, a socket for descriptors, and a few words about what the worker is doing.
//!
//! Nothing here is shared with another worker, so a worker that is killed at any instruction
//! harms its own link only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::descriptors::{DescriptorWriter, Received};
use super::mail::Mail;
use super::message::{Head, Kind, Layout, Message, OwnedPayload, Payload, Wire};
use super::slab::SlabWriter;
use crate::memory::{Descriptor, Segment};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::ring::{Consumer, Memory, Producer};
use crate::sync::Doorbell;
use crate::sys::socket;
use crate::{Error, Result};

/// Bytes of data in each ring: small enough to stay in a core's cache.
const RING: usize = 256 << 10;

/// Longer messages travel in a slab.
const INLINE: usize = 32 << 10;

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
    /// The last task that the worker has started, 0 before the first. Stored before the task's
    /// record is released.
    started: AtomicU64,
    /// The item of that task that it is at.
    item: AtomicU32,
}

/// The side of a link that sends.
struct Sender {
    ring: Producer,
    slabs: SlabWriter,
    descriptors: DescriptorWriter,
    /// Where the ring was when the other side was last asked to take in what is on the socket.
    asked: u64,
}

impl Sender {
    /// If there is a hall, its supervisor is woken when a descriptor that was sent has ended.
    fn new(ring: Memory, socket: Arc<OwnedFd>, hall: Option<Hall>) -> Self {
        let slabs = SlabWriter::new(Arc::clone(&socket));
        let descriptors = DescriptorWriter::new(socket, hall);
        Self { ring: Producer::new(ring), slabs, descriptors, asked: 0 }
    }

    /// Sends a message; false if there is no room for it now.
    fn send(&mut self, head: Head, payload: &Payload<'_>) -> Result<bool> {
        let body = payload.body.iter().map(|part| part.len()).sum();
        let lengths = payload.buffers.iter().map(|buffer| buffer.len());
        let layout = Layout::of(body, lengths, payload.descriptors.len())
            .ok_or_else(|| Error::misuse("a message of more than 2^64 bytes"))?;
        let wire = Wire {
            head,
            slab: 0,
            body: body as u64,
            buffers: payload.buffers.len() as u64,
            descriptors: payload.descriptors.len() as u64,
            len: layout.len as u64,
        };
        if !payload.descriptors.is_empty() && !self.send_descriptors(payload)? {
            return Ok(false);
        }
        if layout.len <= INLINE && payload.buffers.is_empty() {
            return Ok(self.send_inline(&wire, payload));
        }
        self.send_in_slab(wire, payload, &layout)
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
    fn release_descriptors(&mut self) -> bool {
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
    fn answer(&mut self, reply: &Reply) {
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
        let table = table(payload);
        let pieces = pieces(&table, payload, layout);
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
            let record = [&head, table(payload).as_slice(), &payload.body.concat()].concat();
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

/// What a message begins with: the lengths of its buffers and the names of its descriptors.
fn table(payload: &Payload<'_>) -> Vec<u8> {
    let lengths = payload.buffers.iter().map(|buffer| buffer.len() as u64);
    let names = payload.descriptors.iter().map(Descriptor::id);
    lengths.chain(names).flat_map(u64::to_le_bytes).collect()
}

/// The parts of a message with their places in its slab.
fn pieces<'a>(table: &'a [u8], payload: &Payload<'a>, layout: &Layout) -> Vec<(usize, &'a [u8])> {
    let mut pieces = vec![(0, table)];
    let mut at = layout.body;
    for part in payload.body {
        pieces.push((at, part));
        at += part.len();
    }
    pieces.extend(layout.buffers.iter().copied().zip(payload.buffers.iter().copied()));
    pieces
}

/// The side of a link that receives.
struct Receiver {
    ring: Consumer,
    mail: Mail,
    /// The record that was last looked at.
    record: Vec<u8>,
    /// What the sender of the same side has to be told.
    replies: Vec<Reply>,
}

/// What a receiver wants its own side's sender to do.
enum Reply {
    /// Say that a descriptor was lost on the way.
    Lost(u64),
    /// Send a descriptor again when it is needed.
    SendAgain(u64),
    /// Say that there is room on the socket.
    TakenIn,
}

impl Receiver {
    /// The next message, still in the ring until `release`.
    fn peek(&mut self) -> Result<Option<Message>> {
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
        let mut message = if wire.slab == 0 {
            Message::own(wire, std::mem::take(&mut self.record), Wire::LEN)?
        } else {
            let len =
                usize::try_from(wire.len).map_err(|_| Error::corrupt("the length of a message"))?;
            Message::leased(wire, self.mail.lease(wire.slab, len)?)?
        };
        if wire.descriptors > 0 {
            let names = message.names().into_iter();
            message
                .set_descriptors(names.map(|name| self.descriptor(name)).collect::<Result<_>>()?);
        }
        Ok(message)
    }

    fn descriptor(&mut self, name: u64) -> Result<Received> {
        let received = self.mail.descriptor(name)?;
        if received.is_lost() {
            self.replies.push(Reply::Lost(name));
        }
        Ok(received)
    }

    fn next(&mut self) -> Result<Option<Message>> {
        let message = self.peek()?;
        if message.is_some() {
            self.ring.release();
        }
        Ok(message)
    }
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
        let (ours, theirs) = socket::pair()?;
        let ours = Arc::new(ours);
        let (tasks, results) = rings(&segment);
        let sender = Sender::new(tasks.clone(), Arc::clone(&ours), Some(hall.clone()));
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

    /// The last task that the worker has started, 0 if none.
    pub(crate) fn started(&self) -> u64 {
        // Acquire: pairs with the release store in `WorkerEnd::start`.
        control(&self.segment).started.load(Ordering::Acquire)
    }

    /// The item of its task that the worker is or was at.
    pub(crate) fn item(&self) -> u32 {
        // Relaxed: a number for people, read after the worker's death.
        control(&self.segment).item.load(Ordering::Relaxed)
    }

    /// The tasks that a dead worker has not started, in order, without their descriptors.
    ///
    /// The worker stores `started` before it releases a record, so each of them is still whole in
    /// the ring.
    pub(crate) fn unstarted(&mut self) -> Result<Vec<(Head, OwnedPayload)>> {
        let started = self.started();
        let mut ring = Consumer::new(self.tasks.clone());
        let mut record = Vec::new();
        let mut tasks = Vec::new();
        while ring.pop(&mut record)? {
            let wire = Wire::decode(&record)?;
            if wire.head.kind == Kind::Task && wire.head.task > started {
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

impl Receiver {
    fn new(ring: Memory, socket: Arc<OwnedFd>) -> Self {
        let (ring, mail) = (Consumer::new(ring), Mail::new(socket));
        Self { ring, mail, record: Vec::new(), replies: Vec::new() }
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
        let socket = Arc::new(seat.socket);
        let (tasks, results) = rings(&segment);
        let sender = Sender::new(results, Arc::clone(&socket), None);
        let receiver = Receiver::new(tasks, socket);
        Ok(Self { segment, hall: Hall::from_fd(seat.hall)?, sender, receiver })
    }

    /// The next message of the parent; a task is started by this.
    pub(crate) fn receive(&mut self) -> Result<Option<Message>> {
        let before = self.sender.ring.position();
        self.sender.release_descriptors();
        let message = self.receiver.peek()?;
        for reply in self.receiver.replies.drain(..) {
            self.sender.answer(&reply);
        }
        if self.sender.ring.position() != before {
            self.hall.front().ring();
        }
        if let Some(message) = &message {
            if message.head.kind == Kind::Task {
                self.start(message.head.task);
            }
            self.receiver.ring.release();
        }
        Ok(message)
    }

    fn start(&self, task: u64) {
        let control = control(&self.segment);
        control.item.store(0, Ordering::Relaxed);
        // Release: pairs with the acquire load in `ParentEnd::started`; and the record is
        // released only after this, by another release store.
        control.started.store(task, Ordering::Release);
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
            self.hall.front().ring();
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

/// Where the parent of a pool sleeps, shared with all of its workers: only bells, whose ringing
/// is never more than a hint.
#[derive(Clone)]
pub(crate) struct Hall {
    segment: Segment,
}

#[repr(C)]
struct Bells {
    /// The thread that attends to the pool sleeps here.
    front: Doorbell,
    _front: [u64; 15],
    /// The supervisor sleeps here.
    back: Doorbell,
    _back: [u64; 15],
    /// 1 while a thread attends to the pool.
    attended: AtomicU32,
}

impl Hall {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { segment: Segment::new(size_of::<Bells>())? })
    }

    fn from_fd(fd: OwnedFd) -> Result<Self> {
        let mut segment = Segment::from_fd(fd)?;
        drop(segment.take_fd());
        Ok(Self { segment })
    }

    fn fd(&self) -> Result<OwnedFd> {
        let fd = self.segment.fd().ok_or_else(|| Error::closed("the hall"))?;
        fd.try_clone_to_owned().map_err(|e| Error::os("copy a descriptor", e))
    }

    fn bells(&self) -> &Bells {
        // SAFETY: parent and workers use this segment as these atomics in zeroed memory.
        unsafe { self.segment.at(0) }
    }

    pub(crate) fn front(&self) -> &Doorbell {
        &self.bells().front
    }

    pub(crate) fn back(&self) -> &Doorbell {
        &self.bells().back
    }

    /// Whether a thread of the parent attends to the pool, so that the supervisor need not.
    pub(crate) fn is_attended(&self) -> bool {
        // SeqCst: with the fences of `Doorbell` and `set_attended`, either the worker sees that
        // nobody attends any more, or the one who leaves sees the worker's result.
        self.bells().attended.load(Ordering::SeqCst) != 0
    }

    pub(crate) fn set_attended(&self, attended: bool) {
        // SeqCst: see `is_attended`.
        self.bells().attended.store(attended.into(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
