//! What needs unsafe code: descriptors by number, foreign buffers, fork with Python's hooks, and
//! the interpreter's cheapest ways to call a function and to read a number.
#![allow(unsafe_code, reason = "the one place of the binding that is not checked by the compiler")]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::{ptr, slice};

use manycore::channel::View;
use manycore::process::{self, Forked, Served};
use pyo3::buffer::{PyBuffer, PyUntypedBuffer};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

/// A descriptor that Python names by its number. A closed one gives EBADF; that another thread
/// does not close it meanwhile is up to the Python program, as with `os.read`.
pub(crate) fn borrow_fd<'fd>(fd: RawFd) -> PyResult<BorrowedFd<'fd>> {
    if fd < 0 {
        return Err(PyValueError::new_err("invalid handle"));
    }
    // SAFETY: the number is not -1; see above for what the kernel does with a wrong one.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Several of them.
pub(crate) fn borrow_fds<'fd>(fds: &[RawFd]) -> PyResult<Vec<BorrowedFd<'fd>>> {
    fds.iter().map(|&fd| borrow_fd(fd)).collect()
}

/// A descriptor that Python gives away.
pub(crate) fn take_fd(fd: RawFd) -> PyResult<OwnedFd> {
    borrow_fd(fd)?;
    // SAFETY: the number is not negative, and the caller does not use it any more.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The bytes of an object with a contiguous buffer, held until dropped.
pub(crate) struct Bytes(PyBuffer<u8>);

impl Bytes {
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyBuffer::<u8>::get(object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("the buffer is not contiguous"));
        }
        Ok(Self(buffer))
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        let len = self.0.len_bytes();
        if len == 0 {
            return &[];
        }
        // SAFETY: the exporter keeps `len` contiguous bytes in place while the buffer is held.
        // A program that writes to them meanwhile sends a mixture, as with `os.write`.
        unsafe { slice::from_raw_parts(self.0.buf_ptr().cast::<u8>(), len) }
    }
}

/// A new `bytes` or `bytearray` that is about to be filled. Until then nobody else has it, so it may
/// be filled without the GIL.
pub(crate) struct Blank<'py> {
    object: Bound<'py, PyAny>,
    start: *mut MaybeUninit<u8>,
    len: usize,
}

impl<'py> Blank<'py> {
    pub(crate) fn new(py: Python<'py>, len: u64, is_bytearray: bool) -> PyResult<Self> {
        let len = usize::try_from(len)?;
        let size = ffi::Py_ssize_t::try_from(len)?;
        // SAFETY: a new object, or null with an exception set, which the call after it looks at.
        // Its bytes, which are not initialised, stay in place as long as nobody resizes it.
        unsafe {
            let new = if is_bytearray {
                ffi::PyByteArray_FromStringAndSize(std::ptr::null(), size)
            } else {
                ffi::PyBytes_FromStringAndSize(std::ptr::null(), size)
            };
            let object = Bound::from_owned_ptr_or_err(py, new)?;
            let start = if is_bytearray {
                ffi::PyByteArray_AsString(new)
            } else {
                ffi::PyBytes_AsString(new)
            };
            Ok(Self { object, start: start.cast(), len })
        }
    }

    /// The memory to be filled.
    pub(crate) fn room(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the object has so many bytes there, and nobody else has the object.
        unsafe { slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// The object. The caller has filled all of its memory.
    pub(crate) fn filled(self) -> Bound<'py, PyAny> {
        self.object
    }
}

/// Exports `len` bytes from `start` on, which `owner` keeps in place, as a writable buffer.
///
/// # Safety
///
/// `view` is what the interpreter gave to `__getbuffer__` together with `flags`; the bytes are
/// readable and writable as long as `owner` lives.
pub(crate) unsafe fn export(
    start: *mut u8,
    len: usize,
    owner: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let len = ffi::Py_ssize_t::try_from(len)?;
    let start = start.cast::<c_void>();
    // SAFETY: the view is the interpreter's; the bytes stay as long as `owner`, to which the call
    // takes a reference that the view holds.
    if unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start, len, 0, flags) } != 0 {
        return Err(PyErr::fetch(owner.py()));
    }
    Ok(())
}

