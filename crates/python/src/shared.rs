//! Objects that are pickled once and live in memory that all processes share.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use manycore::channel::SealedMessage;
use manycore::memory::Descriptor;
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType, PyWeakrefReference};

use crate::by_value::Peer;
use crate::error::EngineError;
use crate::pickle;
use crate::unchecked::borrow_fd;

/// An object in memory that all processes share: it crosses to each once, and only by reference.
///
/// There is one of these in a process for the same memory.
#[pyclass(frozen, generic, weakref, module = "manycore", name = "Shared")]
pub(crate) struct Shared {
    message: SealedMessage,
    /// The object, from the first time on that somebody wants it, and the process that made it: a
    /// forked child makes its own, as other children do.
    object: Mutex<Option<(u32, Py<PyAny>)>>,
}

/// Those of this process, by what tells their memory from all other.
type Known = HashMap<(u64, u64), Py<PyWeakrefReference>>;

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// How many there are here: without any, nothing has to be looked for in arguments.
static COUNT: AtomicUsize = AtomicUsize::new(0);

#[pymethods]
impl Shared {
    /// The object. Each process makes it once, and may write to its copy.
    fn get(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let pid = process::id();
        if let Some((_, object)) = locked(&self.object).as_ref().filter(|(owner, _)| *owner == pid)
        {
            return Ok(object.clone_ref(py));
        }
        let message = self.message.open().map_err(EngineError)?;
        let object = pickle::load(py, &message)?;
        // Nobody waits for another thread here: two may make it, and the first is the object.
        let mut place = locked(&self.object);
        if let Some((_, first)) = place.as_ref().filter(|(owner, _)| *owner == pid) {
            let first = first.clone_ref(py);
            drop(place);
            return Ok(first);
        }
        let before = place.replace((pid, object.clone_ref(py)));
        drop(place);
        drop(before);
        Ok(object)
    }

    /// How much memory it takes, once for all processes.
    #[getter]
    fn nbytes(&self) -> usize {
        self.message.memory().len()
    }

    /// The descriptor, for a process that is being started.
    fn fileno(&self) -> RawFd {
        self.descriptor().as_fd().as_raw_fd()
    }

    /// The one whose memory is behind a descriptor, which stays the caller's.
    #[staticmethod]
    fn attach(py: Python<'_>, fd: RawFd) -> PyResult<Py<Self>> {
        Self::of(py, Descriptor::new(borrow_fd(fd)?.try_clone_to_owned()?))
    }

    fn __repr__(&self) -> String {
        format!("<manycore.Shared of {} bytes>", self.nbytes())
    }

    fn __copy__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __deepcopy__(slf: &Bound<'_, Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a Shared object can only be sent to another process, not pickled for anything else",
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.object.try_lock().ok().as_deref() {
            Some(Some((_, object))) => visit.call(object),
            _ => Ok(()),
        }
    }
}

impl Shared {
    /// The one of this process for the memory behind a descriptor.
    pub(crate) fn of(py: Python<'_>, descriptor: Descriptor) -> PyResult<Py<Self>> {
        let message = SealedMessage::attach(descriptor).map_err(EngineError)?;
        let identity = message.memory().identity().map_err(EngineError)?;
        if let Some(known) = Self::known(py, identity) {
            return Ok(known);
        }
        Self::new(py, message, identity)
    }

    fn known(py: Python<'_>, identity: (u64, u64)) -> Option<Py<Self>> {
        let reference = known().as_ref()?.get(&identity)?.clone_ref(py);
        reference.bind(py).upgrade_as::<Self>().ok()?.map(Bound::unbind)
    }

    fn new(py: Python<'_>, message: SealedMessage, identity: (u64, u64)) -> PyResult<Py<Self>> {
        COUNT.fetch_add(1, Ordering::Relaxed);
        let shared = Bound::new(py, Self { message, object: Mutex::new(None) })?;
        let reference = PyWeakrefReference::new(shared.as_any())?.unbind();
        // What was there for other memory is dropped after the lock.
        let _before = known().get_or_insert_default().insert(identity, reference);
        Ok(shared.unbind())
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        self.message.memory().descriptor()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
        let Ok(identity) = self.message.memory().identity() else { return };
        let _reference = known().as_mut().and_then(|known| known.remove(&identity));
    }
}

fn known() -> MutexGuard<'static, Option<Known>> {
    locked(&KNOWN)
}

/// For moments, with the GIL, and never while Python code runs.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pickles an object into memory that all processes share; `peer` is what they have by name.
#[pyfunction]
pub(crate) fn share(obj: &Bound<'_, PyAny>, peer: Py<PyAny>) -> PyResult<Py<Shared>> {
    let py = obj.py();
    let (pickled, _) = Peer::new(peer).dump_once(obj)?;
    if pickled.has_descriptors() {
        return Err(PyTypeError::new_err(
            "obj: it has locks, queues, connections or other things that processes share; \
             pass those beside it",
        ));
    }
    let message = pickled.with(|payload| py.detach(|| SealedMessage::new(payload)));
    let message = message.map_err(EngineError)?;
    let identity = message.memory().identity().map_err(EngineError)?;
    Shared::new(py, message, identity)
}

/// A call's function and arguments, with objects in place of what stands for them.
#[pyfunction]
pub(crate) fn hand_over<'py>(
    function: Bound<'py, PyAny>,
    args: Bound<'py, PyTuple>,
    kwds: Bound<'py, PyDict>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
    Ok((in_partial(function)?, in_tuple(args)?, in_dict(kwds)?))
}

/// An argument of a call: the object itself, if this one stands for it.
pub(crate) fn object(argument: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    match argument.cast_exact::<Shared>() {
        Ok(shared) => Ok(shared.get().get(argument.py())?.into_bound(argument.py())),
        Err(_) => Ok(argument),
    }
}

fn is_shared(object: &Bound<'_, PyAny>) -> bool {
    object.cast_exact::<Shared>().is_ok()
}

fn any() -> bool {
    COUNT.load(Ordering::Relaxed) > 0
}

pub(crate) fn in_tuple(args: Bound<'_, PyTuple>) -> PyResult<Bound<'_, PyTuple>> {
    if !any() || !args.iter().any(|arg| is_shared(&arg)) {
        return Ok(args);
    }
    PyTuple::new(args.py(), args.iter().map(object).collect::<PyResult<Vec<_>>>()?)
}

pub(crate) fn in_dict(kwds: Bound<'_, PyDict>) -> PyResult<Bound<'_, PyDict>> {
    if !any() || !kwds.values().iter().any(|value| is_shared(&value)) {
        return Ok(kwds);
    }
    let objects = PyDict::new(kwds.py());
    for (name, value) in kwds {
        objects.set_item(name, object(value)?)?;
    }
    Ok(objects)
}

/// A function whose arguments may be bound to it.
pub(crate) fn in_partial(function: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    static PARTIAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = function.py();
    let class = PARTIAL.import(py, "functools", "partial")?;
    if !any() || !function.get_type().is(class) {
        return Ok(function);
    }
    let args: Bound<'_, PyTuple> = function.getattr("args")?.cast_into()?;
    let kwds: Bound<'_, PyDict> = function.getattr("keywords")?.cast_into()?;
    let (objects, named) = (in_tuple(args.clone())?, in_dict(kwds.clone())?);
    if objects.is(&args) && named.is(&kwds) {
        return Ok(function);
    }
    let all = std::iter::once(function.getattr("func")?).chain(objects.iter());
    class.call(PyTuple::new(py, all.collect::<Vec<_>>())?, Some(&named))
}
