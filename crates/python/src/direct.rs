//! Methods that the interpreter calls with nothing in between.
//!
//! What pyo3 does around each call (it counts the thread's attachments, drops references that
//! other threads gave up, catches panics) takes 10 to 15 ns: more than a lock needs, and more than
//! the interpreter. So the most frequent calls have a twin here that deals with the common case,
//! and hands everything else to the ordinary method, which pyo3 or Python defines. Without the
//! twins all would be the same, only slower.
//!
//! A twin runs attached and calls no Python code. It has nothing that could panic; a panic would
//! end the process.
#![allow(unsafe_code, reason = "the interpreter's function tables are made of raw pointers")]

use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::slice;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyClass, PyTypeInfo, ffi};

/// A class whose objects may be looked into by several threads at once.
pub(crate) trait Shareable: PyClass<Frozen = True> + Sync {}

impl<T: PyClass<Frozen = True> + Sync> Shareable for T {}

/// Why a twin has no answer: the ordinary method has to see to it, or there is an error.
pub(crate) struct Otherwise(Option<Box<PyErr>>);

/// The call is none of the common ones.
pub(crate) const ORDINARY: Otherwise = Otherwise(None);

impl From<PyErr> for Otherwise {
    #[cold]
    fn from(error: PyErr) -> Self {
        Self(Some(Box::new(error)))
    }
}

pub(crate) type Answer<'py> = Result<Bound<'py, PyAny>, Otherwise>;

/// The ordinary methods behind the twins.
pub(crate) type Ordinary = PyOnceLock<Py<PyAny>>;

/// The twin of a method.
pub(crate) trait Method: 'static {
    type Of: Shareable;
    const NAME: &'static str;
    /// Takes none, not even by their names.
    const NO_ARGUMENTS: bool;

    fn ordinary() -> &'static Ordinary;

    fn call<'py>(this: Borrowed<'_, 'py, Self::Of>, arguments: Arguments<'_, 'py>) -> Answer<'py>;
}

/// The twin of a property.
pub(crate) trait Property: 'static {
    type Of: Shareable;
    const NAME: &'static str;

    fn ordinary() -> &'static Ordinary;

    fn get<'py>(this: Borrowed<'_, 'py, Self::Of>) -> Answer<'py>;

    fn set(
        this: Borrowed<'_, '_, Self::Of>,
        value: Borrowed<'_, '_, PyAny>,
    ) -> Result<(), Otherwise>;
}

/// Where the ordinary method of a twin is kept.
macro_rules! ordinary {
    () => {
        fn ordinary() -> &'static crate::direct::Ordinary {
            static ORDINARY: crate::direct::Ordinary = crate::direct::Ordinary::new();
            &ORDINARY
        }
    };
}
pub(crate) use ordinary;

/// The arguments of a call, as the interpreter has them.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a, 'py> {
    /// Those by position, then those by name.
    values: &'a [*mut ffi::PyObject],
    /// A tuple of the names, if there are any.
    names: Option<Borrowed<'a, 'py, PyTuple>>,
}

impl<'a, 'py> Arguments<'a, 'py> {
    const NONE: Self = Self { values: &[], names: None };

