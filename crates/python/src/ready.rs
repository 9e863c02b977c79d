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

use crate::direct::{Shareable, class_of, returned};

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
    /// The class.
    class: *mut ffi::PyTypeObject,
}

/// Puts a descriptor in the place of a method that `class` has or inherits. A class with one of its
/// own has its objects told apart by a glance.
pub(crate) fn make_ready<R: Ready>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    let ordinary = class.getattr(R::NAME)?;
    class_of::<R::Of>(class)?;
    let get: ffi::descrgetfunc = get::<R>;
    let mut slots = [
        ffi::PyType_Slot { slot: ffi::Py_tp_descr_get, pfunc: get as *mut c_void },
        ffi::PyType_Slot { slot: 0, pfunc: ptr::null_mut() },
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"manycore._engine.ready_method".as_ptr(),
        basicsize: size_of::<Descriptor>() as c_int,
        itemsize: 0,
        // One that was made otherwise would have neither method nor class.
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION) as u32,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec describes `Descriptor`; its slots end with a zero and are copied, and its
    // name is a constant. A new object of the type is zeroed but for its head.
    let descriptor = unsafe {
        let kind = Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))?;
        let made = ffi::PyType_GenericAlloc(kind.as_ptr().cast(), 0);
        let made = Bound::from_owned_ptr_or_err(py, made)?;
        // Both stay for ever.
        let place = made.as_ptr().cast::<Descriptor>();
        (*place).ordinary = ordinary.into_ptr();
        (*place).class = class.clone().into_ptr().cast();
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
    // and an object or, for the class itself, null. Objects of the descriptor's class are `R::Of`s.
    unsafe {
        let py = Python::assume_attached();
        let descriptor = descriptor.cast::<Descriptor>();
        let Some(object) = Borrowed::from_ptr_or_opt(py, object) else {
            return Borrowed::from_ptr(py, (*descriptor).ordinary).to_owned().into_ptr();
        };
        if ffi::PyObject_TypeCheck(object.as_ptr(), (*descriptor).class) == 0 {
            return make::<R>(&object);
        }
        match R::find(object.cast_unchecked::<R::Of>().get()) {
            Some(method) => method.clone_ref(py).into_ptr(),
            None => make::<R>(&object),
        }
    }
}

/// Binds the method for the first time, or refuses an object that has none.
#[cold]
fn make<R: Ready>(object: &Bound<'_, PyAny>) -> *mut ffi::PyObject {
    returned(object.py(), || object.cast::<R::Of>().map_err(PyErr::from).and_then(R::make))
}
