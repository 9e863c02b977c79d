//! Messages over a pipe or a socket, in the format of the standard library's `Connection`.
//!
//! A message is its length, big-endian, and its bytes. The length has 4 bytes, signed; one above
//! `0x7fff_ffff` is written as -1 and 8 more bytes, unsigned. The format has no room for
//! anything else, so the position in the stream is all that both sides agree on: whoever stops in
//! the middle of a message leaves a stream that nobody can read on.
//!
//! Therefore a signal does not end a call. `on_interrupt` looks at it, and the call goes on where
//! it was, unless `on_interrupt` fails: then its error ends the call, as an exception out of a
//! signal handler does in the standard library. [`Error::interrupted`] is there for that.
//!
//! A [`Stream`] is what one side remembers of a connection. It does without waiting what can be done
//! so, and before it goes to sleep for the beginning of a message it looks out for it, as long as
//! that has paid: waking a sleeper takes ten times as long as a message does. It never reads more
//! than one message: who else has the descriptor, or will get it, finds the next one there.
//!
//! Writing to a pipe or socket that nobody reads raises SIGPIPE unless the program ignores it, as
//! Rust's runtime and Python do; the error is then `EPIPE`.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::memory::Block;
use crate::primitive::{Ordering, fixed, spin_loop};
use crate::sync::{Expectation, Handover, Offer};
use crate::sys::stream::{self as sys, Interest, Moved, Way};
use crate::{Error, Result};

/// How many looks for somebody who waits are worth the way through the kernel: about a microsecond.
const LOOKS_FOR_TAKERS: u32 = 50;

/// How many looks at offers come between two at the descriptor, which cost a system call.
const LOOKS_AT_OFFERS: u32 = 8;

/// What a call does when a signal handler ran: go on, or end with an error.
pub type OnInterrupt<'a> = &'a mut dyn FnMut() -> Result<()>;

/// The longest message whose length fits into the short form.
const SHORT: u64 = 0x7fff_ffff;

/// What one side of a connection remembers between its calls.
///
/// It does not have the descriptor, which callers name each time.
pub struct Stream {
    /// How soon messages come.
    expectation: Expectation,
    /// A [`Way`]. Relaxed: whoever takes a wrong one finds out.
    way: fixed::AtomicU32,
    /// Where the other side hands over messages, and where this one does.
    incoming: Option<Handover>,
    outgoing: Option<Handover>,
    reluctance: Reluctance,
}

/// The longest message that can come without the descriptor.
pub const HANDED: usize = Handover::ROOM;

/// What has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The length of a message.
    Header,
    /// A message of this length.
    Handed(usize),
}

/// Which end of a connection that was made in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The one that receives, if there is a direction.
    First,
    /// The other one.
    Second,
}

/// How many messages to send before one is offered again: doubled by each that nobody took.
#[derive(Default)]
struct Reluctance {
    /// Relaxed: hints.
    left: fixed::AtomicU32,
    next: fixed::AtomicU32,
    eager: fixed::AtomicU32,
}

impl Reluctance {
    const MOST: u32 = 64;

    fn allows(&self) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
        }
        left == 0
    }

    /// Whether the last message was taken.
    fn is_eager(&self) -> bool {
        self.eager.load(Ordering::Relaxed) > 0
    }

    fn calm_down(&self) {
        self.eager.store(0, Ordering::Relaxed);
    }

    fn learn(&self, taken: bool) {
        self.eager.store(taken.into(), Ordering::Relaxed);
        let next = if taken { 0 } else { self.next.load(Ordering::Relaxed) };
        self.left.store(next, Ordering::Relaxed);
        self.next.store(if taken { 1 } else { (2 * next).clamp(1, Self::MOST) }, Ordering::Relaxed);
    }
}

impl Stream {
    /// A stream of which nothing is known.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it begins to remember")]
    pub fn new() -> Self {
        Self {
            expectation: Expectation::new(),
            way: fixed::AtomicU32::new(0),
            incoming: None,
            outgoing: None,
            reluctance: Reluctance::default(),
        }
    }

