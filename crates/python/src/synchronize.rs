//! Locks, semaphores, conditions and events between processes.
//!
//! Calls that need not wait keep the GIL: they are shorter than giving it up.

use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use manycore::{memory, sync};
use pyo3::exceptions::{PyAssertionError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{Borrowed, intern};

use crate::arguments::{CInt, Truth};
use crate::direct::{self, Answer, Arguments, Method, ORDINARY, ordinary};
use crate::error::{EngineError, deadline, wait, wait_for};
use crate::guarded::{Guarded, initialised_twice, not_initialised};
use crate::heap::Block;
use crate::plain;

/// The highest value of a semaphore.
pub(crate) const SEM_VALUE_MAX: i32 = i32::MAX;

/// The kinds of [`SemLock`]: the standard library's two, and one that knows its holder.
pub(crate) const RECURSIVE_MUTEX: i32 = 0;
pub(crate) const SEMAPHORE: i32 = 1;
pub(crate) const MUTEX: i32 = 2;

enum Inner {
    Mutex {
        mutex: sync::Mutex,
        /// The thread of this process that took it last; of use only while this process holds it.
        thread: AtomicUsize,
    },
    Recursive(sync::RecursiveMutex),
    Semaphore(sync::Semaphore),
}

/// A lock or a semaphore: what the objects that programs have are made of.
#[pyclass(frozen, module = "manycore._engine")]
pub(crate) struct SemLock {
    inner: Inner,
    #[pyo3(get)]
    maxvalue: u32,
}

impl SemLock {
    /// Takes it if it is free. Whether it did.
    #[inline(always)] // the hottest of all: its result is to be looked at in registers
    pub(crate) fn try_acquire(&self) -> manycore::Result<bool> {
        match &self.inner {
            Inner::Mutex { mutex, thread } => {
                let taken = mutex.try_lock()?;
                if taken {
                    thread.store(this_thread(), Ordering::Relaxed);
                }
                Ok(taken)
            }
            Inner::Recursive(mutex) => mutex.try_lock(),
            Inner::Semaphore(semaphore) => semaphore.try_acquire(),
        }
    }

    /// Runs `f`, which neither waits nor panics, while it is taken. None if that has to be waited for.
    #[inline]
    pub(crate) fn try_with<T>(&self, f: impl FnOnce() -> T) -> PyResult<Option<T>> {
        if let Inner::Recursive(mutex) = &self.inner {
            return Ok(mutex.try_with(f));
        }
        if !matches!(self.try_acquire(), Ok(true)) {
            return Ok(None);
        }
        let result = f();
        self.free()?;
        Ok(Some(result))
    }

    fn wait(&self, deadline: Option<Instant>) -> manycore::Result<()> {
        match &self.inner {
            Inner::Mutex { mutex, thread } => {
                mutex.lock(deadline)?;
                thread.store(this_thread(), Ordering::Relaxed);
                Ok(())
            }
            Inner::Recursive(mutex) => mutex.lock(deadline),
            Inner::Semaphore(semaphore) => semaphore.acquire(deadline),
        }
    }

    /// Gives it back.
    #[inline(always)] // as `try_acquire`
    pub(crate) fn free(&self) -> PyResult<()> {
        let freed = match &self.inner {
            Inner::Mutex { mutex, .. } => mutex.unlock(),
            Inner::Recursive(mutex) => mutex.unlock(),
            Inner::Semaphore(semaphore) => semaphore.release(1),
        };
        freed.map_err(|error| self.not_freed(error))
    }

    #[cold]
    fn not_freed(&self, error: manycore::Error) -> PyErr {
        match &self.inner {
            _ if !error.is_misuse() => EngineError(error).into(),
            Inner::Recursive(_) => {
                PyAssertionError::new_err("attempt to release recursive lock not owned by thread")
            }
            _ => PyValueError::new_err("semaphore or lock released too many times"),
        }
    }

    fn place(&self) -> &memory::Block {
        match &self.inner {
            Inner::Mutex { mutex, .. } => mutex.block(),
            Inner::Recursive(mutex) => mutex.block(),
            Inner::Semaphore(semaphore) => semaphore.block(),
        }
    }

    fn is_mine(&self) -> bool {
        match &self.inner {
            Inner::Mutex { mutex, thread } => {
                mutex.owner() == Some(process::id())
                    && thread.load(Ordering::Relaxed) == this_thread()
            }
            Inner::Recursive(mutex) => mutex.is_owned(),
            Inner::Semaphore(_) => false,
        }
    }

    fn count(&self) -> u32 {
        match &self.inner {
            Inner::Mutex { mutex, .. } => (mutex.owner() == Some(process::id())).into(),
            Inner::Recursive(mutex) if mutex.is_owned() => mutex.count(),
            Inner::Recursive(_) | Inner::Semaphore(_) => 0,
        }
    }

    fn value(&self) -> u32 {
        match &self.inner {
            Inner::Mutex { mutex, .. } => (!mutex.is_locked()).into(),
            Inner::Recursive(mutex) => mutex.owner().is_none().into(),
            Inner::Semaphore(semaphore) => semaphore.value(),
        }
    }
}

#[pymethods]
impl SemLock {
    /// One of its own, or the one in `block`.
    #[new]
    #[pyo3(signature = (kind, value, maxvalue, block = None))]
    fn new(
        kind: i32,
        value: CInt,
        maxvalue: CInt,
        block: Option<&Bound<'_, Block>>,
    ) -> PyResult<Self> {
        if value.0 < 0 {
            return Err(PyOSError::new_err((EINVAL, "Invalid argument")));
        }
        let (value, maxvalue) = (value.0.unsigned_abs(), maxvalue.0.unsigned_abs());
        let block = block.map(|block| block.get().inner.clone());
        let inner = match kind {
            MUTEX => new_or(block, sync::Mutex::new, sync::Mutex::from_block)
                .map(|mutex| Inner::Mutex { mutex, thread: AtomicUsize::new(0) }),
            RECURSIVE_MUTEX => {
                new_or(block, sync::RecursiveMutex::new, sync::RecursiveMutex::from_block)
                    .map(Inner::Recursive)
            }
            SEMAPHORE => {
                let new = || sync::Semaphore::new(value, Some(maxvalue));
                new_or(block, new, sync::Semaphore::from_block).map(Inner::Semaphore)
            }
            _ => return Err(PyValueError::new_err("unrecognized kind")),
        };
        Ok(Self { inner: inner.map_err(EngineError)?, maxvalue })
    }

    /// Takes it; waits for it, at most `timeout` seconds, if `block`. Whether it did.
    #[pyo3(
        signature = (block = Truth(true), timeout = None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    pub(crate) fn acquire(
        &self,
        py: Python<'_>,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        Ok(self.try_acquire().map_err(EngineError)?
            || (block.0 && wait(py, deadline(timeout)?, |deadline| self.wait(deadline))?.is_some()))
    }

    /// Gives it back; an error if it is not taken.
    pub(crate) fn release(&self) -> PyResult<()> {
        self.free()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, Truth(true), None)
    }

    #[pyo3(signature = (*args))]
    fn __exit__(&self, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        let _ = args;
        self.free()
    }

    /// The standard library's number for what it is.
    #[getter]
    fn kind(&self) -> i32 {
        match &self.inner {
            Inner::Recursive(_) => RECURSIVE_MUTEX,
            Inner::Mutex { .. } | Inner::Semaphore(_) => SEMAPHORE,
        }
    }

    #[getter]
    fn _kind(&self) -> i32 {
        match &self.inner {
            Inner::Mutex { .. } => MUTEX,
            Inner::Recursive(_) => RECURSIVE_MUTEX,
            Inner::Semaphore(_) => SEMAPHORE,
        }
    }

    /// The pid of the process that holds it; a semaphore does not know.
    fn owner(&self) -> Option<u32> {
        match &self.inner {
            Inner::Mutex { mutex, .. } => mutex.owner(),
            Inner::Recursive(mutex) => mutex.owner(),
            Inner::Semaphore(_) => None,
        }
    }

    #[getter]
    fn block(&self) -> Block {
        Block { inner: self.place().clone() }
    }

    fn _is_mine(&self) -> bool {
        self.is_mine()
    }

    fn _count(&self) -> u32 {
        self.count()
    }

    fn _get_value(&self) -> u32 {
        self.value()
    }

    pub(crate) fn _is_zero(&self) -> bool {
        self.value() == 0
    }
}

