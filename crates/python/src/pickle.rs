//! Pickling into messages and out of them.
//!
//! The pickler is the standard library's `ForkingPickler`, so reducers registered with it count.
//! Large buffers stay out of band (pickle protocol 5) and cross in shared memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use manycore::channel::{Message, Payload, View};
use manycore::memory::Descriptor;
use manycore::pool::Encoded;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyList};

use crate::scalar;
use crate::sharing;
use crate::unchecked::{slice, view_bytes};
use crate::view::SharedView;

/// Smaller buffers go with the pickle.
const OUT_OF_BAND: usize = 16 << 10;

/// Pieces of a pickle at least this long are not copied on the way into the message.
const BY_REFERENCE: usize = 64 << 10;

/// Received buffers at least this long stay in the shared memory that they came in.
const LEASED: usize = 1 << 20;

/// So many received buffers may stay there; further ones are copied, since each is a mapping and
/// a process can have some 65,000 of those.
const LEASES: usize = 1024;

static LEASES_OUT: AtomicUsize = AtomicUsize::new(0);

/// A pickle on its way out.
#[derive(Default)]
pub(crate) struct Pickled {
    bytes: Vec<u8>,
    /// Long pieces, each with its place in `bytes`.
    pieces: Vec<(usize, PyUntypedBuffer)>,
    buffers: Vec<PyUntypedBuffer>,
    /// What is shared, by descriptor.
    descriptors: Vec<Descriptor>,
}

impl From<Vec<u8>> for Pickled {
    /// A pickle without buffers apart.
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }
}

impl Pickled {
    /// Calls `f` with the bytes.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Payload<'_>) -> R) -> R {
        let descriptors = &self.descriptors;
        if self.pieces.is_empty() && self.buffers.is_empty() {
            return f(&Payload { body: &[&self.bytes], buffers: &[], descriptors });
        }
        let buffers: Vec<&[u8]> = self.buffers.iter().map(slice).collect();
        let mut body = Vec::with_capacity(2 * self.pieces.len() + 1);
        let mut from = 0;
        for (at, piece) in &self.pieces {
            body.extend([&self.bytes[from..*at], slice(piece)]);
            from = *at;
        }
        body.push(&self.bytes[from..]);
        f(&Payload { body: &body, buffers: &buffers, descriptors })
    }

    /// Whether something else than the bytes goes with the pickle.
    pub(crate) fn has_descriptors(&self) -> bool {
        !self.descriptors.is_empty()
    }

    /// As [`Self::with`]. If there are many bytes `f` runs without the GIL.
    pub(crate) fn with_detached<R: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&Payload<'_>) -> R + Send,
    ) -> R {
        let is_long = self.is_long();
        self.with(|payload| if is_long { py.detach(|| f(payload)) } else { f(payload) })
    }

    fn is_long(&self) -> bool {
        !self.pieces.is_empty() || !self.buffers.is_empty() || self.bytes.len() >= LEASED
    }

    /// The parts in which names can be, as opposed to long strings and buffers.
    pub(crate) fn structure(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let long = self.pieces.iter().filter(|(at, piece)| {
            let piece = slice(piece);
            !announces(&self.bytes[..*at], piece.len())
        });
        std::iter::once(&self.bytes[..]).chain(long.map(|(_, piece)| slice(piece)))
    }
}

/// Whether these bytes end with the length of a string or buffer of `len` bytes, which pickle
/// writes apart from it if it is long.
fn announces(before: &[u8], len: usize) -> bool {
    before.ends_with(&(len as u64).to_le_bytes())
        || u32::try_from(len).is_ok_and(|len| before.ends_with(&len.to_le_bytes()))
}

impl Encoded for Pickled {
    fn visit(&self, f: &mut dyn FnMut(&Payload<'_>)) {
        self.with(|payload| f(payload));
    }
}

/// The file that a pickler writes to, and the callable that it offers buffers to.
#[pyclass(frozen, module = "manycore._engine")]
pub(crate) struct Sink {
    pickled: Mutex<Pickled>,
}

impl Sink {
    fn take(&self) -> Pickled {
        std::mem::take(&mut *self.pickled.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has a descriptor go with the pickle, once; gives its name.
    pub(crate) fn add(&self, descriptor: Descriptor) -> u64 {
        let id = descriptor.id();
        self.with(|pickled| {
            if !pickled.descriptors.iter().any(|known| known.id() == id) {
                pickled.descriptors.push(descriptor);
            }
        });
        id
    }

    fn with<R>(&self, f: impl FnOnce(&mut Pickled) -> R) -> R {
        f(&mut self.pickled.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl Sink {
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            let bytes = bytes.as_bytes();
            if bytes.len() < BY_REFERENCE {
                self.with(|pickled| pickled.bytes.extend_from_slice(bytes));
                return Ok(bytes.len());
            }
        }
        let buffer = PyUntypedBuffer::get(data)?;
        let len = buffer.len_bytes();
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("a pickle is written in contiguous pieces"));
        }
        self.with(|pickled| {
            if len < BY_REFERENCE {
                pickled.bytes.extend_from_slice(slice(&buffer));
            } else {
                pickled.pieces.push((pickled.bytes.len(), buffer));
            }
        });
        Ok(len)
    }

    /// True if the buffer is to go with the pickle.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let buffer = PyUntypedBuffer::get(buffer)?;
        let contiguous = buffer.is_c_contiguous() || buffer.is_fortran_contiguous();
        if buffer.len_bytes() < OUT_OF_BAND || !contiguous {
            return Ok(true);
        }
        self.with(|pickled| pickled.buffers.push(buffer));
        Ok(false)
    }
}

/// A pickler and its sink, used again and again.
struct Pickler {
    /// The pickler's bound methods.
    dump: Py<PyAny>,
    clear_memo: Py<PyAny>,
    sink: Py<Sink>,
}

/// Picklers not in use. One is taken out for each pickle, since pickling runs Python code that
/// may pickle itself or let another thread run.
static IDLE: Mutex<Vec<Pickler>> = Mutex::new(Vec::new());

impl Pickler {
    fn new(py: Python<'_>) -> PyResult<Self> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = CLASS.import(py, "multiprocessing.reduction", "ForkingPickler")?;
        let sink = Py::new(py, Sink { pickled: Mutex::default() })?;
        let pickler = class.call1((&sink, 5, true, &sink))?;
        static TABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let table = TABLE.import(py, "manycore._block", "MessageReducers")?.call1((&sink,))?;
        pickler.setattr(intern!(py, "dispatch_table"), table)?;
        let method = |name| pickler.getattr(name).map(Bound::unbind);
        Ok(Self { dump: method("dump")?, clear_memo: method("clear_memo")?, sink })
    }