    /// Memory for both ends of a connection to hand over messages in. It has to be shared by
    /// those, and only those, that have the descriptors.
    ///
    /// # Errors
    ///
    /// The system is out of memory, descriptors or address space.
    pub fn shared() -> Result<Block> {
        Block::new(2 * Handover::SIZE)
    }

    /// A stream that hands messages over if the other end is just waiting for one.
    ///
    /// # Errors
    ///
    /// The block is too short.
    pub fn with_shared(block: &Block, end: End) -> Result<Self> {
        let first = Handover::from_block(block.part(0, Handover::SIZE)?)?;
        let second = Handover::from_block(block.part(Handover::SIZE, Handover::SIZE)?)?;
        let (incoming, outgoing) = match end {
            End::First => (first, second),
            End::Second => (second, first),
        };
        Ok(Self { incoming: Some(incoming), outgoing: Some(outgoing), ..Self::new() })
    }

    /// Sends as much of a message as it can without waiting; whether that was all. [`send_rest`]
    /// does the rest.
    ///
    /// # Errors
    ///
    /// As for [`send`].
    pub fn send_now(&self, fd: BorrowedFd<'_>, framed: &mut Framed<'_>) -> Result<bool> {
        if self.hand_over(framed) {
            return Ok(true);
        }
        match self.now(|way| sys::write_now(fd, way, framed.rest()))? {
            Some(Moved::Bytes(bytes)) => framed.done += bytes,
            Some(Moved::Reset) => return Err(broken_pipe()),
            Some(Moved::WouldBlock | Moved::Interrupted) | None => {}
        }
        Ok(framed.rest().is_empty())
    }

    /// Gives the message to the other side if that is just waiting for one.
    fn hand_over(&self, framed: &mut Framed<'_>) -> bool {
        let Some(outgoing) = &self.outgoing else { return false };
        if framed.done > 0 || !self.is_wanted(outgoing) || !self.reluctance.allows() {
            return false;
        }
        let taken = outgoing.give(&framed.bytes[PREFIX..]);
        self.reluctance.learn(taken);
        if taken {
            framed.done = framed.bytes.len();
        }
        taken
    }

    /// Whether the other side waits, or is about to. The answer to its last message comes before it
    /// waits for that.
    fn is_wanted(&self, outgoing: &Handover) -> bool {
        let looks = if self.reluctance.is_eager() { LOOKS_FOR_TAKERS } else { 0 };
        let wanted = (0..=looks).any(|look| {
            if look > 0 {
                spin_loop();
            }
            outgoing.is_wanted()
        });
        if !wanted {
            self.reluctance.calm_down();
        }
        wanted
    }

    /// Receives as much of `header` as is there; whether that was all. [`Self::recv_header`]
    /// waits for the rest.
    ///
    /// # Errors
    ///
    /// As for [`recv`].
    pub fn recv_header_now(&self, fd: BorrowedFd<'_>, header: &mut Header) -> Result<bool> {
        let incoming = self.incoming.as_ref().filter(|_| self.expectation.is_hopeful());
        // Before the look, so that who answers at once finds us waiting.
        incoming.inspect(|incoming| incoming.wait());
        let read = self.read_header_now(fd, header);
        if !matches!(read, Ok(())) || header.has_begun() {
            incoming.inspect(|incoming| refuse_all(incoming));
        }
        read.map(|()| header.missing().is_empty())
    }

    fn read_header_now(&self, fd: BorrowedFd<'_>, header: &mut Header) -> Result<()> {
        let read = self.now(|way| sys::read_now(fd, way, header.missing()))?;
        header.add(read)
    }