fn new_or<T>(
    block: Option<memory::Block>,
    new: impl FnOnce() -> manycore::Result<T>,
    from_block: impl FnOnce(memory::Block) -> manycore::Result<T>,
) -> manycore::Result<T> {
    block.map_or_else(new, from_block)
}

/// Takes `lock` if the arguments of `acquire` are common ones and there is no need to wait.
#[inline]
pub(crate) fn try_acquire<'py>(
    py: Python<'py>,
    lock: &SemLock,
    arguments: Arguments<'_, 'py>,
) -> Answer<'py> {
    let waits = arguments.is_empty() || waits(py, arguments).ok_or(ORDINARY)?;
    match lock.try_acquire() {
        Ok(taken) if taken || !waits => Ok(plain::truth(py, taken)),
        // The ordinary method has the same error, or waits.
        Ok(_) | Err(_) => Err(ORDINARY),
    }
}

/// Whether an `acquire` with these arguments may wait; None if they are unusual.
#[inline]
fn waits<'py>(py: Python<'py>, arguments: Arguments<'_, 'py>) -> Option<bool> {
    let Some(mut positional) = arguments.positional(py) else {
        let timeout = arguments.only(intern!(py, "timeout"))?;
        return plain::is_number(&timeout).then_some(true);
    };
    let block = positional.next().map_or(Some(true), |block| plain::exact_bool(&block))?;
    let timeout = positional.next().is_none_or(|timeout| plain::is_number(&timeout));
    (timeout && positional.len() == 0).then_some(block)
}

