//! Locks, semaphores, conditions and events between processes.
//!
//! Calls that need not wait keep the GIL: they are shorter than giving it up.

use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

use manycore::sync;
use pyo3::exceptions::{PyAssertionError, PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::arguments::{CInt, Truth};
use crate::error::{EngineError, deadline, wait, wait_for};
use crate::heap::Block;

/// The highest value of a semaphore.
pub(crate) const SEM_VALUE_MAX: i32 = i32::MAX;

/// A lock that anybody may release.
#[pyclass(frozen, subclass, module = "manycore._engine")]
pub(crate) struct Lock {
    inner: sync::Mutex,
    /// The thread of this process that took it last; of use only while this process holds it.
    thread: AtomicUsize,
}

#[pymethods]
impl Lock {
    #[new]
    #[pyo3(signature = (*, ctx, block = None))]
    fn new(ctx: &Bound<'_, PyAny>, block: Option<&Bound<'_, Block>>) -> PyResult<Self> {
        let _ = ctx;
        let inner = match block {
            None => sync::Mutex::new(),
            Some(block) => sync::Mutex::from_block(block.get().inner.clone()),
        };
        Ok(Self { inner: inner.map_err(EngineError)?, thread: AtomicUsize::new(0) })
    }

    /// Takes the lock; waits for it, at most `timeout` seconds, if `block`. Whether it did.
    #[pyo3(
        signature = (block = Truth(true), timeout = None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    fn acquire(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<bool> {
        let taken = self.inner.try_lock().map_err(EngineError)?
            || (block.0
                && wait(py, deadline(timeout)?, |deadline| self.inner.lock(deadline))?.is_some());
        if taken {
            self.thread.store(this_thread(), Ordering::Relaxed);
        }
        Ok(taken)
    }

    /// Frees the lock, whoever holds it; ValueError if nobody does.
    fn release(&self) -> PyResult<()> {
        self.inner.unlock().map_err(too_often)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, Truth(true), None)
    }

    #[pyo3(
        signature = (exc_type = None, exc_value = None, traceback = None),
        text_signature = "($self, *args)"
    )]
    fn __exit__(
        &self,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, traceback);
        self.release()
    }

    /// Whether somebody holds it.
    fn locked(&self) -> bool {
        self.inner.is_locked()
    }

    /// The pid of the process that holds it.
    fn owner(&self) -> Option<u32> {
        self.inner.owner()
    }

    #[getter]
    fn block(&self) -> Block {
        Block { inner: self.inner.block().clone() }
    }

    #[getter]
    fn _semlock(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn _is_mine(&self) -> bool {
        self.inner.owner() == Some(process::id())
            && self.thread.load(Ordering::Relaxed) == this_thread()
    }

    fn _count(&self) -> u32 {
        (self.inner.owner() == Some(process::id())).into()
    }

    fn _get_value(&self) -> u32 {
        (!self.inner.is_locked()).into()
    }

    fn _is_zero(&self) -> bool {
        self.inner.is_locked()
    }
}

/// A lock that its owner may take again.
#[pyclass(frozen, subclass, module = "manycore._engine")]
pub(crate) struct RLock {
    inner: sync::RecursiveMutex,
}

#[pymethods]
impl RLock {
    #[new]
    #[pyo3(signature = (*, ctx, block = None))]
    fn new(ctx: &Bound<'_, PyAny>, block: Option<&Bound<'_, Block>>) -> PyResult<Self> {
        let _ = ctx;
        let inner = match block {
            None => sync::RecursiveMutex::new(),
            Some(block) => sync::RecursiveMutex::from_block(block.get().inner.clone()),
        };
        Ok(Self { inner: inner.map_err(EngineError)? })
    }

    /// Takes the lock; waits for it, at most `timeout` seconds, if `block`. Whether it did.
    #[pyo3(
        signature = (block = Truth(true), timeout = None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    fn acquire(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<bool> {
        Ok(self.inner.try_lock().map_err(EngineError)?
            || (block.0
                && wait(py, deadline(timeout)?, |deadline| self.inner.lock(deadline))?.is_some()))
    }

    /// Undoes one `acquire`; AssertionError unless the caller is the owner.
    fn release(&self) -> PyResult<()> {
        self.inner.unlock().map_err(|error| {
            if error.is_misuse() {
                let message = "attempt to release recursive lock not owned by thread";
                return PyAssertionError::new_err(message);
            }
            EngineError(error).into()
        })
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, Truth(true), None)
    }

    #[pyo3(
        signature = (exc_type = None, exc_value = None, traceback = None),
        text_signature = "($self, *args)"
    )]
    fn __exit__(
        &self,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, traceback);
        self.release()
    }

    /// Whether somebody holds it.
    fn locked(&self) -> bool {
        self.inner.owner().is_some()
    }

    /// The pid of the process that holds it.
    fn owner(&self) -> Option<u32> {
        self.inner.owner()
    }

    #[getter]
    fn block(&self) -> Block {
        Block { inner: self.inner.block().clone() }
    }

    #[getter]
    fn _semlock(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn _is_mine(&self) -> bool {
        self.inner.is_owned()
    }

    fn _count(&self) -> u32 {
        if self.inner.is_owned() { self.inner.count() } else { 0 }
    }

    fn _get_value(&self) -> u32 {
        self.inner.owner().is_none().into()
    }

    fn _is_zero(&self) -> bool {
        self.inner.owner().is_some()
    }
}

