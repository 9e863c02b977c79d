//! Arguments as the standard library takes them.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;

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
