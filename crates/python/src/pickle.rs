//! Pickling into messages and out of them.
//!
//! The pickler is the standard library's `ForkingPickler`, so reducers registered with it count.
//! Large buffers stay out of band (pickle protocol 5) and cross in shared memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use manycore::channel::{Message, Payload, View};
use manycore::memory::Descriptor;
use manycore::pool::Encoded;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple,
};

use crate::item::MOST_PARTS;
use crate::scalar;
use crate::sharing;
use crate::unchecked::{slice, view_bytes};
use crate::view::SharedView;

/// Smaller buffers go with the pickle.
const OUT_OF_BAND: usize = 16 << 10;

/// Pieces of a pickle at least this long are not copied on the way into the message.
const BY_REFERENCE: usize = 64 << 10;

/// Received buffers at least this long stay in the shared memory that they came in.
///
/// Memory for a copy of so much is new to the process each time, page by page, which takes longer
/// than the copy.
const LEASED: usize = 128 << 10;

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
    /// Which of the buffers are `bytes` objects; a buffer beyond the end of this is none.
    are_bytes: Vec<bool>,
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

    /// The buffers, each with whether it is a `bytes` object.
    pub(crate) fn buffers(&self) -> impl Iterator<Item = (&PyUntypedBuffer, bool)> {
        let are_bytes = self.are_bytes.iter().copied().chain(std::iter::repeat(false));
        self.buffers.iter().zip(are_bytes)
    }

    /// Puts a long `bytes` or `bytearray` apart, if that is what is being written: the pickle ends
    /// with its opcode and length, and it takes the place of these.
    fn put_apart(&mut self, buffer: PyUntypedBuffer) -> Result<(), PyUntypedBuffer> {
        const OPCODES: [(u8, usize, bool); 3] =
            [(b'B', 4, true), (0x8e, 8, true), (0x96, 8, false)];
        const NEXT_BUFFER: u8 = 0x97;
        let len = (buffer.len_bytes() as u64).to_le_bytes();
        if self.buffers.len() == MOST_PARTS {
            return Err(buffer);
        }
        let is_end_of_bytes = self.pieces.last().is_none_or(|(at, _)| *at < self.bytes.len());
        let found = OPCODES.into_iter().find(|(opcode, width, _)| {
            let rest = self.bytes.strip_suffix(&len[..*width]);
            is_end_of_bytes && rest.is_some_and(|rest| rest.last() == Some(opcode))
        });
        let Some((_, width, is_bytes)) = found else { return Err(buffer) };
        self.bytes.truncate(self.bytes.len() - width - 1);
        self.bytes.push(NEXT_BUFFER);
        self.are_bytes.resize(self.buffers.len(), false);
        self.are_bytes.push(is_bytes);
        self.buffers.push(buffer);
        Ok(())
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
    /// Whether long `bytes` are put apart.
    puts_apart: bool,
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
                return;
            }
            let inline = if self.puts_apart { pickled.put_apart(buffer) } else { Err(buffer) };
            if let Err(buffer) = inline {
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
        Ok(self.with(|pickled| {
            let is_full = self.puts_apart && pickled.buffers.len() == MOST_PARTS;
            if !is_full {
                pickled.buffers.push(buffer);
            }
            is_full
        }))
    }
}

/// A pickler and its sink, used again and again.
struct Pickler {
    /// The pickler's bound methods.
    dump: Py<PyAny>,
    clear_memo: Py<PyAny>,
    sink: Py<Sink>,
}

/// What a pickle is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A message of a pool; its large buffers go apart.
    Message,
    /// An item of a queue; its large buffers go apart. Nothing is shared by it.
    Item,
    /// Anybody who reads pickles: the bytes are those of `ForkingPickler.dumps`.
    Anybody,
}

impl Purpose {
    fn is_message(self) -> bool {
        self == Self::Message
    }

