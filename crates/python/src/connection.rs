//! Messages over a pipe or a socket.

use std::os::fd::{BorrowedFd, RawFd};

use manycore::channel::stream::{self, Arrival, End, Framed, HANDED, Header, OnInterrupt, PREFIX};
use pyo3::exceptions::{PyEOFError, PyOSError};
use pyo3::intern;
use pyo3::marker::Ungil;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{EngineError, deadline, wait};
use crate::heap::Block;
use crate::pickle;
use crate::unchecked::{Blank, Bytes, borrow_fd};

/// Messages up to this length are sent and received with the GIL held, as far as that goes without
/// waiting: the system call is shorter than it takes to get the GIL back from another thread.
const SHORT: usize = 1 << 10;

/// What a connection remembers between its calls. The descriptor is named in each of them.
#[pyclass(frozen, module = "manycore._engine")]
pub(crate) struct Stream {
    inner: stream::Stream,
}

/// A message that has come.
enum Arrived<'py, 'room> {
    Short(&'room [u8]),
    Long(Bound<'py, PyBytes>),
}

#[pymethods]
impl Stream {
    /// With a `block` of both ends, of which this is the first or the second, short messages go
    /// from hand to hand while the other end waits for them.
    #[new]
    #[pyo3(signature = (block = None, is_first = true))]
    fn new(block: Option<&Block>, is_first: bool) -> PyResult<Self> {
        let end = if is_first { End::First } else { End::Second };
        let inner = match block {
            None => stream::Stream::new(),
            Some(block) => stream::Stream::with_shared(&block.inner, end).map_err(EngineError)?,
        };
        Ok(Self { inner })
    }

    /// A block for both ends of a new connection.
    #[staticmethod]
    fn shared() -> PyResult<Block> {
        Ok(Block { inner: stream::Stream::shared().map_err(EngineError)? })
    }

    /// Sends an object, pickled as by `ForkingPickler.dumps`, over `connection`, which has `fd`.
    fn send(
        &self,
        fd: RawFd,
        obj: &Bound<'_, PyAny>,
        connection: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let dumped = pickle::dump_default(obj)?;
        // Pickling may run anything, and something else may have the descriptor by now.
        let fd = if dumped.may_have_run_code() { handle(connection)? } else { fd };
        let fd = borrow_fd(fd)?;
        dumped.with(|parts| self.send_parts(obj.py(), fd, parts))
    }

    /// Sends one message.
    fn send_bytes(&self, py: Python<'_>, fd: RawFd, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let (fd, data) = (borrow_fd(fd)?, Bytes::of(data)?);
        self.send_parts(py, fd, &[data.as_slice()])
    }

    /// Receives a message and unpickles it.
    fn recv<'py>(&self, py: Python<'py>, fd: RawFd) -> PyResult<Bound<'py, PyAny>> {
        let mut room = [0; SHORT];
        match self.receive(py, borrow_fd(fd)?, None, &mut room)? {
            Some(Arrived::Short(bytes)) => pickle::load_slice(py, bytes),
            Some(Arrived::Long(bytes)) => pickle::loads(py, &bytes, None),
            None => Ok(py.None().into_bound(py)),
        }
    }

    /// Receives one message; None if it is longer than `maxlength`.
    #[pyo3(signature = (fd, maxlength = None))]
    fn recv_bytes<'py>(
        &self,
        py: Python<'py>,
        fd: RawFd,
        maxlength: Option<usize>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut room = [0; SHORT];
        let arrived = self.receive(py, borrow_fd(fd)?, maxlength, &mut room)?;
        Ok(arrived.map(|arrived| match arrived {
            Arrived::Short(bytes) => PyBytes::new(py, bytes),
            Arrived::Long(bytes) => bytes,
        }))
    }

    /// Waits at most `timeout` seconds until there is something to read.
    fn poll(&self, py: Python<'_>, fd: RawFd, timeout: Option<f64>) -> PyResult<bool> {
        let fd = borrow_fd(fd)?;
        let ready = wait(py, deadline(timeout)?, |deadline| self.inner.poll(fd, deadline))?;
        Ok(ready.is_some())
    }
}