/// A counter that is never below zero.
#[pyclass(frozen, subclass, module = "manycore._engine")]
pub(crate) struct Semaphore {
    inner: sync::Semaphore,
    #[pyo3(get)]
    maxvalue: u32,
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (value, maxvalue, block = None))]
    fn new(value: CInt, maxvalue: CInt, block: Option<&Bound<'_, Block>>) -> PyResult<Self> {
        if !(0..=maxvalue.0).contains(&value.0) {
            return Err(PyOSError::new_err((EINVAL, "Invalid argument")));
        }
        let (value, maxvalue) = (value.0.unsigned_abs(), maxvalue.0.unsigned_abs());
        let inner = match block {
            None => sync::Semaphore::new(value, Some(maxvalue)),
            Some(block) => sync::Semaphore::from_block(block.get().inner.clone()),
        };
        Ok(Self { inner: inner.map_err(EngineError)?, maxvalue })
    }

    /// Takes one; waits for it, at most `timeout` seconds, if `block`. Whether it did.
    #[pyo3(
        signature = (block = Truth(true), timeout = None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    fn acquire(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<bool> {
        Ok(self.inner.try_acquire().map_err(EngineError)?
            || (block.0
                && wait(py, deadline(timeout)?, |deadline| self.inner.acquire(deadline))?
                    .is_some()))
    }

    /// Gives one back; ValueError if the value is as high as it may be.
    fn release(&self) -> PyResult<()> {
        self.inner.release(1).map_err(too_often)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, Truth(true), None)
    }

    #[pyo3(
        signature = (exc_type = None, exc_value = None, traceback = None),
        text_signature = "($self, *args)"
    )]
    fn __exit__(
        &self,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, traceback);
        self.release()
    }

    /// Whether none is left.
    fn locked(&self) -> bool {
        self.inner.value() == 0
    }

    /// The present value.
    fn get_value(&self) -> u32 {
        self.inner.value()
    }

    #[getter]
    fn block(&self) -> Block {
        Block { inner: self.inner.block().clone() }
    }

    #[getter]
    fn _semlock(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn _get_value(&self) -> u32 {
        self.inner.value()
    }

    fn _is_zero(&self) -> bool {
        self.inner.value() == 0
    }
}

/// Those who wait for a condition, counted.
#[pyclass(frozen, module = "manycore._engine")]
pub(crate) struct Condition {
    inner: sync::Condition,
}

#[pymethods]
impl Condition {
    #[new]
    #[pyo3(signature = (block = None))]
    fn new(block: Option<&Bound<'_, Block>>) -> PyResult<Self> {
        let inner = match block {
            None => sync::Condition::new(),
            Some(block) => sync::Condition::from_block(block.get().inner.clone()),
        };
        Ok(Self { inner: inner.map_err(EngineError)? })
    }

    /// Says that the caller, who holds the lock, is going to sleep.
    fn enter(&self) -> PyResult<()> {
        Ok(self.inner.enter().map_err(EngineError)?)
    }

    /// Sleeps, without the lock, at most `timeout` seconds; whether there was a notification.
    #[pyo3(signature = (timeout = None))]
    fn sleep(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let notified = wait_for(py, deadline(timeout)?, |deadline| {
            Ok(self.inner.sleep(deadline)?.then_some(()))
        })?;
        Ok(notified.is_some())
    }

    /// Says, with the lock again, that the caller is awake; whether it had been notified.
    fn leave(&self, notified: bool) -> bool {
        self.inner.leave(notified)
    }

    /// Wakes at most `n` sleepers; how many.
    fn notify(&self, n: u32) -> u32 {
        self.inner.notify(n)
    }

    /// How many have entered and not left.
    fn waiters(&self) -> usize {
        self.inner.waiters()
    }

    #[getter]
    fn block(&self) -> Block {
        Block { inner: self.inner.block().clone() }
    }
}

/// A flag that can be waited for.
#[pyclass(frozen, subclass, module = "manycore._engine")]
pub(crate) struct Event {
    inner: sync::Event,
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*, ctx, block = None))]
    fn new(ctx: &Bound<'_, PyAny>, block: Option<&Bound<'_, Block>>) -> PyResult<Self> {
        let _ = ctx;
        let inner = match block {
            None => sync::Event::new(),
            Some(block) => sync::Event::from_block(block.get().inner.clone()),
        };
        Ok(Self { inner: inner.map_err(EngineError)? })
    }

    /// Whether the flag is set.
    fn is_set(&self) -> bool {
        self.inner.is_set()
    }

    /// Sets the flag and wakes all who wait.
    fn set(&self) {
        self.inner.set();
    }

    /// Clears the flag.
    fn clear(&self) {
        self.inner.clear();
    }

    /// Waits at most `timeout` seconds until the flag is set; whether it is.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        Ok(wait(py, deadline(timeout)?, |deadline| self.inner.wait(deadline))?.is_some())
    }

    #[getter]
    fn block(&self) -> Block {
        Block { inner: self.inner.block().clone() }
    }
}

const EINVAL: i32 = 22;

fn too_often(error: manycore::Error) -> PyErr {
    if error.is_misuse() {
        return PyValueError::new_err("semaphore or lock released too many times");
    }
    EngineError(error).into()
}

/// A number for the calling thread.
fn this_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(1);
    thread_local!(static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed));
    NUMBER.with(|number| *number)
}