    /// # Safety
    ///
    /// They are those of a call with `METH_FASTCALL | METH_KEYWORDS`, which lasts for `'a`.
    unsafe fn new(
        py: Python<'py>,
        values: *const *mut ffi::PyObject,
        positional: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> Self {
        // SAFETY: the interpreter gives a tuple or null, which outlives the call.
        let names = unsafe { Borrowed::from_ptr_or_opt(py, names).map(|n| n.cast_unchecked()) };
        let named = names.map_or(0, |names: Borrowed<'_, '_, PyTuple>| names.len());
        let len = positional.unsigned_abs() + named;
        // SAFETY: there are as many values; without any the pointer may be null.
        let values = if len == 0 { &[] } else { unsafe { slice::from_raw_parts(values, len) } };
        Self { values, names }
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.values.is_empty()
    }

    /// All of them, if none is given by its name.
    #[inline]
    pub(crate) fn positional(
        self,
        py: Python<'py>,
    ) -> Option<impl ExactSizeIterator<Item = Borrowed<'a, 'py, PyAny>>> {
        // SAFETY: they are objects that the caller holds.
        let borrow = move |&value| unsafe { Borrowed::from_ptr(py, value) };
        self.names.is_none().then(|| self.values.iter().map(borrow))
    }

    /// The only one, if it has this name.
    #[inline]
    pub(crate) fn only(self, name: &Bound<'py, PyAny>) -> Option<Borrowed<'a, 'py, PyAny>> {
        let names = self.names.filter(|names| names.len() == 1 && self.values.len() == 1)?;
        // Names in calls are interned, so the same name is the same object.
        let is_it = names.get_borrowed_item(0).is_ok_and(|first| first.is(name));
        // SAFETY: as above.
        is_it.then(|| unsafe { Borrowed::from_ptr(name.py(), self.values[0]) })
    }

    /// Calls `method` with them.
    fn pass_to(
        self,
        method: &Bound<'py, PyAny>,
        this: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        // SAFETY: they are objects that the caller holds.
        let borrow = |&value| unsafe { Borrowed::from_ptr(py, value) };
        let (positional, named) =
            self.values.split_at(self.values.len() - self.names.map_or(0, |names| names.len()));
        let all = std::iter::once(this.as_borrowed()).chain(positional.iter().map(borrow));
        let all = PyTuple::new(py, all.collect::<Vec<_>>())?;
        let Some(names) = self.names else { return method.call1(all) };
        let keywords = PyDict::new(py);
        for (name, value) in names.iter_borrowed().zip(named.iter().map(borrow)) {
            keywords.set_item(name, value)?;
        }
        method.call(all, Some(&keywords))
    }
}

/// Gives `class` a twin of a method that it has or inherits.
///
/// The interpreter's fastest way to call a method needs the object to be of the very class that
/// the method was made for, so a subclass gets its own.
pub(crate) fn add_method<M: Method>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let definition = Box::new(ffi::PyMethodDef {
        ml_name: leaked(M::NAME.to_owned())?,
        ml_meth: pointers::<M>(),
        ml_flags: match M::NO_ARGUMENTS {
            true => ffi::METH_NOARGS,
            false => ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        },
        ml_doc: leaked(doc(&replace(class, M::NAME, M::ordinary())?, M::NAME)?)?,
    });
    let class_ptr = class_of::<M::Of>(class)?;
    // SAFETY: both are valid, and the definition stays for ever.
    let descriptor = unsafe { ffi::PyDescr_NewMethod(class_ptr, Box::leak(definition)) };
    set(class, M::NAME, descriptor)
}

/// As [`add_method`], of a property.
pub(crate) fn add_property<P: Property>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let ordinary = replace(class, P::NAME, P::ordinary())?;
    let text = ordinary.getattr("__doc__")?.extract::<Option<String>>()?;
    let definition = Box::new(ffi::PyGetSetDef {
        name: leaked(P::NAME.to_owned())?,
        get: Some(get::<P>),
        set: Some(set_value::<P>),
        doc: leaked(text.unwrap_or_default())?,
        closure: ptr::null_mut(),
    });
    let class_ptr = class_of::<P::Of>(class)?;
    // SAFETY: both are valid, and the definition stays for ever.
    let descriptor = unsafe { ffi::PyDescr_NewGetSet(class_ptr, Box::leak(definition)) };
    set(class, P::NAME, descriptor)
}

/// The class as the interpreter has it; TypeError unless its objects are `T`s.
pub(crate) fn class_of<T: PyTypeInfo>(
    class: &Bound<'_, PyType>,
) -> PyResult<*mut ffi::PyTypeObject> {
    if !class.is_subclass_of::<T>()? {
        let wanted = class.py().get_type::<T>();
        return Err(PyTypeError::new_err(format!("{class} is no subclass of {wanted}")));
    }
    Ok(class.as_type_ptr())
}

/// The method that gets a twin; the first time it is the ordinary one.
fn replace<'py>(
    class: &Bound<'py, PyType>,
    name: &str,
    ordinary: &'static Ordinary,
) -> PyResult<Bound<'py, PyAny>> {
    let found = || class.getattr(name).map(Bound::unbind);
    Ok(ordinary.get_or_try_init(class.py(), found)?.bind(class.py()).clone())
}

fn set(class: &Bound<'_, PyType>, name: &str, descriptor: *mut ffi::PyObject) -> PyResult<()> {
    // SAFETY: a new reference, or null with an error.
    let descriptor = unsafe { Bound::from_owned_ptr_or_err(class.py(), descriptor)? };
    class.setattr(name, descriptor)
}

/// The documentation, with the signature in the place where the interpreter looks for it.
fn doc(ordinary: &Bound<'_, PyAny>, name: &str) -> PyResult<String> {
    let signature = match ordinary.getattr_opt("__text_signature__")? {
        Some(signature) => signature.extract::<Option<String>>()?,
        // A function in Python has it elsewhere; so far there are only ones without arguments.
        None => Some("($self)".to_owned()),
    };
    let text: Option<String> = ordinary.getattr("__doc__")?.extract()?;
    let (signature, text) = (signature.unwrap_or_default(), text.unwrap_or_default());
    Ok(format!("{name}{signature}\n--\n\n{text}"))
}