    fn dump(&self, obj: &Bound<'_, PyAny>) -> PyResult<Pickled> {
        let py = obj.py();
        let dumped = sharing::while_pickling(|| self.dump.bind(py).call1((obj,)));
        self.clear_memo.bind(py).call0()?;
        let pickled = self.sink.get().take();
        dumped.map(|_| pickled)
    }
}

/// Pickles an object, its large buffers apart.
pub(crate) fn dump(obj: &Bound<'_, PyAny>) -> PyResult<Pickled> {
    match scalar::dump(obj) {
        Some(bytes) => Ok(bytes.into()),
        None => dump_object(obj),
    }
}

/// What `dump` writes into the sink that it is given, after the bytes that it returns.
pub(crate) fn dump_with_prefix<'py>(
    py: Python<'py>,
    dump: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>>,
) -> PyResult<Pickled> {
    let sink = Bound::new(py, Sink { pickled: Mutex::default() })?;
    let before = sharing::while_pickling(|| dump(sink.as_any()));
    // Also after a failure: nothing that went with it stays open.
    let mut pickled = sink.get().take();
    let before = before?;
    pickled.bytes.splice(0..0, before.as_bytes().iter().copied());
    for (at, _) in &mut pickled.pieces {
        *at += before.as_bytes().len();
    }
    Ok(pickled)
}

/// As [`dump`], always with pickle's own encoding.
pub(crate) fn dump_object(obj: &Bound<'_, PyAny>) -> PyResult<Pickled> {
    let known = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let pickler = match known {
        Some(pickler) => pickler,
        None => Pickler::new(obj.py())?,
    };
    let pickled = pickler.dump(obj)?;
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(pickler);
    Ok(pickled)
}

/// Unpickles a message.
pub(crate) fn load(py: Python<'_>, message: &Message) -> PyResult<Py<PyAny>> {
    sharing::with_descriptors(message.descriptors(), false, || load_message(py, message))
}

/// As [`load`]; what is unpickled once in a process is kept until the message's sender lets go of
/// it.
pub(crate) fn load_and_keep(py: Python<'_>, message: &Message) -> PyResult<Py<PyAny>> {
    sharing::with_descriptors(message.descriptors(), true, || load_message(py, message))
}

fn load_message(py: Python<'_>, message: &Message) -> PyResult<Py<PyAny>> {
    let body = message.body();
    let buffers = message.buffers();
    if buffers.len() == 0 {
        if let Some(obj) = scalar::load(py, view_bytes(&body))? {
            return Ok(obj.unbind());
        }
        return loads(py, &pickle_bytes(py, body)?, None);
    }
    let buffers = buffers.map(|view| received(py, view)).collect::<PyResult<Vec<_>>>()?;
    loads(py, &pickle_bytes(py, body)?, Some(PyList::new(py, buffers)?))
}

fn loads(
    py: Python<'_>,
    bytes: &Bound<'_, PyAny>,
    buffers: Option<Bound<'_, PyList>>,
) -> PyResult<Py<PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let loads = LOADS.import(py, "_pickle", "loads")?;
    match buffers {
        None => loads.call1((bytes,)),
        Some(buffers) => {
            let keywords = pyo3::types::PyDict::new(py);
            keywords.set_item(intern!(py, "buffers"), buffers)?;
            loads.call((bytes,), Some(&keywords))
        }
    }
    .map(Bound::unbind)
}

/// The pickle itself: read in place if it is in shared memory, and copied from there by pickle.
fn pickle_bytes(py: Python<'_>, body: View) -> PyResult<Bound<'_, PyAny>> {
    match body.as_slice() {
        Some(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
        None => Ok(Bound::new(py, SharedView::new(body, None))?.into_any()),
    }
}

/// A received buffer: writable, and nobody else's.
fn received(py: Python<'_>, view: View) -> PyResult<Bound<'_, PyAny>> {
    if view.is_sealed() {
        return Ok(Bound::new(py, SharedView::new(view, None))?.into_any());
    }
    if view.is_leased() && view.len() >= LEASED && LEASES_OUT.load(Ordering::Relaxed) < LEASES {
        LEASES_OUT.fetch_add(1, Ordering::Relaxed);
        return Ok(Bound::new(py, SharedView::new(view, Some(&LEASES_OUT)))?.into_any());
    }
    Ok(PyByteArray::new(py, &view.to_vec()).into_any())
}
