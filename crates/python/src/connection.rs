//! Messages over a pipe or a socket.

use std::os::fd::RawFd;

use manycore::channel::stream;
use pyo3::exceptions::{PyEOFError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{EngineError, deadline, wait};
use crate::unchecked::{Bytes, borrow_fd};

/// Sends one message.
#[pyfunction]
pub(crate) fn send_bytes(py: Python<'_>, fd: RawFd, data: &Bound<'_, PyAny>) -> PyResult<()> {
    let (fd, data) = (borrow_fd(fd)?, Bytes::of(data)?);
    let mut raised = None;
    let sent =
        py.detach(|| stream::send(fd, &[data.as_slice()], &mut || look_at_signals(&mut raised)));
    sent.map_err(|error| raised.unwrap_or_else(|| EngineError(error).into()))
}

/// Receives one message; None if it is longer than `maxlength`.
#[pyfunction]
#[pyo3(signature = (fd, maxlength = None))]
pub(crate) fn recv_bytes(
    py: Python<'_>,
    fd: RawFd,
    maxlength: Option<usize>,
) -> PyResult<Option<Bound<'_, PyBytes>>> {
    let fd = borrow_fd(fd)?;
    let mut raised = None;
    let received = py.detach(|| stream::recv(fd, maxlength, &mut || look_at_signals(&mut raised)));
    match received {
        Ok(message) => Ok(Some(PyBytes::new(py, &message))),
        Err(error) if error.raw_os_error() == Some(EMSGSIZE) => Ok(None),
        Err(error) if error.is_closed() => Err(PyEOFError::new_err(())),
        Err(error) => Err(raised.unwrap_or_else(|| broken(error))),
    }
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

fn broken(error: manycore::Error) -> PyErr {
    if error.raw_os_error().is_some() {
        EngineError(error).into()
    } else {
        PyOSError::new_err("got end of file during message")
    }
}

/// Runs Python's signal handlers in the middle of a message; what they raise ends it.
fn look_at_signals(raised: &mut Option<PyErr>) -> manycore::Result<()> {
    Python::attach(|py| py.check_signals()).map_err(|error| {
        *raised = Some(error);
        manycore::Error::interrupted()
    })
}