    /// Receives `header`, or all of a short message, into the beginning of `room`.
    ///
    /// # Errors
    ///
    /// As for [`recv`].
    pub fn recv_header(
        &self,
        fd: BorrowedFd<'_>,
        header: &mut Header,
        room: &mut [u8; HANDED],
        on_interrupt: OnInterrupt<'_>,
    ) -> Result<Arrival> {
        if header.has_begun() {
            return header.finish(fd, on_interrupt);
        }
        let begin = Instant::now();
        if self.expectation.is_hopeful() {
            match self.look_out(fd, header, room)? {
                Some(Arrival::Header) => return header.finish(fd, on_interrupt),
                Some(handed) => return Ok(handed),
                // A signal that came meanwhile has not ended anything.
                None => on_interrupt()?,
            }
        }
        let arrival = header.finish(fd, on_interrupt);
        match &arrival {
            Ok(_) => self.expectation.waited_since(begin),
            // It was not to wait at all.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => self.expectation.give_up(),
            Err(_) => {}
        }
        arrival
    }

    /// Looks out for the beginning of a message, or of its end. Whether it came.
    fn look_out(
        &self,
        fd: BorrowedFd<'_>,
        header: &mut Header,
        room: &mut [u8; HANDED],
    ) -> Result<Option<Arrival>> {
        let Some(incoming) = &self.incoming else {
            let mut seen = Ok(None);
            self.expectation.until(|| {
                seen = self.look(fd, header);
                !matches!(seen, Ok(None))
            });
            return seen;
        };
        let mut seen = Ok(None);
        let mut looks = 0;
        incoming.wait();
        self.expectation.until(|| {
            looks += 1;
            let offer = incoming.offered();
            if offer.is_some() || looks % LOOKS_AT_OFFERS == 0 {
                seen = self.look_first(fd, header, incoming, offer, room);
            }
            !matches!(seen, Ok(None))
        });
        // Also one that came at the last moment; else nobody would answer it in time.
        match (incoming.leave(), &seen) {
            (Some(offer), Ok(None)) => self.look_first(fd, header, incoming, Some(offer), room),
            (Some(offer), _) => {
                incoming.refuse(offer);
                seen
            }
            (None, _) => seen,
        }
    }

    /// Whether a message has begun on the descriptor.
    fn look(&self, fd: BorrowedFd<'_>, header: &mut Header) -> Result<Option<Arrival>> {
        self.read_header_now(fd, header)?;
        Ok(header.has_begun().then_some(Arrival::Header))
    }

    /// Takes what is first: what has come through the descriptor was sent before the offer.
    fn look_first(
        &self,
        fd: BorrowedFd<'_>,
        header: &mut Header,
        incoming: &Handover,
        offer: Option<Offer>,
        room: &mut [u8; HANDED],
    ) -> Result<Option<Arrival>> {
        match (self.look(fd, header), offer) {
            (Ok(Some(arrival)), Some(offer)) => {
                incoming.refuse(offer);
                Ok(Some(arrival))
            }
            (Ok(None), Some(offer)) => Ok(incoming.take(offer, room).map(Arrival::Handed)),
            // The end comes after the offer.
            (Err(error), Some(offer)) if error.is_closed() => match incoming.take(offer, room) {
                Some(len) => Ok(Some(Arrival::Handed(len))),
                None => Err(error),
            },
            (seen, _) => seen,
        }
    }

    /// Receives as many of the first bytes of `body` as are there, and gives their number.
    /// [`recv_body`] waits for the rest.
    ///
    /// # Errors
    ///
    /// As for [`recv`].
    pub fn recv_body_now(&self, fd: BorrowedFd<'_>, body: &mut [u8]) -> Result<usize> {
        if body.is_empty() {
            return Ok(0);
        }
        match self.now(|way| sys::read_now(fd, way, body))? {
            Some(Moved::Bytes(0)) => Err(too_early()),
            Some(Moved::Bytes(bytes)) => Ok(bytes),
            Some(Moved::Reset) => Err(closed()),
            Some(Moved::WouldBlock | Moved::Interrupted) | None => Ok(0),
        }
    }

