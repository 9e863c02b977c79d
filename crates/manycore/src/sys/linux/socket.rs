//! Messages with descriptors between two processes.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
    recvmsg, sendmsg, socketpair,
};

use crate::{Error, Result};

/// The most descriptors that the kernel passes with one message.
pub(crate) const MAX_FDS: usize = 253;

/// A message that has arrived.
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    /// Some descriptors did not arrive: this process has too many open.
    pub(crate) lost_fds: bool,
}

/// Two connected sockets that keep the boundaries of messages.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|e| Error::os("make a socket", e))
}

/// Sends `bytes` as one message, and with it copies of `fds`. Not interrupted by signals.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    send_with(socket, bytes, fds, SendFlags::NOSIGNAL)
        .map_err(|error| Error::os("send a message", error))?
}

/// As [`send`], but false instead of a wait if the other side has not made room yet.
pub(crate) fn try_send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<bool> {
    match send_with(socket, bytes, fds, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(sent) => sent.map(|()| true),
        // TOOMANYREFS: too many descriptors are under way in all; the same as a full socket.
        Err(Errno::AGAIN | Errno::NOBUFS | Errno::TOOMANYREFS) => Ok(false),
        Err(error) => Err(Error::os("send a message", error)),
    }
}

/// The kernel's refusals apart from the errors that are always ours to name.
fn send_with(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> std::result::Result<Result<()>, Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Ok(Err(Error::misuse(format!("more than {MAX_FDS} descriptors in one message"))));
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => return Ok(Ok(())),
            Err(Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(Err(Error::closed("the socket"))),
            Err(error) => return Err(error),
        }
    }
}

/// Takes the next message, of at most `limit` bytes. `None`: there is none now.
pub(crate) fn try_receive(socket: impl AsFd, limit: usize) -> Result<Option<Message>> {
    let mut bytes = vec![0; limit];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let mut receive = || recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags);
    // The other side is gone and has left messages of ours unread. That is said once, and before
    // the messages that it sent; those can be had by asking again.
    let received = match receive() {
        Err(Errno::CONNRESET) => receive(),
        received => received,
    };
    let received = match received {
        Ok(received) => received,
        Err(Errno::AGAIN) => return Ok(None),
        Err(Errno::CONNRESET) => return Err(Error::closed("the socket")),
        Err(error) => return Err(Error::os("receive a message", error)),
    };
    let fds = take_fds(&mut control);
    if received.bytes == 0 {
        return Err(Error::closed("the socket"));
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(Error::corrupt("a message that is longer than it may be"));
    }
    bytes.truncate(received.bytes);
    let lost_fds = received.flags.contains(ReturnFlags::CTRUNC);
    Ok(Some(Message { bytes, fds, lost_fds }))
}

fn take_fds(control: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    fds
}

/// Ends the connection for both sides, whoever else may hold copies of the two ends.
pub(crate) fn shut_down(socket: impl AsFd) {
    // Fails when the other side has ended it before.
    let _ = rustix::net::shutdown(socket, Shutdown::Both);
}
