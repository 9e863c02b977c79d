//! Queues between processes.

use std::os::fd::{AsRawFd, RawFd};

use manycore::channel::{self, QueueParts};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use crate::arguments::CInt;
use crate::error::{EngineError, deadline, wait};
use crate::unchecked::{Bytes, borrow_fd};

/// A first-in first-out queue of byte strings.
#[pyclass(frozen, module = "manycore._engine")]
pub(crate) struct Queue {
    pub(crate) inner: channel::Queue,
}

#[pymethods]
impl Queue {
    /// For at most `maxsize` items; 0 or less: any number.
    #[new]
    fn new(maxsize: CInt) -> PyResult<Self> {
        let maxsize = u32::try_from(maxsize.0).unwrap_or(0);
        Ok(Self { inner: channel::Queue::new(maxsize).map_err(EngineError)? })
    }

    /// The queue that another process shares; the descriptors stay the caller's.
    #[staticmethod]
    fn attach(segment: RawFd, log: RawFd, lamp: RawFd) -> PyResult<Self> {
        let copy = |fd| PyResult::Ok(borrow_fd(fd)?.try_clone_to_owned()?);
        let parts = QueueParts { segment, log, lamp }.try_map(copy)?;
        Ok(Self { inner: channel::Queue::attach(parts).map_err(EngineError)? })
    }

    /// The descriptors that another process needs to attach it.
    fn share(&self) -> PyResult<(RawFd, RawFd, RawFd)> {
        let QueueParts { segment, log, lamp } = self.inner.share().map_err(EngineError)?;
        Ok((segment.as_raw_fd(), log.as_raw_fd(), lamp.as_raw_fd()))
    }

    /// A descriptor that is readable while there are items; nothing is to be read from it.
    fn readable(&self, py: Python<'_>) -> PyResult<RawFd> {
        let fd = wait(py, None, |_| self.inner.readable().map(|fd| fd.as_raw_fd()))?;
        Ok(fd.unwrap_or(-1))
    }

    /// Puts an item, waiting at most `timeout` seconds while the queue is full; whether it did.
    #[pyo3(signature = (data, timeout = None))]
    fn put(&self, py: Python<'_>, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<bool> {
        let data = Bytes::of(data)?;
        let put =
            wait(py, deadline(timeout)?, |deadline| self.inner.put(&[data.as_slice()], deadline))?;
        Ok(put.is_some())
    }

    /// Takes the first item, waiting at most `timeout` seconds while there is none; or None.
    #[pyo3(signature = (timeout = None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let data = wait(py, deadline(timeout)?, |deadline| self.inner.get(deadline))?;
        Ok(data.map(|data| PyBytes::new(py, &data)))
    }

    /// Only while a process is being started.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static REDUCE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        REDUCE.import(slf.py(), "manycore._block", "reduce_queue")?.call1((slf,))
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }
}