impl Stream {
    fn send_parts(&self, py: Python<'_>, fd: BorrowedFd<'_>, parts: &[&[u8]]) -> PyResult<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > SHORT {
            return waiting(py, |on_interrupt| stream::send(fd, parts, on_interrupt))
                .map_err(Failure::sending);
        }
        let mut room = [0; PREFIX + SHORT];
        let mut place = PREFIX;
        for part in parts {
            room[place..place + part.len()].copy_from_slice(part);
            place += part.len();
        }
        let mut framed = Framed::new(&mut room[..place]).map_err(EngineError)?;
        if !self.inner.send_now(fd, &mut framed).map_err(EngineError)? {
            waiting(py, |on_interrupt| stream::send_rest(fd, &framed, on_interrupt))
                .map_err(Failure::sending)?;
        }
        Ok(())
    }

    /// None if the message is longer than `max`.
    fn receive<'py, 'room>(
        &self,
        py: Python<'py>,
        fd: BorrowedFd<'_>,
        max: Option<usize>,
        room: &'room mut [u8; SHORT],
    ) -> PyResult<Option<Arrived<'py, 'room>>> {
        let mut header = Header::default();
        let is_there = self.inner.recv_header_now(fd, &mut header).map_err(Failure::receiving)?;
        if !is_there {
            let wait = |on_interrupt: OnInterrupt<'_>| {
                self.inner.recv_header(fd, &mut header, handed_room(room), on_interrupt)
            };
            if let Arrival::Handed(len) = waiting(py, wait).map_err(Failure::receiving)? {
                let is_allowed = max.is_none_or(|max| len <= max);
                return Ok(is_allowed.then(|| Arrived::Short(&room[..len])));
            }
        }
        match header.message_len(max) {
            Ok(len) => self.receive_body(py, fd, len, room).map(Some),
            Err(error) if error.raw_os_error() == Some(EMSGSIZE) => Ok(None),
            Err(error) => Err(Failure::receiving(error)),
        }
    }

    fn receive_body<'py, 'room>(
        &self,
        py: Python<'py>,
        fd: BorrowedFd<'_>,
        len: usize,
        room: &'room mut [u8; SHORT],
    ) -> PyResult<Arrived<'py, 'room>> {
        let Some(body) = room.get_mut(..len) else {
            let mut long = Blank::new(py, len as u64, false)?;
            let body = long.room();
            waiting(py, |on_interrupt| stream::recv_body_uninit(fd, body, on_interrupt))
                .map_err(Failure::receiving)?;
            return Ok(Arrived::Long(long.filled().cast_into::<PyBytes>()?));
        };
        let done = self.inner.recv_body_now(fd, body).map_err(Failure::receiving)?;
        if done < len {
            let rest = &mut body[done..];
            waiting(py, |on_interrupt| stream::recv_body(fd, rest, on_interrupt))
                .map_err(Failure::receiving)?;
        }
        Ok(Arrived::Short(body))
    }
}

/// The descriptor of a connection that is open.
fn handle(connection: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = connection.py();
    connection.call_method0(intern!(py, "_check_closed"))?;
    connection.getattr(intern!(py, "_handle"))?.extract()
}

fn handed_room(room: &mut [u8; SHORT]) -> &mut [u8; HANDED] {
    const { assert!(HANDED <= SHORT) };
    room.first_chunk_mut().unwrap_or_else(|| unreachable!("the room is longer"))
}

/// Waits at most `timeout` seconds until there is something to read.
#[pyfunction]
#[pyo3(signature = (fd, timeout = Some(0.0)), text_signature = "(fd, timeout=0.0)")]
pub(crate) fn poll(py: Python<'_>, fd: RawFd, timeout: Option<f64>) -> PyResult<bool> {
    let fd = borrow_fd(fd)?;
    let ready = wait(py, deadline(timeout)?, |deadline| stream::poll(&[fd], deadline))?;
    Ok(ready.is_some_and(|ready| !ready.is_empty()))
}

/// On Linux; the engine's way to say that a message is longer than allowed.
const EMSGSIZE: i32 = 90;

/// Why a call failed: the engine's reason, or what a signal handler raised in the middle of it.
struct Failure {
    error: manycore::Error,
    raised: Option<PyErr>,
}

impl Failure {
    fn sending(failure: impl Into<Self>) -> PyErr {
        let Self { error, raised } = failure.into();
        raised.unwrap_or_else(|| EngineError(error).into())
    }

    fn receiving(failure: impl Into<Self>) -> PyErr {
        let Self { error, raised } = failure.into();
        raised.unwrap_or_else(|| {
            if error.is_closed() {
                PyEOFError::new_err(())
            } else if error.raw_os_error().is_some() {
                EngineError(error).into()
            } else {
                PyOSError::new_err("got end of file during message")
            }
        })
    }
}

impl From<manycore::Error> for Failure {
    fn from(error: manycore::Error) -> Self {
        Self { error, raised: None }
    }
}

/// Calls `call` without the GIL. It runs Python's signal handlers in the middle of a message; what
/// they raise ends it.
fn waiting<T: Send>(
    py: Python<'_>,
    call: impl FnOnce(OnInterrupt<'_>) -> manycore::Result<T> + Send + Ungil,
) -> Result<T, Failure> {
    let mut raised = None;
    let done = py.detach(|| {
        call(&mut || {
            Python::attach(|py| py.check_signals()).map_err(|error| {
                raised = Some(error);
                manycore::Error::interrupted()
            })
        })
    });
    done.map_err(|error| Failure { error, raised })
}
