//! The fork server, seen from itself.

use std::os::fd::{AsFd, OwnedFd};

use super::{Child, Forked};
use crate::sys::signal::{self, Disposition};
use crate::sys::socket::{self, Message};
use crate::sys::{event, poll};
use crate::{Error, Result};

/// First byte of a request for a fork.
pub(super) const ASK_FORK: u8 = b'F';
/// First byte of a request to kill a child, whose pid follows.
pub(super) const ASK_KILL: u8 = b'K';
/// The longest message, in bytes.
pub(super) const MAX_REQUEST: usize = 64 << 10;
/// The length of a reply, in bytes.
pub(super) const REPLY_LEN: usize = 5;

/// Why [`serve`] returned.
#[derive(Debug)]
pub enum Served {
    /// This is a new process, made for this request.
    Child {
        /// The bytes that came with the request.
        request: Vec<u8>,
        /// The descriptors that came with the request.
        fds: Vec<OwnedFd>,
    },
    /// This is the server, and nobody needs it any more.
    Ended,
}

/// The server's answer to a request for a fork.
pub(super) enum Reply {
    /// Its pidfd comes along.
    Forked {
        pid: u32,
    },
    Failed {
        errno: i32,
    },
}

impl Reply {
    fn to_bytes(&self) -> [u8; REPLY_LEN] {
        let (kind, value) = match *self {
            Self::Forked { pid } => (1, pid),
            Self::Failed { errno } => (2, errno.cast_unsigned()),
        };
        let [a, b, c, d] = value.to_ne_bytes();
        [kind, a, b, c, d]
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        match *bytes {
            [1, a, b, c, d] => Ok(Self::Forked { pid: u32::from_ne_bytes([a, b, c, d]) }),
            [2, a, b, c, d] => Ok(Self::Failed { errno: i32::from_ne_bytes([a, b, c, d]) }),
            _ => Err(Error::corrupt("the reply of a fork server")),
        }
    }
}

/// Forks at the requests that come through `control`, until the process at its other end closes
/// it or is gone; then stays until the last child's status has been told.
///
/// `fork` makes the copies: [`super::fork`], with whatever has to be done around it. SIGINT is
/// ignored and SIGCHLD left to the system meanwhile; in the copies both are as they were.
///
/// # Safety
///
/// As for [`super::fork`]: best is that the process has no other threads.
///
/// # Errors
///
/// The connection or the system failed in a way that leaves nothing to serve.
pub unsafe fn serve(control: OwnedFd, fork: &mut dyn FnMut() -> Result<Forked>) -> Result<Served> {
    let _interrupt = Disposition::ignore(libc::SIGINT)?;
    // One that waits because it was blocked until here has gone with that.
    signal::unblock(libc::SIGINT);
    // If it were ignored the kernel would tell nobody how the children ended.
    let _child = Disposition::default(libc::SIGCHLD)?;
    let mut server = Server { control: Some(control), living: Vec::new() };
    loop {
        match server.next_request()? {
            None => return Ok(Served::Ended),
            Some(request) => {
                // In the copy all that is the server's goes when this function returns.
                if let Some(served) = server.answer(request, fork)? {
                    return Ok(served);
                }
            }
        }
    }
}

struct Server {
    /// `None` once the other end is closed.
    control: Option<OwnedFd>,
    living: Vec<Living>,
}

/// A child, and the cell for its status.
struct Living {
    child: Child,
    cell: OwnedFd,
}

impl Server {
    /// Tells statuses until a request is there. `None`: nothing is left to do.
    fn next_request(&mut self) -> Result<Option<Message>> {
        while self.control.is_some() || !self.living.is_empty() {
            // Statuses first: however fast the requests come, they do not hold them up.
            self.wait()?;
            if let Some(request) = self.try_receive()? {
                return Ok(Some(request));
            }
        }
        Ok(None)
    }

    fn try_receive(&mut self) -> Result<Option<Message>> {
        let Some(control) = &self.control else {
            return Ok(None);
        };
        match socket::try_receive(control, MAX_REQUEST) {
            Err(error) if error.is_closed() => {
                self.control = None;
                Ok(None)
            }
            Err(error) if error.is_interrupted() => Ok(None),
            received => received,
        }
    }

    /// Waits for a request or the end of a child, and tells the statuses of those that ended.
    fn wait(&mut self) -> Result<()> {
        let children = self.living.iter().map(|living| living.child.sentinel());
        let ready = match poll::poll(children.chain(self.control.as_ref().map(AsFd::as_fd)), None) {
            Err(error) if error.is_interrupted() => return Ok(()),
            ready => ready?,
        };
        let ended: Vec<_> = (0..self.living.len()).map(|index| ready.has(index)).collect();
        drop(ready);
        let mut ended = ended.into_iter();
        self.living.retain(|living| !(ended.next() == Some(true) && living.tell()));
        Ok(())
    }

    /// Does what the request asks for. `Some` in the copy.
    fn answer(
        &mut self,
        request: Message,
        fork: &mut dyn FnMut() -> Result<Forked>,
    ) -> Result<Option<Served>> {
        match request.bytes.split_first() {
            Some((&ASK_FORK, body)) => {
                let body = body.to_vec();
                self.fork(body, request, fork)
            }
            Some((&ASK_KILL, body)) => {
                self.kill(body);
                Ok(None)
            }
            _ => Err(Error::corrupt("a request to the fork server")),
        }
    }

    fn fork(
        &mut self,
        body: Vec<u8>,
        message: Message,
        fork: &mut dyn FnMut() -> Result<Forked>,
    ) -> Result<Option<Served>> {
        let mut fds = message.fds.into_iter();
        let (Some(cell), false) = (fds.next(), message.lost_fds) else {
            self.reply(&Reply::Failed { errno: libc::EMFILE }, None);
            return Ok(None);
        };
        match fork() {
            Ok(Forked::Child) => {
                return Ok(Some(Served::Child { request: body, fds: fds.collect() }));
            }
            Ok(Forked::Parent(child)) => {
                self.reply(&Reply::Forked { pid: child.pid() }, Some(&child));
                self.living.push(Living { child, cell });
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
                self.reply(&Reply::Failed { errno }, None);
            }
        }
        Ok(None)
    }

    /// Sends a reply. That nobody takes it shows at the next look for a request.
    fn reply(&self, reply: &Reply, child: Option<&Child>) {
        if let Some(control) = &self.control {
            let fds: Vec<_> = child.into_iter().map(Child::sentinel).collect();
            let _ = socket::send(control, &reply.to_bytes(), &fds);
        }
    }

    fn kill(&self, body: &[u8]) {
        let named = |living: &&Living| living.child.pid().to_ne_bytes() == body;
        if let Some(living) = self.living.iter().find(named) {
            let _ = living.child.signal(libc::SIGKILL);
        }
    }
}

impl Living {
    /// Puts the status of a child whose sentinel is readable into its cell. `true` when done.
    fn tell(&self) -> bool {
        match self.child.try_wait() {
            Ok(None) => false,
            Ok(Some(status)) => {
                let _ = event::put(self.cell.as_fd(), status.to_wire());
                true
            }
            // It cannot be known any more: say so.
            Err(_) => {
                let _ = event::put(self.cell.as_fd(), super::ExitStatus::UNKNOWN.to_wire());
                true
            }
        }
    }
}
