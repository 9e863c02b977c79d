//! Methods that are bound once for each object and not at each use.
//!
//! Up to Python 3.13 a `with` statement binds `__enter__` and `__exit__` each time: two objects are
//! made and freed, which takes three times as long as a lock. A descriptor of this kind hands out
//! what the object has ready.
#![allow(unsafe_code, reason = "a type with a descriptor slot of its own is made of raw pointers")]

use std::ffi::{c_int, c_void};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::direct::Shareable;

/// A method that objects have ready.
pub(crate) trait Ready: 'static {
    type Of: Shareable;
    const NAME: &'static str;

    /// The bound method; calls no Python code.
    fn find(this: &Self::Of) -> Option<&Py<PyAny>>;

    /// Binds it.
    fn make<'py>(this: &Bound<'py, Self::Of>) -> PyResult<Bound<'py, PyAny>>;
}

/// A descriptor, as the interpreter sees it.
#[repr(C)]
struct Descriptor {
    head: ffi::PyObject,
    /// What the class itself has by the method's name.
    ordinary: *mut ffi::PyObject,
}

/// Puts a descriptor in the place of a method of `class`.
pub(crate) fn make_ready<R: Ready>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    let ordinary = class.getattr(R::NAME)?;
    let get: ffi::descrgetfunc = get::<R>;
    let mut slots = [
        ffi::PyType_Slot { slot: ffi::Py_tp_descr_get, pfunc: get as *mut c_void },
        ffi::PyType_Slot { slot: 0, pfunc: ptr::null_mut() },
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"manycore._engine.ready_method".as_ptr(),
        basicsize: size_of::<Descriptor>() as c_int,
        itemsize: 0,
        flags: ffi::Py_TPFLAGS_DEFAULT as u32,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec describes `Descriptor`; its slots end with a zero and are copied, and its
    // name is a constant. A new object of the type is zeroed but for its head.
    let descriptor = unsafe {
        let kind = Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))?;
        let made = ffi::PyType_GenericAlloc(kind.as_ptr().cast(), 0);
        let made = Bound::from_owned_ptr_or_err(py, made)?;
        // It stays as long as the class, which is for ever.
        (*made.as_ptr().cast::<Descriptor>()).ordinary = ordinary.into_ptr();
        made
    };
    class.setattr(R::NAME, descriptor)
}

unsafe extern "C" fn get<R: Ready>(
    descriptor: *mut ffi::PyObject,
    object: *mut ffi::PyObject,
    _class: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter is attached, and gives a descriptor of the type that has this slot,
    // and an object or, for the class itself, null.
    unsafe {
        let py = Python::assume_attached();
        let Some(object) = Borrowed::from_ptr_or_opt(py, object) else {
            let ordinary = (*descriptor.cast::<Descriptor>()).ordinary;
            return Borrowed::from_ptr(py, ordinary).to_owned().into_ptr();
        };
        match object.cast::<R::Of>().ok().and_then(|this| R::find(this.get()).map(|m| m.clone_ref(py))) {
            Some(method) => method.into_ptr(),
            None => make::<R>(&object),
        }
    }
}

#[cold]
fn make<R: Ready>(object: &Bound<'_, PyAny>) -> *mut ffi::PyObject {
    Python::attach(|py| {
        let made = object.cast::<R::Of>().map_err(PyErr::from).and_then(R::make);
        made.map_or_else(
            |error| {
                error.restore(py);
                ptr::null_mut()
            },
            Bound::into_ptr,
        )
    })
}