unsafe extern "C" {
    /// The limited API has this from 3.12 on. 3.11 exports it with the same signature, so one
    /// wheel for all of them can use it.
    fn PyObject_Vectorcall(
        callable: *mut ffi::PyObject,
        args: *const *mut ffi::PyObject,
        nargsf: usize,
        kwnames: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
}

/// With the number of arguments: the callee may use the place before the first.
const ARGUMENTS_OFFSET: usize = 1 << (usize::BITS - 1);

/// The most arguments that [`call`] passes without a tuple.
const MOST_ARGUMENTS: usize = 6;

/// Calls a function with one argument, without making a tuple for it.
pub(crate) fn call_one<'py>(
    function: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    vectorcall(function, &mut [ptr::null_mut(), argument.as_ptr()])
}

/// Calls a function, without making a tuple if there are few arguments.
pub(crate) fn call<'py>(
    function: &Bound<'py, PyAny>,
    arguments: &[Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyAny>> {
    if arguments.len() > MOST_ARGUMENTS {
        return function.call1(PyTuple::new(function.py(), arguments)?);
    }
    let mut places = [ptr::null_mut(); 1 + MOST_ARGUMENTS];
    for (place, argument) in places[1..].iter_mut().zip(arguments) {
        *place = argument.as_ptr();
    }
    vectorcall(function, &mut places[..=arguments.len()])
}

/// The first place is the callee's; the arguments behind it are held by the caller.
fn vectorcall<'py>(
    function: &Bound<'py, PyAny>,
    places: &mut [*mut ffi::PyObject],
) -> PyResult<Bound<'py, PyAny>> {
    let count = (places.len() - 1) | ARGUMENTS_OFFSET;
    // SAFETY: the interpreter is attached, the arguments live as long as the call, and the place
    // before them, which the callee may write to and has to restore, is part of the slice. It
    // gives a new reference, or null and an exception.
    unsafe {
        let args = places.as_mut_ptr().add(1);
        let result = PyObject_Vectorcall(function.as_ptr(), args, count, ptr::null_mut());
        Bound::from_owned_ptr_or_err(function.py(), result)
    }
}

/// Whether this is the only reference to an object. It may say no where it is, as for objects that
/// live for ever.
pub(crate) fn is_only_reference(obj: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object lives, and the interpreter is attached.
    unsafe { ffi::Py_REFCNT(obj.as_ptr()) == 1 }
}

/// The value of an integer, if it has 64 bits.
#[inline]
pub(crate) fn small_int(number: &Bound<'_, PyInt>) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: it is an integer, so this raises nothing; the interpreter is attached.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &mut overflow) };
    (overflow == 0).then_some(value)
}

/// The bytes of a received message, also where they lie in shared memory.
pub(crate) fn view_bytes(view: &View) -> &[u8] {
    if view.is_empty() {
        return &[];
    }
    // SAFETY: the bytes are readable as long as the view lives, and leased ones are not written
    // to by their sender before it is gone.
    unsafe { slice::from_raw_parts(view.as_ptr(), view.len()) }
}

/// Forks, with all that Python does around `os.fork`.
pub(crate) fn fork(_py: Python<'_>) -> manycore::Result<Forked> {
    // SAFETY: the GIL is held, so no other thread is inside Python; the hooks make the copy's
    // interpreter single-threaded. Threads of C code have to care for themselves, as with
    // `os.fork`.
    unsafe {
        ffi::PyOS_BeforeFork();
        let forked = process::fork();
        match forked {
            Ok(Forked::Child) => ffi::PyOS_AfterFork_Child(),
            Ok(Forked::Parent(_)) | Err(_) => ffi::PyOS_AfterFork_Parent(),
        }
        forked
    }
}

/// Serves as a fork server until there is nothing left to do, or returns in a copy.
pub(crate) fn serve(py: Python<'_>, control: OwnedFd) -> manycore::Result<Served> {
    // SAFETY: as for `fork`, which makes the copies.
    py.detach(|| unsafe { process::serve(control, &mut || Python::attach(fork)) })
}

/// The bytes of a contiguous buffer.
pub(crate) fn slice(buffer: &PyUntypedBuffer) -> &[u8] {
    if buffer.len_bytes() == 0 {
        return &[];
    }
    // SAFETY: callers hold contiguous buffers only, so these bytes are all there is, and the
    // exporter keeps them in place until the buffer is released. A program that writes to them
    // meanwhile sends a mixture.
    unsafe { slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes()) }
}