    /// Waits until there is something to read, or the end has come; looks out for it first.
    ///
    /// # Errors
    ///
    /// `is_timeout`, `is_interrupted`, or the system call failed.
    pub fn poll(&self, fd: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<()> {
        let begin = Instant::now();
        if deadline.is_none_or(|deadline| deadline > begin) && self.expectation.is_hopeful() {
            let mut seen = Ok(false);
            self.expectation.until(|| {
                seen = sys::is_ready(fd);
                !matches!(seen, Ok(false)) || deadline.is_some_and(|end| end <= Instant::now())
            });
            if seen? {
                return Ok(());
            }
        }
        let ready = sys::poll(&[fd], Interest::Read, deadline).map(drop);
        if ready.is_ok() {
            self.expectation.waited_since(begin);
        }
        ready
    }

    /// Calls `call` in a way that this descriptor knows; `None` if there is none.
    fn now(&self, mut call: impl FnMut(Way) -> Result<Option<Moved>>) -> Result<Option<Moved>> {
        const WAYS: [Way; 3] = [Way::Socket, Way::Pipe, Way::Neither];
        let known = self.way.load(Ordering::Relaxed);
        for way in known.. {
            let way_now = WAYS.get(way as usize).copied().unwrap_or(Way::Neither);
            let moved = call(way_now)?;
            if moved.is_some() || way_now == Way::Neither {
                if way != known {
                    self.way.store(way, Ordering::Relaxed);
                }
                return Ok(moved);
            }
        }
        Ok(None)
    }
}

/// A short message with its length before it, and how much of that is sent.
pub struct Framed<'a> {
    bytes: &'a [u8],
    done: usize,
}

/// What a [`Framed`] message has before its bytes.
pub const PREFIX: usize = 4;

impl<'a> Framed<'a> {
    /// The message that begins after the first [`PREFIX`] of these bytes, which get its length.
    ///
    /// # Errors
    ///
    /// It is not short.
    pub fn new(bytes: &'a mut [u8]) -> Result<Self> {
        let len = bytes.len().checked_sub(PREFIX).and_then(|len| i32::try_from(len).ok());
        let len = len.ok_or_else(|| too_long("send a message", libc::EMSGSIZE))?;
        bytes[..PREFIX].copy_from_slice(&len.to_be_bytes());
        Ok(Self { bytes, done: 0 })
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.done..]
    }
}

/// The length of a message on its way in.
#[derive(Default)]
pub struct Header {
    bytes: [u8; 12],
    have: usize,
}

impl Header {
    const SHORT: usize = 4;

    /// The length that the header tells, once it is complete.
    ///
    /// # Errors
    ///
    /// As for [`recv_len`].
    pub fn message_len(&self, max: Option<usize>) -> Result<usize> {
        let len = match self.short() {
            -1 => u64::from_be_bytes(std::array::from_fn(|i| self.bytes[Self::SHORT + i])),
            len => u64::try_from(len).map_err(|_| Error::corrupt("the length of a message"))?,
        };
        let fits = usize::try_from(len).ok().filter(|len| max.is_none_or(|max| *len <= max));
        fits.ok_or_else(|| {
            too_long("receive a message that is longer than allowed", libc::EMSGSIZE)
        })
    }

    fn short(&self) -> i32 {
        i32::from_be_bytes(std::array::from_fn(|i| self.bytes[i]))
    }

    fn has_begun(&self) -> bool {
        self.have > 0
    }

    /// The place of the bytes that are missing.
    fn missing(&mut self) -> &mut [u8] {
        let is_long = self.have >= Self::SHORT && self.short() == -1;
        let len = if is_long { self.bytes.len() } else { Self::SHORT };
        &mut self.bytes[self.have..len]
    }

    /// Takes note of what a read that did not wait has brought.
    fn add(&mut self, read: Option<Moved>) -> Result<()> {
        match read {
            Some(Moved::Bytes(0)) => Err(if self.has_begun() { too_early() } else { closed() }),
            Some(Moved::Bytes(bytes)) => {
                self.have += bytes;
                Ok(())
            }
            Some(Moved::Reset) => Err(closed()),
            Some(Moved::WouldBlock | Moved::Interrupted) | None => Ok(()),
        }
    }

