//! Shared memory for one object.
#![allow(unsafe_code, reason = "the buffer protocol hands out a raw view")]

use std::ffi::c_int;
use std::os::fd::{AsRawFd, RawFd};

use manycore::memory;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::error::EngineError;
use crate::unchecked;

/// Zeroed shared memory; its bytes are its buffer.
#[pyclass(frozen, module = "manycore._engine")]
pub(crate) struct Block {
    pub(crate) inner: memory::Block,
}

#[pymethods]
impl Block {
    #[new]
    fn new(size: usize) -> PyResult<Self> {
        if isize::try_from(size).is_err() {
            return Err(PyValueError::new_err(format!("Size {size} out of range")));
        }
        Ok(Self { inner: memory::Block::new(size).map_err(EngineError)? })
    }

    /// The block that another process shares; the descriptor stays the caller's.
    #[staticmethod]
    fn attach(fd: RawFd, offset: usize, size: usize) -> PyResult<Self> {
        let fd = unchecked::borrow_fd(fd)?.try_clone_to_owned()?;
        Ok(Self { inner: memory::Block::attach(fd, offset, size).map_err(EngineError)? })
    }

    /// What another process needs to attach it: descriptor, offset and size.
    fn share(&self) -> PyResult<(RawFd, usize, usize)> {
        let (fd, offset, size) = self.inner.share().map_err(EngineError)?;
        Ok((fd.as_raw_fd(), offset, size))
    }

    /// Only while a process is being started.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static REDUCE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        REDUCE.import(slf.py(), "manycore._block", "reduce_block")?.call1((slf,))
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    /// # Safety
    ///
    /// Called by the interpreter, with a view of its own.
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let block = &slf.get().inner;
        // SAFETY: view and flags are the interpreter's; the object keeps the block mapped.
        unsafe { unchecked::export(block.as_ptr(), block.len(), slf.as_any(), view, flags) }
    }
}