    /// Picklers not in use. One is taken out for each pickle, since pickling runs Python code that
    /// may pickle itself or let another thread run.
    fn idle(self) -> MutexGuard<'static, Vec<Pickler>> {
        static IDLE: [Mutex<Vec<Pickler>>; 3] = [const { Mutex::new(Vec::new()) }; 3];
        IDLE[self as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pickler(self, py: Python<'_>) -> PyResult<Pickler> {
        let known = self.idle().pop();
        known.map_or_else(|| Pickler::new(py, self), Ok)
    }
}

impl Pickler {
    fn new(py: Python<'_>, purpose: Purpose) -> PyResult<Self> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = CLASS.import(py, "multiprocessing.reduction", "ForkingPickler")?;
        let puts_apart = purpose == Purpose::Item;
        let sink = Py::new(py, Sink { pickled: Mutex::default(), puts_apart })?;
        let pickler = match purpose {
            Purpose::Message | Purpose::Item => class.call1((&sink, 5, true, &sink))?,
            Purpose::Anybody => class.call1((&sink,))?,
        };
        pickler.setattr(intern!(py, "dispatch_table"), Self::table(py, purpose, &sink)?)?;
        let method = |name| pickler.getattr(name).map(Bound::unbind);
        Ok(Self { dump: method("dump")?, clear_memo: method("clear_memo")?, sink })
    }

    /// What has reducers now or gets one later.
    fn table<'py>(
        py: Python<'py>,
        purpose: Purpose,
        sink: &Py<Sink>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static IN_MESSAGES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static ANYWHERE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        if purpose.is_message() {
            IN_MESSAGES.import(py, "manycore._block", "MessageReducers")?.call1((sink,))
        } else {
            ANYWHERE.import(py, "manycore._block", "Reducers")?.call0()
        }
    }

    fn dump(&self, obj: &Bound<'_, PyAny>, purpose: Purpose) -> PyResult<Pickled> {
        let py = obj.py();
        let dump = || self.dump.bind(py).call1((obj,));
        let dumped = if purpose.is_message() { sharing::while_pickling(dump) } else { dump() };
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
    let sink = Bound::new(py, Sink { pickled: Mutex::default(), puts_apart: false })?;
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
    dump_with(obj, Purpose::Message)
}

fn dump_with(obj: &Bound<'_, PyAny>, purpose: Purpose) -> PyResult<Pickled> {
    let pickler = purpose.pickler(obj.py())?;
    let pickled = pickler.dump(obj, purpose)?;
    purpose.idle().push(pickler);
    Ok(pickled)
}

/// A pickle of an object, in whatever it was made.
pub(crate) enum Dumped<'py> {
    Scalar([u8; scalar::LONGEST_ALIKE], usize),
    Bytes(Bound<'py, PyBytes>),
    Pickled(Pickled),
}

impl Dumped<'_> {
    /// Whether others may have had a say in it, or time for something else.
    pub(crate) fn may_have_run_code(&self) -> bool {
        matches!(self, Self::Pickled(_))
    }

    /// Calls `f` with the bytes.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&[&[u8]]) -> R) -> R {
        match self {
            Self::Scalar(bytes, len) => f(&[&bytes[..*len]]),
            Self::Bytes(bytes) => f(&[bytes.as_bytes()]),
            Self::Pickled(pickled) => pickled.with(|payload| f(payload.body)),
        }
    }
}

/// Pickles an object as `ForkingPickler.dumps` does, to the same bytes.
pub(crate) fn dump_default<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Dumped<'py>> {
    let py = obj.py();
    let mut bytes = [0; scalar::LONGEST_ALIKE];
    if let Some(len) = scalar::dump_alike(obj, default_protocol(py)?, &mut bytes) {
        return Ok(Dumped::Scalar(bytes, len));
    }
    if is_plain(obj) {
        return dump_plain(obj, None).map(Dumped::Bytes);
    }
    dump_with(obj, Purpose::Anybody).map(Dumped::Pickled)
}

/// Pickles an object for a queue, its large parts apart.
pub(crate) fn dump_item<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Dumped<'py>> {
    let mut bytes = [0; scalar::LONGEST_ALIKE];
    if let Some(len) = scalar::dump_alike(obj, 5, &mut bytes) {
        return Ok(Dumped::Scalar(bytes, len));
    }
    if is_plain(obj) {
        return dump_plain(obj, Some(5)).map(Dumped::Bytes);
    }
    dump_with(obj, Purpose::Item).map(Dumped::Pickled)
}

fn default_protocol(py: Python<'_>) -> PyResult<u8> {
    static PROTOCOL: PyOnceLock<u8> = PyOnceLock::new();
    let read = || py.import("pickle")?.getattr("DEFAULT_PROTOCOL")?.extract();
    PROTOCOL.get_or_try_init(py, read).copied()
}