    /// Reads all that is missing. Before the first byte the stream may end or have nothing.
    fn finish(&mut self, fd: BorrowedFd<'_>, on_interrupt: OnInterrupt<'_>) -> Result<Arrival> {
        while !self.missing().is_empty() {
            match sys::read(fd, self.missing())? {
                Moved::WouldBlock if !self.has_begun() => {
                    return Err(would_block("receive a message"));
                }
                Moved::Bytes(0) if !self.has_begun() => return Err(closed()),
                moved => self.have += advance(fd, moved, Interest::Read, on_interrupt)?,
            }
        }
        Ok(Arrival::Header)
    }
}

/// Sends one message that consists of `parts`, one after the other.
///
/// # Errors
///
/// `raw_os_error` tells: `EPIPE` if nobody reads any more, `EAGAIN` if a non-blocking descriptor
/// has no room for the beginning of the message. Or what `on_interrupt` gave.
pub fn send(fd: BorrowedFd<'_>, parts: &[&[u8]], on_interrupt: OnInterrupt<'_>) -> Result<()> {
    let mut header = [0; 12];
    let header = encode(parts.iter().map(|part| part.len() as u64).sum(), &mut header);
    if let [part] = parts {
        return write_all(fd, &mut [IoSlice::new(header), IoSlice::new(part)], on_interrupt);
    }
    let mut all = Vec::with_capacity(parts.len() + 1);
    all.push(IoSlice::new(header));
    all.extend(parts.iter().map(|part| IoSlice::new(part)));
    write_all(fd, &mut all, on_interrupt)
}

/// Receives one message, of at most `max` bytes.
///
/// # Errors
///
/// `is_closed` at the end of the stream. `raw_os_error` is `EMSGSIZE` for a message that is
/// longer than `max`, `ENOMEM` for one that memory has no room for (the stream cannot be read on
/// after both), `EAGAIN` if a non-blocking descriptor has no message now. A stream that ends
/// inside a message does not follow the protocol. Or what `on_interrupt` gave.
pub fn recv(
    fd: BorrowedFd<'_>,
    max: Option<usize>,
    on_interrupt: OnInterrupt<'_>,
) -> Result<Vec<u8>> {
    let len = recv_len(fd, max, on_interrupt)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| too_long("receive a message", libc::ENOMEM))?;
    while bytes.len() < len {
        let left = len - bytes.len();
        advance(fd, sys::read_append(fd, &mut bytes, left)?, Interest::Read, on_interrupt)?;
    }
    Ok(bytes)
}

/// Receives the length of the next message. What must follow is [`recv_body`].
///
/// # Errors
///
/// As for [`recv`].
pub fn recv_len(
    fd: BorrowedFd<'_>,
    max: Option<usize>,
    on_interrupt: OnInterrupt<'_>,
) -> Result<usize> {
    let mut header = Header::default();
    header.finish(fd, on_interrupt)?;
    header.message_len(max)
}

/// Receives all of `body`, whose length [`recv_len`] has told.
///
/// # Errors
///
/// As for [`recv`].
pub fn recv_body(fd: BorrowedFd<'_>, body: &mut [u8], on_interrupt: OnInterrupt<'_>) -> Result<()> {
    let mut done = 0;
    while done < body.len() {
        let moved = sys::read(fd, &mut body[done..])?;
        done += advance(fd, moved, Interest::Read, on_interrupt)?;
    }
    Ok(())
}

/// As [`recv_body`], for memory that need not be initialised, and is afterwards.
///
/// # Errors
///
/// As for [`recv`].
pub fn recv_body_uninit(
    fd: BorrowedFd<'_>,
    body: &mut [MaybeUninit<u8>],
    on_interrupt: OnInterrupt<'_>,
) -> Result<()> {
    let mut done = 0;
    while done < body.len() {
        let moved = sys::read_uninit(fd, &mut body[done..])?;
        done += advance(fd, moved, Interest::Read, on_interrupt)?;
    }
    Ok(())
}