struct Acquire;

impl Method for Acquire {
    type Of = SemLock;
    const NAME: &'static str = "acquire";
    const NO_ARGUMENTS: bool = false;
    ordinary!();

    #[inline]
    fn call<'py>(this: Borrowed<'_, 'py, SemLock>, arguments: Arguments<'_, 'py>) -> Answer<'py> {
        try_acquire(this.py(), this.get(), arguments)
    }
}

struct Release;

impl Method for Release {
    type Of = SemLock;
    const NAME: &'static str = "release";
    const NO_ARGUMENTS: bool = true;
    ordinary!();

    #[inline]
    fn call<'py>(this: Borrowed<'_, 'py, SemLock>, _: Arguments<'_, 'py>) -> Answer<'py> {
        this.get().free()?;
        Ok(this.py().None().into_bound(this.py()))
    }
}

struct Enter;

impl Method for Enter {
    type Of = SemLock;
    const NAME: &'static str = "__enter__";
    const NO_ARGUMENTS: bool = true;
    ordinary!();

    #[inline]
    fn call<'py>(this: Borrowed<'_, 'py, SemLock>, _: Arguments<'_, 'py>) -> Answer<'py> {
        match this.get().try_acquire() {
            Ok(true) => Ok(plain::truth(this.py(), true)),
            Ok(false) | Err(_) => Err(ORDINARY),
        }
    }
}

struct Exit;

impl Method for Exit {
    type Of = SemLock;
    const NAME: &'static str = "__exit__";
    const NO_ARGUMENTS: bool = false;
    ordinary!();