/// A string for a definition, which stays for ever.
fn leaked(text: String) -> PyResult<*const std::ffi::c_char> {
    Ok(CString::new(text)?.into_raw().cast_const())
}

fn pointers<M: Method>() -> ffi::PyMethodDefPointer {
    match M::NO_ARGUMENTS {
        true => ffi::PyMethodDefPointer { PyCFunction: without_arguments::<M> },
        false => ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: with_arguments::<M> },
    }
}

unsafe extern "C" fn without_arguments<M: Method>(
    this: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter has checked the object's class, for the descriptor was made for a
    // class of such objects; it is attached.
    unsafe {
        let py = Python::assume_attached();
        let this = Borrowed::from_ptr(py, this);
        finish(py, M::call(this.cast_unchecked(), Arguments::NONE), || {
            Arguments::NONE.pass_to(ordinary_of(py, M::ordinary())?, &this)
        })
    }
}

unsafe extern "C" fn with_arguments<M: Method>(
    this: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as in `without_arguments`; the arguments are the interpreter's.
    unsafe {
        let py = Python::assume_attached();
        let this = Borrowed::from_ptr(py, this);
        let arguments = Arguments::new(py, values, positional, names);
        finish(py, M::call(this.cast_unchecked(), arguments), || {
            arguments.pass_to(ordinary_of(py, M::ordinary())?, &this)
        })
    }
}

unsafe extern "C" fn get<P: Property>(
    this: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: as in `without_arguments`.
    unsafe {
        let py = Python::assume_attached();
        let this = Borrowed::from_ptr(py, this);
        finish(py, P::get(this.cast_unchecked()), || {
            ordinary_of(py, P::ordinary())?.call_method1("__get__", (this, this.get_type()))
        })
    }
}

unsafe extern "C" fn set_value<P: Property>(
    this: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    _: *mut c_void,
) -> c_int {
    // SAFETY: as in `without_arguments`; the value is an object, or null to delete it.
    unsafe {
        let py = Python::assume_attached();
        let this = Borrowed::from_ptr(py, this);
        let value = Borrowed::from_ptr_or_opt(py, value);
        let answer = match value {
            Some(value) => P::set(this.cast_unchecked(), value),
            None => Err(ORDINARY),
        };
        match answer {
            Ok(()) => 0,
            Err(otherwise) => {
                let done = slow(py, otherwise, || {
                    let ordinary = ordinary_of(py, P::ordinary())?;
                    match value {
                        Some(value) => ordinary.call_method1("__set__", (this, value)),
                        None => ordinary.call_method1("__delete__", (this,)),
                    }
                });
                // SAFETY: null, or the reference to None that was given to us.
                let failed = done.is_null();
                ffi::Py_XDECREF(done);
                -c_int::from(failed)
            }
        }
    }
}

fn ordinary_of<'py>(
    py: Python<'py>,
    ordinary: &'static Ordinary,
) -> PyResult<&'static Bound<'py, PyAny>> {
    let missing = || PyTypeError::new_err("the class was not set up");
    ordinary.get(py).map(|ordinary| ordinary.bind(py)).ok_or_else(missing)
}

#[inline]
fn finish<'py>(
    py: Python<'py>,
    answer: Answer<'py>,
    ordinary: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> *mut ffi::PyObject {
    match answer {
        Ok(object) => object.into_ptr(),
        Err(otherwise) => slow(py, otherwise, ordinary),
    }
}

/// What the interpreter gets where the twin had no answer.
#[cold]
#[inline(never)]
fn slow<'py>(
    py: Python<'py>,
    Otherwise(error): Otherwise,
    ordinary: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> *mut ffi::PyObject {
    returned(py, || match error {
        Some(error) => Err(*error),
        None => ordinary(),
    })
}

/// What the interpreter gets of a call that may drop objects and wait, so pyo3 has to know that the
/// thread is attached.
pub(crate) fn returned<'py>(
    _py: Python<'py>,
    call: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> *mut ffi::PyObject {
    let call = |py: Python<'_>| {
        call().map_or_else(
            |error| {
                error.restore(py);
                ptr::null_mut()
            },
            Bound::into_ptr,
        )
    };
    // SAFETY: the thread is attached, so there is nothing to check. `Python::attach` does, and
    // panics once the interpreter has begun to end, when finalizers still use locks and values.
    unsafe { Python::attach_unchecked(call) }
}

/// What a twin found, or else what the ordinary way gives, for methods that pyo3 defines.
#[inline]
pub(crate) fn or_ordinary<T>(
    answer: Result<T, Otherwise>,
    ordinary: impl FnOnce() -> PyResult<T>,
) -> PyResult<T> {
    match answer {
        Ok(found) => Ok(found),
        Err(Otherwise(Some(error))) => Err(*error),
        Err(Otherwise(None)) => ordinary(),
    }
}