/// Sends the rest of a message of which a call of [`Stream::send_now`] sent the beginning, or
/// nothing yet.
///
/// # Errors
///
/// As for [`send`].
pub fn send_rest(
    fd: BorrowedFd<'_>,
    framed: &Framed<'_>,
    on_interrupt: OnInterrupt<'_>,
) -> Result<()> {
    write_parts(fd, &mut [IoSlice::new(framed.rest())], framed.done > 0, on_interrupt)
}

/// Waits until one of `fds` has something to read, or has come to its end, and gives the places
/// of all that do.
///
/// # Errors
///
/// `is_timeout`, `is_interrupted`, or the system call failed.
pub fn poll(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> Result<Vec<usize>> {
    sys::poll(fds, Interest::Read, deadline)
}

/// Writes the header of a message of `len` bytes into `room`.
fn encode(len: u64, room: &mut [u8; 12]) -> &[u8] {
    if let Ok(short) = i32::try_from(len) {
        room[..4].copy_from_slice(&short.to_be_bytes());
        return &room[..4];
    }
    debug_assert!(len > SHORT);
    room[..4].copy_from_slice(&(-1i32).to_be_bytes());
    room[4..].copy_from_slice(&len.to_be_bytes());
    room
}

fn write_all(
    fd: BorrowedFd<'_>,
    parts: &mut [IoSlice<'_>],
    on_interrupt: OnInterrupt<'_>,
) -> Result<()> {
    write_parts(fd, parts, false, on_interrupt)
}

/// Writes all of `parts`, which are the rest of a message if it has `begun`.
fn write_parts(
    fd: BorrowedFd<'_>,
    parts: &mut [IoSlice<'_>],
    mut begun: bool,
    on_interrupt: OnInterrupt<'_>,
) -> Result<()> {
    let mut parts = parts;
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match sys::write(fd, parts)? {
            Moved::WouldBlock if !begun => return Err(would_block("send a message")),
            Moved::Reset => return Err(broken_pipe()),
            moved => {
                let written = advance(fd, moved, Interest::Write, on_interrupt)?;
                begun |= written > 0;
                IoSlice::advance_slices(&mut parts, written);
            }
        }
    }
    Ok(())
}

/// How many bytes moved in the middle of a message; waits if that needs a wait.
fn advance(
    fd: BorrowedFd<'_>,
    moved: Moved,
    interest: Interest,
    on_interrupt: OnInterrupt<'_>,
) -> Result<usize> {
    match moved {
        Moved::Bytes(0) if interest == Interest::Read => Err(too_early()),
        Moved::Bytes(bytes) => Ok(bytes),
        Moved::Interrupted => on_interrupt().map(|()| 0),
        Moved::Reset => Err(closed()),
        Moved::WouldBlock => match sys::poll(&[fd], interest, None) {
            Err(error) if error.is_interrupted() => on_interrupt().map(|()| 0),
            ready => ready.map(|_| 0),
        },
    }
}

/// Stops waiting for a message from hand to hand.
fn refuse_all(incoming: &Handover) {
    if let Some(offer) = incoming.leave() {
        incoming.refuse(offer);
    }
}

fn too_early() -> Error {
    Error::corrupt("a message that ends too early")
}

fn closed() -> Error {
    Error::closed("the connection")
}

fn would_block(what: &'static str) -> Error {
    Error::os(what, io::Error::from_raw_os_error(libc::EAGAIN))
}

fn broken_pipe() -> Error {
    Error::os("send a message", io::Error::from_raw_os_error(libc::EPIPE))
}

fn too_long(what: &'static str, errno: i32) -> Error {
    Error::os(what, io::Error::from_raw_os_error(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_short_form_up_to_its_limit() {
        let mut room = [0; 12];
        assert_eq!(encode(0, &mut room), [0; 4]);
        assert_eq!(encode(SHORT, &mut room), [0x7f, 0xff, 0xff, 0xff]);
        let long = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0];
        assert_eq!(encode(SHORT + 1, &mut room), long);
    }
}
