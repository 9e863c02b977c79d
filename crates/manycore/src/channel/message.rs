//! What travels over a link: a head, a body and any number of buffers.

use std::ops::Range;
use std::sync::Arc;

use super::descriptors::Received;
use super::slab::Lease;
use crate::memory::{Descriptor, PrivateCopy};
use crate::sys::memory::check_room;
use crate::{Error, Result};

/// Buffers begin at multiples of this within a message.
const ALIGN: usize = 64;

/// Borrowed bytes of a message to send: the body in pieces, and buffers that stay apart from it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Payload<'a> {
    /// The body; the receiver gets the pieces joined.
    pub body: &'a [&'a [u8]],
    /// The buffers; the receiver gets each as it is.
    pub buffers: &'a [&'a [u8]],
    /// Descriptors that the receiver gets, each under its name here; in no particular order and
    /// each once.
    pub descriptors: &'a [Descriptor],
}

impl Payload<'_> {
    /// A head for the message that says how long its parts are, and where they lie after it;
    /// `None` if there is no number for that.
    pub(super) fn plan(&self, head: Head) -> Option<(Wire, Layout)> {
        let body = self.body.iter().map(|part| part.len()).sum();
        let lengths = self.buffers.iter().map(|buffer| buffer.len());
        let layout = Layout::of(body, lengths, self.descriptors.len())?;
        let wire = Wire {
            head,
            slab: 0,
            body: body as u64,
            buffers: self.buffers.len() as u64,
            descriptors: self.descriptors.len() as u64,
            len: layout.len as u64,
        };
        Some((wire, layout))
    }

    /// What the message begins with: the lengths of its buffers and the names of its descriptors.
    pub(super) fn table(&self) -> Vec<u8> {
        let lengths = self.buffers.iter().map(|buffer| buffer.len() as u64);
        let names = self.descriptors.iter().map(Descriptor::id);
        lengths.chain(names).flat_map(u64::to_le_bytes).collect()
    }

    /// Copies everything, for a message that has to wait.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
    pub fn to_owned(&self) -> Result<OwnedPayload> {
        let buffers = self.buffers.iter().map(|buffer| joined(&[buffer]));
        Ok(OwnedPayload {
            body: joined(self.body)?,
            buffers: buffers.collect::<Result<_>>()?,
            descriptors: self.descriptors.to_vec(),
        })
    }
}

/// A copy of all pieces, one after the other.
fn joined(pieces: &[&[u8]]) -> Result<Vec<u8>> {
    let len = pieces.iter().map(|piece| piece.len()).sum();
    let mut bytes = Vec::new();
    check_room("a task that waits", len)?;
    bytes.try_reserve_exact(len).map_err(|_| Error::no_memory("a task that waits", len, None))?;
    pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
    Ok(bytes)
}

/// A message to send that owns its bytes, and keeps its descriptors open.
#[derive(Clone, Debug, Default)]
pub struct OwnedPayload {
    body: Vec<u8>,
    buffers: Vec<Vec<u8>>,
    descriptors: Vec<Descriptor>,
}

impl OwnedPayload {
    /// A message with a body and no buffers.
    #[must_use]
    pub fn from_body(body: Vec<u8>) -> Self {
        Self { body, ..Self::default() }
    }

    /// The message with these descriptors.
    #[must_use]
    pub fn with_descriptors(self, descriptors: Vec<Descriptor>) -> Self {
        Self { descriptors, ..self }
    }

    /// Calls `f` with the bytes, borrowed.
    pub fn with<R>(&self, f: impl FnOnce(&Payload<'_>) -> R) -> R {
        let buffers: Vec<&[u8]> = self.buffers.iter().map(Vec::as_slice).collect();
        let descriptors = &self.descriptors;
        f(&Payload { body: &[&self.body], buffers: &buffers, descriptors })
    }
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// To a worker: the body of a function.
    Define = 1,
    /// To a worker: forget a function.
    Forget = 2,
    /// To a worker: run a task.
    Task = 3,
    /// To a worker: leave.
    Exit = 4,
    /// Either way: a slab will not be used again.
    Retire = 5,
    /// From a worker: it can take tasks.
    Ready = 6,
    /// From a worker: it cannot take tasks, and why.
    Refused = 7,
    /// From a worker: a task's result.
    Returned = 8,
    /// From a worker: a task's exception.
    Raised = 9,
    /// Either way: a descriptor will not be named again.
    Release = 10,
    /// Either way: a descriptor was lost on the way and has to be sent again.
    Lost = 11,
    /// Either way: the socket is full; take in what is there.
    TakeIn = 12,
    /// From a worker: it has taken in what was on the socket.
    TakenIn = 13,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Self> {
        use Kind::{
            Define, Exit, Forget, Lost, Raised, Ready, Refused, Release, Retire, Returned, TakeIn,
            TakenIn, Task,
        };
        [
            Define, Forget, Task, Exit, Retire, Ready, Refused, Returned, Raised, Release, Lost,
            TakeIn, TakenIn,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
        .ok_or_else(|| Error::corrupt("the kind of a message"))
    }
}

/// The fixed part of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// Opaque to the engine: the face's own kind of task or result.
    pub(crate) tag: u8,
    /// With a task: somebody wants its result even if nobody waits for it.
    pub(crate) urgent: bool,
    /// The function that the message is about.
    pub(crate) function: u32,
    /// Which of the worker's tasks, counted from 1; for `Retire`, the slab; for `Release` and
    /// `Lost`, the descriptor.
    pub(crate) task: u64,
    /// With a task: the number of its job. With a result: how long it ran, in nanoseconds.
    pub(crate) value: u64,
}

impl Head {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, tag: 0, urgent: false, function: 0, task: 0, value: 0 }
    }
}

