//! The engine's errors as Python's exceptions, and waiting in a way that Python's signals end.

use std::time::{Duration, Instant};

use pyo3::exceptions::{
    PyBrokenPipeError, PyInterruptedError, PyMemoryError, PyOSError, PyRuntimeError,
    PyTimeoutError, PyValueError,
};
use pyo3::marker::Ungil;
use pyo3::prelude::*;

pyo3::import_exception!(manycore._errors, OwnerDied);
pyo3::import_exception!(manycore._broken, PoolBroken);
pyo3::import_exception!(manycore._broken, WorkerDied);
pyo3::import_exception!(multiprocessing.context, ProcessError);
pyo3::import_exception!(multiprocessing.context, TimeoutError);

/// An error of the engine on its way to Python.
pub(crate) struct EngineError(pub(crate) manycore::Error);

impl From<manycore::Error> for EngineError {
    fn from(error: manycore::Error) -> Self {
        Self(error)
    }
}

impl From<EngineError> for PyErr {
    fn from(EngineError(error): EngineError) -> Self {
        let message = error.to_string();
        if let Some(pid) = error.dead_owner() {
            OwnerDied::new_err((message, pid))
        } else if let Some(errno) = error.raw_os_error() {
            system_error(errno, &message)
        } else if error.is_out_of_memory() {
            PyMemoryError::new_err(message)
        } else if error.is_timeout() {
            PyTimeoutError::new_err(message)
        } else if error.is_interrupted() {
            PyInterruptedError::new_err(message)
        } else if error.is_misuse() {
            PyValueError::new_err(message)
        } else if error.is_inherited() {
            PyRuntimeError::new_err(message)
        } else if error.is_closed() {
            PyBrokenPipeError::new_err(message)
        } else {
            PyOSError::new_err(message)
        }
    }
}

/// An `OSError` as any other; what the engine was about is a note on it.
fn system_error(errno: i32, message: &str) -> PyErr {
    Python::attach(|py| {
        let text = py.import("os").and_then(|os| os.call_method1("strerror", (errno,)));
        let text = text.map_or_else(|_| message.to_owned(), |text| text.to_string());
        let error = PyOSError::new_err((errno, text));
        // Without memory for the note there is still the error.
        let _ = error.value(py).call_method1("add_note", (message,));
        error
    })
}

/// When `timeout` seconds from now are over; `None` is never, a negative time is now.
pub(crate) fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else { return Ok(None) };
    if seconds.is_nan() {
        return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
    }
    // What is too long for a Duration or an Instant is as good as never.
    let span = Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    Ok(span.and_then(|span| Instant::now().checked_add(span)))
}

/// How long a wait may be deaf to a signal that came just before it.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// Runs `call` without the GIL until it is done or `deadline` passes (`None`). A signal has its
/// Python handler run; if that raises, the wait is over, else it goes on.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    call: impl Fn(Option<Instant>) -> manycore::Result<T> + Ungil + Sync,
) -> PyResult<Option<T>> {
    wait_for(py, deadline, |until| match call(until) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_timeout() => Ok(None),
        Err(error) => Err(error),
    })
}

/// As `wait`, for a `call` that says `None` when its deadline passes.
///
/// A signal that arrives after the last look at Python's signals, but before the kernel has put
/// the thread to sleep, does not end the sleep. Therefore a wait ends by itself to look again:
/// for the first time soon, and then after twice as long each time. So the signal is seen at the
/// latest when the wait has lasted twice as long, and a long wait costs nothing.
pub(crate) fn wait_for<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    call: impl Fn(Option<Instant>) -> manycore::Result<Option<T>> + Ungil + Sync,
) -> PyResult<Option<T>> {
    let mut span = FIRST_LOOK;
    loop {
        let look = Instant::now().checked_add(span);
        let last = deadline.is_some_and(|end| look.is_none_or(|look| end <= look));
        let until = if last { deadline } else { look };
        match py.detach(|| call(until)) {
            Ok(Some(value)) => return Ok(Some(value)),
            Ok(None) if last => return Ok(None),
            Ok(None) => span = span.saturating_mul(2),
            Err(error) if error.is_interrupted() => {}
            Err(error) => return Err(EngineError(error).into()),
        }
        py.check_signals()?;
    }
}
