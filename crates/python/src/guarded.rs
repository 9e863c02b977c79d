//! Objects that are guarded by a lock: locks themselves, conditions, shared values.

use std::sync::OnceLock;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{Borrowed, PyTraverseError, PyVisit, intern};

use crate::direct::{Answer, Arguments, Method, ORDINARY, ordinary};
use crate::ready::{self, Ready};
use crate::synchronize::{self, SemLock};

/// What can be acquired, released, and be the subject of a `with` statement, all through its lock.
#[pyclass(frozen, subclass, module = "manycore._engine")]
pub(crate) struct Guarded {
    guard: OnceLock<Guard>,
}

struct Guard {
    lock: Py<PyAny>,
    /// The lock, if it is one of ours.
    semlock: Option<Py<SemLock>>,
    enter: OnceLock<Py<PyAny>>,
    exit: OnceLock<Py<PyAny>>,
}

impl Guarded {
    /// One without a lock so far.
    pub(crate) fn unbound() -> Self {
        Self { guard: OnceLock::new() }
    }

    fn guard(&self) -> PyResult<&Guard> {
        self.guard.get().ok_or_else(not_initialised)
    }

    #[inline]
    pub(crate) fn lock(&self) -> Option<&Py<PyAny>> {
        self.guard.get().map(|guard| &guard.lock)
    }

    /// The lock, if it is one of ours.
    #[inline]
    pub(crate) fn semlock(&self) -> Option<&SemLock> {
        Some(self.guard.get()?.semlock.as_ref()?.get())
    }

    /// Runs `f` with the lock taken. None if that needs to wait, or if the lock is not ours.
    #[inline]
    pub(crate) fn with_lock<T>(&self, f: impl FnOnce() -> T) -> PyResult<Option<T>> {
        self.semlock().map_or(Ok(None), |lock| lock.try_with(f))
    }
}

#[pymethods]
impl Guarded {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::unbound()
    }

    /// Names the lock, and what it is made of if it is one of ours.
    #[pyo3(signature = (lock, semlock = None))]
    fn _guard_with(&self, lock: Py<PyAny>, semlock: Option<Py<SemLock>>) -> PyResult<()> {
        let guard = Guard { lock, semlock, enter: OnceLock::new(), exit: OnceLock::new() };
        self.guard.set(guard).map_err(|_| initialised_twice())
    }

    #[getter]
    fn _lock(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.guard()?.lock.clone_ref(py))
    }

    #[getter]
    fn _semlock(&self, py: Python<'_>) -> PyResult<Option<Py<SemLock>>> {
        Ok(self.guard()?.semlock.as_ref().map(|semlock| semlock.clone_ref(py)))
    }

    /// Takes the lock; waits for it, at most `timeout` seconds, if `block`. Whether it did.
    #[pyo3(
        signature = (*args, **kwargs),
        text_signature = "($self, block=True, timeout=None)"
    )]
    fn acquire<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        self.guard()?.lock.bind(py).call_method(intern!(py, "acquire"), args, kwargs)
    }

    /// Gives the lock back; an error if it is not taken.
    fn release<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.guard()?.lock.bind(py).call_method0(intern!(py, "release"))
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.guard()?.lock.bind(py).call_method0(intern!(py, "__enter__"))
    }

    #[pyo3(signature = (*args))]
    fn __exit__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.guard()?.lock.bind(py).call_method1(intern!(py, "__exit__"), args)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(guard) = self.guard.get() else { return Ok(()) };
        visit.call(&guard.lock)?;
        visit.call(&guard.semlock)?;
        visit.call(guard.enter.get())?;
        visit.call(guard.exit.get())
    }
}

struct Enter;

impl Ready for Enter {
    type Of = Guarded;
    const NAME: &'static str = "__enter__";

    #[inline]
    fn find(this: &Guarded) -> Option<&Py<PyAny>> {
        this.guard.get()?.enter.get()
    }

    fn make<'py>(this: &Bound<'py, Guarded>) -> PyResult<Bound<'py, PyAny>> {
        let guard = this.get().guard()?;
        bind(this.py(), guard, &guard.enter, Self::NAME)
    }
}

struct Exit;

impl Ready for Exit {
    type Of = Guarded;
    const NAME: &'static str = "__exit__";

    #[inline]
    fn find(this: &Guarded) -> Option<&Py<PyAny>> {
        this.guard.get()?.exit.get()
    }

    fn make<'py>(this: &Bound<'py, Guarded>) -> PyResult<Bound<'py, PyAny>> {
        let guard = this.get().guard()?;
        bind(this.py(), guard, &guard.exit, Self::NAME)
    }
}

/// The lock's own method: it does not refer to what the lock guards, so it can be kept there.
fn bind<'py>(
    py: Python<'py>,
    guard: &Guard,
    place: &OnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let method = guard.lock.bind(py).getattr(name)?;
    Ok(place.get_or_init(|| method.unbind()).bind(py).clone())
}

/// The twin of `acquire`.
pub(crate) struct Acquire;

impl Method for Acquire {
    type Of = Guarded;
    const NAME: &'static str = "acquire";
    const NO_ARGUMENTS: bool = false;
    ordinary!();

    #[inline]
    fn call<'py>(this: Borrowed<'_, 'py, Guarded>, arguments: Arguments<'_, 'py>) -> Answer<'py> {
        let lock = this.get().semlock().ok_or(ORDINARY)?;
        synchronize::try_acquire(this.py(), lock, arguments)
    }
}

/// The twin of `release`.
pub(crate) struct Release;

impl Method for Release {
    type Of = Guarded;
    const NAME: &'static str = "release";
    const NO_ARGUMENTS: bool = true;
    ordinary!();

    #[inline]
    fn call<'py>(this: Borrowed<'_, 'py, Guarded>, _: Arguments<'_, 'py>) -> Answer<'py> {
        this.get().semlock().ok_or(ORDINARY)?.free()?;
        Ok(this.py().None().into_bound(this.py()))
    }
}

#[cold]
pub(crate) fn not_initialised() -> PyErr {
    PyRuntimeError::new_err("__init__() has not been called")
}

#[cold]
pub(crate) fn initialised_twice() -> PyErr {
    PyRuntimeError::new_err("__init__() was called twice")
}

/// Has `with` statements find what is ready.
pub(crate) fn set_up(py: Python<'_>) -> PyResult<()> {
    make_all_ready(&PyType::new::<Guarded>(py))
}

pub(crate) fn make_all_ready(class: &Bound<'_, PyType>) -> PyResult<()> {
    ready::make_ready::<Enter>(class)?;
    ready::make_ready::<Exit>(class)
}
