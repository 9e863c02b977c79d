//! Pickling for a process that may not know all names.
//!
//! The C pickler takes functions and classes by their names. Where that fails, or names something
//! of the main module that the reader has not, `manycore._by_value` takes them by value.

use std::sync::LazyLock;

use memchr::memchr_iter;
use memchr::memmem::{Finder, find};
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyModule, PyString, PyType};

use crate::pickle::{self, Pickled};
use crate::scalar;

/// In every pickle that names the main module: `__main__`, or `__mp_main__` in a child.
static MAIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("_main__"));

// Opcodes of pickle.
const MEMOIZE: u8 = 0x94;
const SHORT_BINUNICODE: u8 = 0x8c;
const STACK_GLOBAL: u8 = 0x93;

/// Those for whom something is pickled: a `manycore._peers.Peer`.
pub(crate) struct Peer {
    object: Py<PyAny>,
}

impl Peer {
    pub(crate) fn new(object: Py<PyAny>) -> Self {
        Self { object }
    }

    /// The same for another owner: what the garbage collector visits belongs to one object.
    pub(crate) fn share(&self, py: Python<'_>) -> Self {
        Self { object: self.object.clone_ref(py) }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)
    }

    /// Pickles an object, its large buffers apart.
    pub(crate) fn dump(&self, obj: &Bound<'_, PyAny>) -> PyResult<Pickled> {
        let py = obj.py();
        if let Some(bytes) = scalar::dump(obj) {
            // It has no names.
            return Ok(bytes.into());
        }
        match pickle::dump_object(obj) {
            Ok(pickled) if !self.misses(py, &pickled)? => Ok(pickled),
            Ok(_) => by_value(obj, Some(self), None),
            Err(error) => retry(obj, Some(self), error),
        }
    }

    /// Pickles an object that goes to several processes, its large buffers apart. And whether the
    /// pickle is the usual one, by reference.
    pub(crate) fn dump_once(&self, obj: &Bound<'_, PyAny>) -> PyResult<(Pickled, bool)> {
        let pickled = match pickle::dump_object(obj) {
            Ok(pickled) if !self.misses(obj.py(), &pickled)? => return Ok((pickled, true)),
            Ok(_) => by_value(obj, Some(self), None),
            Err(error) => retry(obj, Some(self), error),
        };
        Ok((pickled?, false))
    }

    /// Whether the pickle may name something that the reader has not.
    fn misses(&self, py: Python<'_>, pickled: &Pickled) -> PyResult<bool> {
        misses(self.object.bind(py), pickled.structure())
    }
}

/// Pickles a worker's result, its large buffers apart.
pub(crate) fn dump_result(obj: &Bound<'_, PyAny>) -> PyResult<Pickled> {
    pickle::dump(obj).or_else(|error| retry(obj, None, error))
}

/// Whether a pickle may name something of the main module that `peer` has not.
#[pyfunction]
pub(crate) fn names_unknown(pickled: &[u8], peer: &Bound<'_, PyAny>) -> PyResult<bool> {
    misses(peer, std::iter::once(pickled))
}

/// Whether the parts of a pickle may name something of the main module that the peer has not.
fn misses<'a>(
    peer: &Bound<'_, PyAny>,
    parts: impl Iterator<Item = &'a [u8]> + Clone,
) -> PyResult<bool> {
    if !parts.clone().any(|part| MAIN.find(part).is_some()) {
        return Ok(false);
    }
    let Ok(known) = peer.getattr(intern!(peer.py(), "known"))?.cast_into::<PyDict>() else {
        return Ok(true);
    };
    let mut rest = parts.clone();
    if let (Some(only), None) = (rest.next(), rest.next())
        && let Some(name) = plain_name(only)
    {
        return misses_one(peer, &known, name);
    }
    misses_any(peer, &known, |name| parts.clone().any(|part| find(part, name).is_some()))
}

/// The one name of the main module in a pickle that has nothing else from modules, as most have
/// that are short; then there is no need to look for all names that there could be.
fn plain_name(pickle: &[u8]) -> Option<&str> {
    if memchr_iter(STACK_GLOBAL, pickle).count() > 1 {
        return None;
    }
    let end = MAIN.find(pickle)? + MAIN.needle().len();
    let [MEMOIZE, SHORT_BINUNICODE, len, rest @ ..] = &pickle[end..] else { return None };
    let (name, after) = rest.split_at_checked(usize::from(*len))?;
    let name = str::from_utf8(name).ok()?.split('.').next();
    if after.starts_with(&[MEMOIZE, STACK_GLOBAL]) { name } else { None }
}

fn misses_one(peer: &Bound<'_, PyAny>, known: &Bound<'_, PyDict>, name: &str) -> PyResult<bool> {
    let Some(value) = main_namespace(peer.py())?.get_item(name)? else { return Ok(true) };
    if known.get_item(name)?.is_some_and(|it| it.is(&value)) {
        return Ok(false);
    }
    Ok(!peer.call_method1(intern!(peer.py(), "resolves"), (name, &value))?.is_truthy()?)
}

/// Whether a function or class of the main module is unknown to the peer and `named`.
fn misses_any(
    peer: &Bound<'_, PyAny>,
    known: &Bound<'_, PyDict>,
    named: impl Fn(&[u8]) -> bool,
) -> PyResult<bool> {
    let py = peer.py();
    // A copy: the peer's methods are Python code, and other threads may define something.
    for (name, value) in main_namespace(py)?.copy()? {
        if !is_definition(&value) || known.get_item(&name)?.is_some_and(|it| it.is(&value)) {
            continue;
        }
        let Ok(text) = name.cast::<PyString>() else { continue };
        if named(text.to_cow()?.as_bytes())
            && !peer.call_method1(intern!(py, "resolves"), (&name, &value))?.is_truthy()?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn main_namespace(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let modules = MODULES.import(py, "sys", "modules")?;
    match modules.get_item(intern!(py, "__main__"))? {
        Some(main) => Ok(main.cast_into::<PyModule>()?.dict()),
        None => Ok(PyDict::new(py)),
    }
}

/// Whether pickle takes such an object by its name.
fn is_definition(value: &Bound<'_, PyAny>) -> bool {
    static FUNCTION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static CACHED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let (py, class) = (value.py(), value.get_type());
    value.is_instance_of::<PyType>()
        || FUNCTION.import(py, "types", "FunctionType").is_ok_and(|it| class.is(it))
        || CACHED.import(py, "functools", "_lru_cache_wrapper").is_ok_and(|it| class.is(it))
}

/// Pickles by value if `error` is of the kind that pickle raises for what it cannot take.
fn retry(obj: &Bound<'_, PyAny>, peer: Option<&Peer>, error: PyErr) -> PyResult<Pickled> {
    static REFUSAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = obj.py();
    let refused = error.is_instance_of::<PyAttributeError>(py)
        || error.is_instance_of::<PyTypeError>(py)
        || error.is_instance(py, REFUSAL.import(py, "pickle", "PicklingError")?);
    if refused { by_value(obj, peer, Some(error)) } else { Err(error) }
}

fn by_value(
    obj: &Bound<'_, PyAny>,
    peer: Option<&Peer>,
    error: Option<PyErr>,
) -> PyResult<Pickled> {
    static DUMP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = obj.py();
    let dump = DUMP.import(py, "manycore._by_value", "dump")?;
    let peer = peer.map(|peer| peer.object.bind(py));
    let error = error.map(|error| error.into_value(py));
    pickle::dump_with_prefix(py, |sink| {
        let before = dump.call1((obj, sink, peer, error))?;
        Ok(before.cast_into::<PyBytes>()?)
    })
}