/// Pickles what [`is_plain`].
fn dump_plain<'py>(obj: &Bound<'py, PyAny>, protocol: Option<u8>) -> PyResult<Bound<'py, PyBytes>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let dumps = DUMPS.import(obj.py(), "_pickle", "dumps")?;
    let bytes = match protocol {
        None => dumps.call1((obj,)),
        Some(protocol) => dumps.call1((obj, protocol)),
    };
    Ok(bytes?.cast_into::<PyBytes>()?)
}

/// Whether an object is of types which a pickler knows by itself, so that no reducer has a say.
/// False also for what is too large to look at all of it, or to be copied once more.
fn is_plain(obj: &Bound<'_, PyAny>) -> bool {
    is_plain_within(obj, &mut 32)
}

fn is_plain_within(obj: &Bound<'_, PyAny>, budget: &mut u32) -> bool {
    let Some(left) = budget.checked_sub(1) else { return false };
    *budget = left;
    if let Ok(text) = obj.cast_exact::<PyString>() {
        text.len().is_ok_and(|len| len < BY_REFERENCE)
    } else if let Ok(bytes) = obj.cast_exact::<PyBytes>() {
        bytes.as_bytes().len() < BY_REFERENCE
    } else if let Ok(items) = obj.cast_exact::<PyTuple>() {
        items.iter().all(|item| is_plain_within(&item, budget))
    } else if let Ok(items) = obj.cast_exact::<PyList>() {
        items.iter().all(|item| is_plain_within(&item, budget))
    } else if let Ok(items) = obj.cast_exact::<PyDict>() {
        items
            .iter()
            .all(|(key, value)| is_plain_within(&key, budget) && is_plain_within(&value, budget))
    } else {
        obj.is_none()
            || obj.is_exact_instance_of::<PyInt>()
            || obj.is_exact_instance_of::<PyFloat>()
            || obj.is_exact_instance_of::<PyBool>()
    }
}

/// Pickles an object as `ForkingPickler.dumps` does.
#[pyfunction]
pub(crate) fn dumps<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = obj.py();
    match dump_default(obj)? {
        Dumped::Bytes(bytes) => Ok(bytes),
        dumped => dumped.with(|parts| join(py, parts)),
    }
}

fn join<'py>(py: Python<'py>, parts: &[&[u8]]) -> PyResult<Bound<'py, PyBytes>> {
    let len = parts.iter().map(|part| part.len()).sum();
    PyBytes::new_with(py, len, |room| {
        let mut room = room;
        for part in parts {
            let (place, rest) = room.split_at_mut(part.len());
            place.copy_from_slice(part);
            room = rest;
        }
        Ok(())
    })
}

/// Unpickles a `bytes` object.
#[pyfunction(name = "loads")]
pub(crate) fn loads_bytes<'py>(bytes: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    match scalar::load(bytes.py(), bytes.as_bytes())? {
        Some(obj) => Ok(obj),
        None => loads(bytes.py(), bytes, None),
    }
}

/// Unpickles bytes that lie elsewhere.
pub(crate) fn load_slice<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match scalar::load(py, bytes)? {
        Some(obj) => Ok(obj),
        None => loads(py, &PyBytes::new(py, bytes), None),
    }
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
        return loads(py, &pickle_bytes(py, body)?, None).map(Bound::unbind);
    }
    let buffers = buffers.map(|view| received(py, view)).collect::<PyResult<Vec<_>>>()?;
    loads(py, &pickle_bytes(py, body)?, Some(PyList::new(py, buffers)?)).map(Bound::unbind)
}

pub(crate) fn loads<'py>(
    py: Python<'py>,
    bytes: &Bound<'py, PyAny>,
    buffers: Option<Bound<'py, PyList>>,
) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let loads = LOADS.import(py, "_pickle", "loads")?;
    match buffers {
        None => loads.call1((bytes,)),
        Some(buffers) => {
            let keywords = PyDict::new(py);
            keywords.set_item(intern!(py, "buffers"), buffers)?;
            loads.call((bytes,), Some(&keywords))
        }
    }
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
    Ok(PyByteArray::new(py, view_bytes(&view)).into_any())
}