/// A head as it lies in the ring, with what the receiver needs to find the bytes.
pub(super) struct Wire {
    pub(super) head: Head,
    /// The slab that holds the bytes; 0 if they follow in the ring.
    pub(super) slab: u64,
    /// The length of the body, the number of buffers, the number of descriptors, and the length
    /// of everything.
    pub(super) body: u64,
    pub(super) buffers: u64,
    pub(super) descriptors: u64,
    pub(super) len: u64,
}

impl Wire {
    pub(super) const LEN: usize = 64;

    /// A message without body and buffers.
    pub(super) fn bare(head: Head) -> Self {
        Self { head, slab: 0, body: 0, buffers: 0, descriptors: 0, len: 0 }
    }

    pub(super) fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = self.head.kind as u8;
        bytes[1] = self.head.tag;
        bytes[2] = self.head.urgent.into();
        bytes[4..8].copy_from_slice(&self.head.function.to_le_bytes());
        let Head { task, value, .. } = self.head;
        let words = [task, value, self.slab, self.body, self.buffers, self.descriptors, self.len];
        for (place, word) in bytes[8..].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let bytes: &[u8; Self::LEN] =
            bytes.first_chunk().ok_or_else(|| Error::corrupt("the head of a message"))?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[8 + at * 8 + i]));
        let function = u32::from_le_bytes(std::array::from_fn(|i| bytes[4 + i]));
        let kind = Kind::from_byte(bytes[0])?;
        let urgent = bytes[2] != 0;
        let head = Head { kind, tag: bytes[1], urgent, function, task: word(0), value: word(1) };
        let (slab, body, buffers) = (word(2), word(3), word(4));
        Ok(Self { head, slab, body, buffers, descriptors: word(5), len: word(6) })
    }
}

/// Where the parts of a message lie, counted from the end of its head: the lengths of the
/// buffers and the names of the descriptors (8 bytes each), the body, the buffers.
pub(super) struct Layout {
    pub(super) body: usize,
    pub(super) buffers: Vec<usize>,
    pub(super) len: usize,
}

impl Layout {
    pub(super) fn of(
        body: usize,
        buffers: impl ExactSizeIterator<Item = usize>,
        descriptors: usize,
    ) -> Option<Self> {
        let start = buffers.len().checked_add(descriptors)?.checked_mul(8)?;
        let mut len = start.checked_add(body)?;
        let mut places = Vec::new();
        for buffer in buffers {
            let place = len.checked_next_multiple_of(ALIGN)?;
            len = place.checked_add(buffer)?;
            places.push(place);
        }
        Some(Self { body: start, buffers: places, len })
    }

    /// The parts of a message, the table among them, with their places.
    pub(super) fn pieces<'a>(
        &self,
        table: &'a [u8],
        payload: &Payload<'a>,
    ) -> Vec<(usize, &'a [u8])> {
        let mut pieces = vec![(0, table)];
        let mut at = self.body;
        for part in payload.body {
            pieces.push((at, part));
            at += part.len();
        }
        pieces.extend(self.buffers.iter().copied().zip(payload.buffers.iter().copied()));
        pieces
    }
}

/// A received message. Its bytes are this process's own until it is dropped.
#[derive(Clone, Debug)]
pub struct Message {
    pub(crate) head: Head,
    data: Arc<Data>,
    body: Range<usize>,
    buffers: Vec<Range<usize>>,
    names: Range<usize>,
    descriptors: Vec<Received>,
}

#[derive(Debug)]
enum Data {
    Own { bytes: Vec<u8> },
    Leased(Lease),
    Sealed(PrivateCopy),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::Own { bytes } => bytes.len(),
            Self::Leased(lease) => lease.len(),
            Self::Sealed(copy) => copy.len(),
        }
    }
}

