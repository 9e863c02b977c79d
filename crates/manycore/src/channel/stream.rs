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
//! Writing to a pipe or socket that nobody reads raises SIGPIPE unless the program ignores it, as
//! Rust's runtime and Python do; the error is then `EPIPE`.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::sys::stream::{self as sys, Interest, Moved};
use crate::{Error, Result};

/// What a call does when a signal handler ran: go on, or end with an error.
pub type OnInterrupt<'a> = &'a mut dyn FnMut() -> Result<()>;

/// The longest message whose length fits into the short form.
const SHORT: u64 = 0x7fff_ffff;

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
    let mut short = [0; 4];
    read_first(fd, &mut short, on_interrupt)?;
    let len = match i32::from_be_bytes(short) {
        -1 => {
            let mut long = [0; 8];
            recv_body(fd, &mut long, on_interrupt)?;
            u64::from_be_bytes(long)
        }
        len => u64::try_from(len).map_err(|_| Error::corrupt("the length of a message"))?,
    };
    let fits = usize::try_from(len).ok().filter(|len| max.is_none_or(|max| *len <= max));
    fits.ok_or_else(|| too_long("receive a message that is longer than allowed", libc::EMSGSIZE))
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
    let mut parts = parts;
    let mut begun = false;
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

/// Reads all of `header`, where the stream may end or have nothing.
fn read_first(fd: BorrowedFd<'_>, header: &mut [u8], on_interrupt: OnInterrupt<'_>) -> Result<()> {
    let first = loop {
        match sys::read(fd, header)? {
            Moved::Bytes(0) => return Err(Error::closed("the connection")),
            Moved::WouldBlock => return Err(would_block("receive a message")),
            moved => match advance(fd, moved, Interest::Read, on_interrupt)? {
                0 => {}
                first => break first,
            },
        }
    };
    recv_body(fd, &mut header[first..], on_interrupt)
}

/// How many bytes moved in the middle of a message; waits if that needs a wait.
fn advance(
    fd: BorrowedFd<'_>,
    moved: Moved,
    interest: Interest,
    on_interrupt: OnInterrupt<'_>,
) -> Result<usize> {
    match moved {
        Moved::Bytes(0) if interest == Interest::Read => {
            Err(Error::corrupt("a message that ends too early"))
        }
        Moved::Bytes(bytes) => Ok(bytes),
        Moved::Interrupted => on_interrupt().map(|()| 0),
        Moved::Reset => Err(Error::closed("the connection")),
        Moved::WouldBlock => match sys::poll(&[fd], interest, None) {
            Err(error) if error.is_interrupted() => on_interrupt().map(|()| 0),
            ready => ready.map(|_| 0),
        },
    }
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
