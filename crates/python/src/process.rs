//! Starting, watching and ending processes.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use manycore::process::{self, Command, Forked, Served, lifeline as line};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{EngineError, deadline, wait};
use crate::unchecked;

/// A process that this one started.
#[pyclass(frozen, module = "manycore._engine")]
pub(crate) struct Child {
    inner: Arc<process::Child>,
}

impl Child {
    pub(crate) fn new(inner: process::Child) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The same process, for the pool that it works for.
    pub(crate) fn share(&self) -> Arc<process::Child> {
        Arc::clone(&self.inner)
    }
}

#[pymethods]
impl Child {
    #[getter]
    fn pid(&self) -> u32 {
        self.inner.pid()
    }

    /// A descriptor that is readable once the process has ended.
    #[getter]
    fn sentinel(&self) -> RawFd {
        self.inner.sentinel().as_raw_fd()
    }

    /// Waits at most `timeout` seconds for the end; the exit code, or None: it runs, or it is the
    /// child of another process.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<i32>> {
        let deadline = deadline(timeout)?;
        wait(py, deadline, |deadline| match self.inner.wait(deadline) {
            Ok(status) => Ok(Some(status.exitcode())),
            Err(error) if error.is_inherited() => Ok(None),
            Err(error) => Err(error),
        })
        .map(Option::flatten)
    }

    /// Sends a signal; nothing happens if the process has ended.
    fn signal(&self, signo: i32) -> PyResult<()> {
        Ok(self.inner.signal(signo).map_err(EngineError)?)
    }
}

/// Forks: the child, or None in the child.
#[pyfunction]
pub(crate) fn fork(py: Python<'_>) -> PyResult<Option<Child>> {
    match unchecked::fork(py).map_err(EngineError)? {
        Forked::Parent(inner) => Ok(Some(Child::new(inner))),
        Forked::Child => Ok(None),
    }
}

/// Starts a program, which finds `fds` open under their numbers and SIGINT blocked.
#[pyfunction]
pub(crate) fn spawn(command: Vec<OsString>, fds: Vec<RawFd>) -> PyResult<Child> {
    let inner = build(command, &fds)?.spawn().map_err(EngineError)?;
    Ok(Child::new(inner))
}

fn build<'fd>(command: Vec<OsString>, fds: &[RawFd]) -> PyResult<Command<'fd>> {
    let mut words = command.into_iter();
    let program = words.next().ok_or_else(|| PyValueError::new_err("the command is empty"))?;
    let mut command = Command::new(program);
    command.args(words).defer_interrupts();
    for fd in unchecked::borrow_fds(fds)? {
        command.fd(fd);
    }
    Ok(command)
}

/// The descriptor that hangs up when this process is gone; a child watches it.
#[pyfunction]
pub(crate) fn lifeline() -> PyResult<RawFd> {
    Ok(line::line().map_err(EngineError)?.as_raw_fd())
}

/// Ends this process `grace_ms` milliseconds after the one that made the lifeline is gone.
#[pyfunction]
pub(crate) fn watch_lifeline(fd: RawFd, grace_ms: u64) -> PyResult<()> {
    let grace = Duration::from_millis(grace_ms);
    Ok(line::watch(unchecked::borrow_fd(fd)?, grace).map_err(EngineError)?)
}

/// A process that forks at our request.
#[pyclass(frozen, module = "manycore._engine")]
pub(crate) struct ForkServer {
    inner: process::ForkServer,
}

#[pymethods]
impl ForkServer {
    /// Starts `command`, to whose words the number of its control socket is added.
    #[new]
    fn new(command: Vec<OsString>, fds: Vec<RawFd>) -> PyResult<Self> {
        let mut command = build(command, &fds)?;
        let inner = process::ForkServer::start(|control| {
            command.arg(control.to_string());
            command
        });
        Ok(Self { inner: inner.map_err(EngineError)? })
    }

    #[getter]
    fn pid(&self) -> u32 {
        self.inner.pid()
    }

    /// Whether the server still runs.
    fn is_alive(&self) -> PyResult<bool> {
        Ok(self.inner.process().try_wait().map_err(EngineError)?.is_none())
    }

    /// A new process for each request, which it is handed with its descriptors. What became of
    /// the first ones: after an error nothing more follows. It is a BrokenPipeError if the server
    /// is gone.
    fn fork_all(
        &self,
        py: Python<'_>,
        requests: Vec<(Vec<u8>, Vec<RawFd>)>,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let requests = requests
            .iter()
            .map(|(request, fds)| Ok((request.as_slice(), unchecked::borrow_fds(fds)?)))
            .collect::<PyResult<Vec<_>>>()?;
        let requests: Vec<_> =
            requests.iter().map(|(request, fds)| (*request, fds.as_slice())).collect();
        let forked = py.detach(|| self.inner.fork_all(&requests));
        forked.into_iter().map(|forked| Ok(outcome(py, forked)?.unbind())).collect()
    }

    /// Has the server end when its last child has, and waits for that.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        wait(py, None, |deadline| self.inner.stop(deadline)).map(drop)
    }
}

/// A new process, or the exception for its error.
fn outcome(py: Python<'_>, forked: manycore::Result<process::Child>) -> PyResult<Bound<'_, PyAny>> {
    match forked {
        Ok(inner) => Ok(Bound::new(py, Child::new(inner))?.into_any()),
        Err(error) => Ok(PyErr::from(EngineError(error)).into_value(py).into_bound(py).into_any()),
    }
}

/// Serves as a fork server. Returns the request and its descriptors in a new process, and None
/// when the server is not needed any more.
#[pyfunction]
pub(crate) fn serve(
    py: Python<'_>,
    control: RawFd,
) -> PyResult<Option<(Bound<'_, PyBytes>, Vec<RawFd>)>> {
    let control = unchecked::take_fd(control)?;
    match unchecked::serve(py, control).map_err(EngineError)? {
        Served::Child { request, fds } => {
            let fds = fds.into_iter().map(IntoRawFd::into_raw_fd).collect();
            Ok(Some((PyBytes::new(py, &request), fds)))
        }
        Served::Ended => Ok(None),
    }
}
