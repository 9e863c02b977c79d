//! Arguments as the standard library takes them.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// A flag that may be any Python object.
pub(crate) struct Truth(pub(crate) bool);

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}

/// What fits into C's `int`. Other integers raise the interpreter's own error.
pub(crate) struct CInt(pub(crate) i32);

impl<'py> FromPyObject<'_, 'py> for CInt {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let value = match object.extract::<i64>() {
            Err(error) if !error.is_instance_of::<PyOverflowError>(object.py()) => {
                return Err(error);
            }
            other => other.ok().and_then(|value| i32::try_from(value).ok()),
        };
        let too_large = || PyOverflowError::new_err("Python int too large to convert to C int");
        value.map(Self).ok_or_else(too_large)
    }
}

/// The positional arguments of a call, from any iterable.
pub(crate) struct Args<'py>(pub(crate) Bound<'py, PyTuple>);

impl<'py> FromPyObject<'_, 'py> for Args<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.cast_exact::<PyTuple>() {
            Ok(args) => Ok(Self(args.to_owned())),
            Err(_) => {
                let args = object.py().get_type::<PyTuple>().call1((object,))?;
                Ok(Self(args.cast_into()?))
            }
        }
    }
}

/// The keyword arguments of a call, from whatever a dict can be made of.
pub(crate) struct Kwds<'py>(pub(crate) Bound<'py, PyDict>);

impl<'py> FromPyObject<'_, 'py> for Kwds<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.cast_exact::<PyDict>() {
            Ok(kwds) => Ok(Self(kwds.to_owned())),
            Err(_) => {
                let kwds = object.py().get_type::<PyDict>().call1((object,))?;
                Ok(Self(kwds.cast_into()?))
            }
        }
    }
}
