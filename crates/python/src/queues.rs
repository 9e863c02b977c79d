//! Queues between processes.

use std::cell::RefCell;
use std::os::fd::{AsRawFd, RawFd};

use manycore::channel::{self, Long, QueueParts, Took};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::arguments::CInt;
use crate::error::{EngineError, deadline, wait};
use crate::item;
use crate::unchecked::borrow_fd;

/// Items up to this length are taken at once; longer ones are looked at first, so that they can be
/// copied to where they will stay.
const SHORT: usize = item::BEGINNING;

thread_local! {
    /// Where short items are copied to.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A first-in first-out queue of objects.
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

    /// Puts an object, waiting at most `timeout` seconds while the queue is full. None if it did;
    /// False if the queue stayed full; or the exception because of which there is no pickle.
    #[pyo3(signature = (obj, timeout = None))]
    fn put<'py>(
        &self,
        obj: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = obj.py();
        let item = match item::dump(obj) {
            Ok(item) => item,
            // What ends the program is no reason to leave an object out.
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyException>(py) => {
                return Ok(Some(error.into_value(py).into_bound(py).into_any()));
            }
            Err(error) => return Err(error),
        };
        let put = item.with(|parts, len| {
            if len <= SHORT && self.inner.put_now(parts).map_err(EngineError)? {
                return Ok(true);
            }
            let put = wait(py, deadline(timeout)?, |deadline| self.inner.put(parts, deadline))?;
            PyResult::Ok(put.is_some())
        })?;
        Ok(if put { None } else { Some(false.into_pyobject(py)?.to_owned().into_any()) })
    }

    /// Takes the first object, waiting at most `timeout` seconds while there is none. Else the
    /// object `nothing`.
    #[pyo3(signature = (nothing, timeout = None))]
    fn get<'py>(
        &self,
        nothing: Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = nothing.py();
        // Taken out for the call: unpickling may run anything, this too.
        let mut room = ROOM.take();
        let got = self.get_through(py, &mut room, timeout);
        ROOM.set(room);
        Ok(got?.unwrap_or(nothing))
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

impl Queue {
    fn get_through<'py>(
        &self,
        py: Python<'py>,
        room: &mut Vec<u8>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut took = self.inner.take_now(room, SHORT).map_err(EngineError)?;
        // Also for a long item: somebody else may be faster.
        let deadline = if matches!(took, Took::Item) { None } else { deadline(timeout)? };
        loop {
            match took {
                Took::Item => return item::load(py, room).map(Some),
                Took::Long(long) => {
                    if let Some(obj) = self.get_long(py, room, &long)? {
                        return Ok(Some(obj));
                    }
                }
                Took::Nothing => {}
            }
            let room = std::sync::Mutex::new(&mut *room);
            let waited = wait(py, deadline, |deadline| {
                let mut room = room.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                self.inner.take(&mut room, SHORT, deadline)
            })?;
            match waited {
                Some(again) => took = again,
                None => return Ok(None),
            }
        }
    }

    /// Takes a long item, of which `room` has the beginning. None if somebody else was faster.
    fn get_long<'py>(
        &self,
        py: Python<'py>,
        room: &[u8],
        long: &Long,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut incoming = item::Incoming::new(py, room, long.len())?;
        let taken = incoming.with(|parts| {
            let parts = std::sync::Mutex::new(parts);
            wait(py, None, |_| {
                let mut parts = parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                self.inner.take_long(long, &mut parts)
            })
        })?;
        if taken == Some(true) { incoming.load(py).map(Some) } else { Ok(None) }
    }
}