    #[inline]
    fn call<'py>(this: Borrowed<'_, 'py, SemLock>, arguments: Arguments<'_, 'py>) -> Answer<'py> {
        let _values = arguments.positional(this.py()).ok_or(ORDINARY)?;
        this.get().free()?;
        Ok(this.py().None().into_bound(this.py()))
    }
}

/// The twin of a semaphore's `get_value`.
pub(crate) struct GetValue;

impl Method for GetValue {
    type Of = Guarded;
    const NAME: &'static str = "get_value";
    const NO_ARGUMENTS: bool = true;
    ordinary!();

    #[inline]
    fn call<'py>(this: Borrowed<'_, 'py, Guarded>, _: Arguments<'_, 'py>) -> Answer<'py> {
        let lock = this.get().semlock().ok_or(ORDINARY)?;
        Ok(plain::int(this.py(), lock.value().into())?)
    }
}

pub(crate) fn add_constants(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("SEM_VALUE_MAX", SEM_VALUE_MAX)?;
    module.add("RECURSIVE_MUTEX", RECURSIVE_MUTEX)?;
    module.add("SEMAPHORE", SEMAPHORE)?;
    module.add("MUTEX", MUTEX)
}

/// Has the interpreter call what is called most without anything in between.
pub(crate) fn set_up(py: Python<'_>) -> PyResult<()> {
    let class = PyType::new::<SemLock>(py);
    direct::add_method::<Acquire>(&class)?;
    direct::add_method::<Release>(&class)?;
    direct::add_method::<Enter>(&class)?;
    direct::add_method::<Exit>(&class)
}

/// A lock, and those who wait for a condition.
#[pyclass(frozen, subclass, extends = Guarded, module = "manycore._engine")]
pub(crate) struct Condition {
    waiters: OnceLock<sync::Condition>,
}

impl Condition {
    fn waiters(&self) -> PyResult<&sync::Condition> {
        self.waiters.get().ok_or_else(not_initialised)
    }
}

#[pymethods]
impl Condition {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Guarded::unbound()).add_subclass(Self { waiters: OnceLock::new() })
    }

    /// Nobody waits, or those in `block` do.
    #[pyo3(signature = (block = None))]
    fn _wait_in(&self, block: Option<&Bound<'_, Block>>) -> PyResult<()> {
        let block = block.map(|block| block.get().inner.clone());
        let waiters = new_or(block, sync::Condition::new, sync::Condition::from_block);
        self.waiters.set(waiters.map_err(EngineError)?).map_err(|_| initialised_twice())
    }

    /// Says that the caller, who holds the lock, is going to sleep.
    fn _enter(&self) -> PyResult<()> {
        Ok(self.waiters()?.enter().map_err(EngineError)?)
    }

    /// Sleeps, without the lock, at most `timeout` seconds; whether there was a notification.
    #[pyo3(signature = (timeout = None))]
    fn _sleep(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let waiters = self.waiters()?;
        let notified = wait_for(py, deadline(timeout)?, |deadline| {
            Ok(waiters.sleep(deadline)?.then_some(()))
        })?;
        Ok(notified.is_some())
    }

    /// Says, with the lock again, that the caller is awake; whether it had been notified.
    fn _leave(&self, notified: bool) -> PyResult<bool> {
        Ok(self.waiters()?.leave(notified))
    }

    /// Wakes at most `n` sleepers; how many.
    fn _wake(&self, n: u32) -> PyResult<u32> {
        Ok(self.waiters()?.notify(n))
    }

    /// How many have entered and not left.
    fn _waiters(&self) -> PyResult<usize> {
        Ok(self.waiters()?.waiters())
    }

    #[getter]
    fn _block(&self) -> PyResult<Block> {
        Ok(Block { inner: self.waiters()?.block().clone() })
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

/// A number for the calling thread.
fn this_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(1);
    thread_local!(static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed));
    NUMBER.with(|number| *number)
}
