//! Received bytes as a Python buffer.
#![allow(unsafe_code, reason = "the buffer protocol's functions are unsafe")]

use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};

use manycore::channel::View;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::unchecked::export;

/// Bytes of a message, writable, in the memory that they came in; freed with the last user.
#[pyclass(frozen, module = "manycore._engine")]
pub(crate) struct SharedView {
    view: View,
    /// Where this one is counted.
    counter: Option<&'static AtomicUsize>,
}

impl SharedView {
    pub(crate) fn new(view: View, counter: Option<&'static AtomicUsize>) -> Self {
        Self { view, counter }
    }
}

impl Drop for SharedView {
    fn drop(&mut self) {
        if let Some(counter) = self.counter {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[pymethods]
impl SharedView {
    fn __len__(&self) -> usize {
        self.view.len()
    }

    // SAFETY: called by the interpreter with a `Py_buffer` to fill in.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        buffer: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let view = &slf.get().view;
        // SAFETY: the interpreter's own arguments; the bytes live as long as this object, and the
        // message has them for this view alone, so they may be written.
        unsafe { export(view.as_ptr(), view.len(), slf.as_any(), buffer, flags) }
    }
}