impl Message {
    pub(super) fn own(wire: &Wire, bytes: Vec<u8>, start: usize) -> Result<Self> {
        Self::new(wire, Data::Own { bytes }, start)
    }

    pub(super) fn leased(wire: &Wire, lease: Lease) -> Result<Self> {
        Self::new(wire, Data::Leased(lease), 0)
    }

    pub(super) fn sealed(wire: &Wire, copy: PrivateCopy, start: usize) -> Result<Self> {
        Self::new(wire, Data::Sealed(copy), start)
    }

    fn new(wire: &Wire, data: Data, start: usize) -> Result<Self> {
        let corrupt = || Error::corrupt("the lengths in a message");
        let count = usize::try_from(wire.buffers).map_err(|_| corrupt())?;
        let named = usize::try_from(wire.descriptors).map_err(|_| corrupt())?;
        let body = usize::try_from(wire.body).map_err(|_| corrupt())?;
        let available = data.len().checked_sub(start).ok_or_else(corrupt)?;
        if count.checked_add(named).is_none_or(|words| words > available / 8) {
            return Err(corrupt());
        }
        let data = Arc::new(data);
        let place = |at: usize, len: usize| start + at..start + at + len;
        let lengths = View { data: Arc::clone(&data), range: place(0, count * 8) }.words();
        let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
        let layout = Layout::of(body, lengths.iter().copied(), named);
        let layout = layout.filter(|layout| layout.len <= available).ok_or_else(corrupt)?;
        let buffers = layout.buffers.iter().zip(&lengths).map(|(at, len)| place(*at, *len));
        let buffers = buffers.collect();
        let names = place(count * 8, named * 8);
        let (head, body) = (wire.head, place(layout.body, body));
        Ok(Self { head, data, body, buffers, names, descriptors: Vec::new() })
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> View {
        View { data: Arc::clone(&self.data), range: self.body.clone() }
    }

    /// The buffers, in the order in which they were sent.
    pub fn buffers(&self) -> impl ExactSizeIterator<Item = View> {
        let view =
            |range: &Range<usize>| View { data: Arc::clone(&self.data), range: range.clone() };
        self.buffers.iter().map(view)
    }

    /// The descriptors, in no particular order.
    #[must_use]
    pub fn descriptors(&self) -> &[Received] {
        &self.descriptors
    }

    /// The names of the descriptors.
    pub(super) fn names(&self) -> Vec<u64> {
        View { data: Arc::clone(&self.data), range: self.names.clone() }.words()
    }

    /// The message with these descriptors.
    pub(crate) fn with_descriptors(self, descriptors: Vec<Received>) -> Self {
        Self { descriptors, ..self }
    }

    /// A copy of the bytes that can be sent again.
    pub(super) fn to_payload(&self) -> OwnedPayload {
        let buffers = self.buffers().map(|buffer| buffer.to_vec()).collect();
        OwnedPayload { body: self.body().to_vec(), buffers, descriptors: Vec::new() }
    }

    /// The tag that the sender gave: the face's own kind of task or result.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.head.tag
    }
}

/// Bytes of a received message; keeps them alive, and is the only way to them.
#[derive(Debug)]
pub struct View {
    data: Arc<Data>,
    range: Range<usize>,
}

impl View {
    /// Size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Whether the bytes lie in shared memory, which its sender cannot use again before the view
    /// is gone.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        matches!(*self.data, Data::Leased(_))
    }

    /// Whether the bytes lie in a copy of sealed memory.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        matches!(*self.data, Data::Sealed(_))
    }

    /// The bytes, if they lie in memory of this process's own.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[u8]> {
        match &*self.data {
            Data::Own { bytes } => bytes.get(self.range.clone()),
            Data::Leased(_) | Data::Sealed(_) => None,
        }
    }

    /// Where the bytes are: readable, and writable if they are leased or sealed, which those of
    /// buffers always are. Different parts of a message do not overlap, but two views of the same part
    /// are possible: whoever writes takes care of that.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        let start = match &*self.data {
            Data::Own { bytes } => bytes.as_ptr().cast_mut(),
            Data::Leased(lease) => lease.data(),
            Data::Sealed(copy) => copy.as_ptr(),
        };
        start.wrapping_add(self.range.start)
    }

    /// A copy of the bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(self.len());
        // SAFETY: the range was checked against the data when the message was made, the vector
        // has room, and the data lives as long as this view.
        unsafe {
            std::ptr::copy_nonoverlapping(self.as_ptr(), copy.as_mut_ptr(), self.len());
            copy.set_len(self.len());
        }
        copy
    }

    fn words(&self) -> Vec<u64> {
        let word = |bytes: &[u8]| u64::from_le_bytes(std::array::from_fn(|i| bytes[i]));
        if self.is_empty() { Vec::new() } else { self.to_vec().chunks_exact(8).map(word).collect() }
    }
}
