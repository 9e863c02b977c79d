//! Numbers between Python and Rust, where an object is what it is and no Python code runs.
#![allow(unsafe_code, reason = "the interpreter's own functions are the shortest way")]

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};

/// True or False itself.
#[inline]
pub(crate) fn exact_bool(object: &Bound<'_, PyAny>) -> Option<bool> {
    // SAFETY: the two constants of the interpreter.
    let (yes, no) = unsafe { (ffi::Py_True(), ffi::Py_False()) };
    let is_either = object.as_ptr() == yes || object.as_ptr() == no;
    is_either.then(|| object.as_ptr() == yes)
}

/// Something that is a number of seconds, or None: no Python code runs to make one of it.
#[inline]
pub(crate) fn is_number(object: &Bound<'_, PyAny>) -> bool {
    object.is_none()
        || object.is_exact_instance_of::<PyFloat>()
        // One that is too large for a float is an error, which the ordinary way has.
        || object.cast_exact::<PyInt>().is_ok_and(|int| small(int).is_some())
}

/// True or False.
#[inline]
pub(crate) fn truth(py: Python<'_>, truth: bool) -> Bound<'_, PyAny> {
    PyBool::new(py, truth).to_owned().into_any()
}

#[inline]
pub(crate) fn int(py: Python<'_>, value: i64) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: a new reference, or null with an error.
    unsafe {
        // The interpreter's shortest way, where a `long` has 64 bits.
        #[cfg(target_pointer_width = "64")]
        let int = ffi::PyLong_FromLong(value);
        #[cfg(not(target_pointer_width = "64"))]
        let int = ffi::PyLong_FromLongLong(value);
        Bound::from_owned_ptr_or_err(py, int)
    }
}

#[inline]
pub(crate) fn unsigned(py: Python<'_>, value: u64) -> PyResult<Bound<'_, PyAny>> {
    if let Ok(value) = value.try_into() {
        return int(py, value);
    }
    // SAFETY: as in `int`.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromUnsignedLongLong(value)) }
}

#[inline]
pub(crate) fn float(py: Python<'_>, value: f64) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: as in `int`.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyFloat_FromDouble(value)) }
}

/// The low bits of an integer of any size, in two's complement.
#[inline]
pub(crate) fn low_bits(value: &Bound<'_, PyInt>) -> u64 {
    // SAFETY: it is an integer, and for these there is no error.
    unsafe { ffi::PyLong_AsUnsignedLongLongMask(value.as_ptr()) }
}

/// An integer, if it fits.
#[inline]
pub(crate) fn small(value: &Bound<'_, PyInt>) -> Option<i64> {
    let mut overflow: c_int = 0;
    // SAFETY: as in `low_bits`; what does not fit is reported there.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(value.as_ptr(), &raw mut overflow) };
    (overflow == 0).then_some(value)
}
