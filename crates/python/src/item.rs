//! How an object lies in a queue.
//!
//! | bytes | in a short item | in an item with parts |
//! |---|---|---|
//! | 1 | 0 | 1 |
//! | 7 | | the number of parts |
//! | 8 each | | for each part its length, and in the highest bit whether it is a `bytearray` |
//! | | the pickle | the pickle, without its large parts |
//! | | | the parts |
//!
//! The parts are the large buffers of the pickle (protocol 5), and the large `bytes` and
//! `bytearray` objects in it, in whose place there is an opcode that takes the next buffer. So they
//! are copied once into the queue and once out of it, to where they stay.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::pickle::{self, Dumped};
use crate::unchecked::{Blank, slice};

/// The most parts of an item: so many that where they are stands in the first bytes of it.
pub(crate) const MOST_PARTS: usize = 1000;
/// So many of the first bytes of an item say how to go on.
pub(crate) const BEGINNING: usize = 8 << 10;

const WHOLE: u8 = 0;
const WITH_PARTS: u8 = 1;
const WORD: usize = 8;
const BYTEARRAY: u64 = 1 << 63;

/// An object on its way into a queue.
pub(crate) struct Item<'py>(Dumped<'py>);

/// Pickles an object.
pub(crate) fn dump<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Item<'py>> {
    pickle::dump_item(obj).map(Item)
}

impl Item<'_> {
    /// Calls `f` with the item's bytes, in pieces, and their length.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&[&[u8]], usize) -> R) -> R {
        let head = self.head();
        let sized = |parts: &[&[u8]]| f(parts, parts.iter().map(|part| part.len()).sum());
        match &self.0 {
            Dumped::Scalar(bytes, len) => sized(&[&head, &bytes[..*len]]),
            Dumped::Bytes(bytes) => sized(&[&head, bytes.as_bytes()]),
            Dumped::Pickled(pickled) => pickled.with(|payload| {
                let parts = [&[&head[..]], payload.body, payload.buffers].concat();
                sized(&parts)
            }),
        }
    }

    fn head(&self) -> Cow<'static, [u8]> {
        const { assert!((1 + MOST_PARTS) * WORD <= BEGINNING) };
        let Dumped::Pickled(pickled) = &self.0 else { return Cow::Borrowed(&[WHOLE]) };
        let mut parts = pickled.buffers().peekable();
        if parts.peek().is_none() {
            return Cow::Borrowed(&[WHOLE]);
        }
        let lens = parts.map(|(buffer, is_bytes)| {
            slice(buffer).len() as u64 | if is_bytes { 0 } else { BYTEARRAY }
        });
        let lens: Vec<u64> = lens.collect();
        let first = (lens.len() as u64) << 8 | u64::from(WITH_PARTS);
        [first].into_iter().chain(lens).flat_map(u64::to_le_bytes).collect()
    }
}

/// The object of an item that is at hand.
pub(crate) fn load<'py>(py: Python<'py>, item: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match item {
        [WHOLE, pickle @ ..] => pickle::load_slice(py, pickle),
        _ => {
            let mut incoming = Incoming::new(py, item, item.len() as u64)?;
            let mut rest = item;
            incoming.with(|parts| {
                for part in parts {
                    let (bytes, after) = rest.split_at(part.len());
                    for (place, byte) in part.iter_mut().zip(bytes) {
                        place.write(*byte);
                    }
                    rest = after;
                }
            });
            incoming.load(py)
        }
    }
}

/// A long item on its way out of a queue.
pub(crate) struct Incoming<'py> {
    head: Vec<MaybeUninit<u8>>,
    pickle: Blank<'py>,
    parts: Vec<Blank<'py>>,
}

impl<'py> Incoming<'py> {
    /// Makes room for an item of `len` bytes that begins like this.
    pub(crate) fn new(py: Python<'py>, beginning: &[u8], len: u64) -> PyResult<Self> {
        let (head, words) = match beginning.first_chunk() {
            _ if beginning.first() == Some(&WHOLE) => (1, Vec::new()),
            Some(first) => {
                let count = (u64::from_le_bytes(*first) >> 8) as usize;
                let words = beginning[WORD..].chunks_exact(WORD).take(count);
                let words: Vec<u64> = words
                    .map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()))
                    .collect();
                ((1 + count) * WORD, words)
            }
            None => (beginning.len(), Vec::new()),
        };
        let apart: u64 = words.iter().map(|word| word & !BYTEARRAY).sum();
        let blank = |word: &u64| Blank::new(py, word & !BYTEARRAY, word & BYTEARRAY != 0);
        Ok(Self {
            head: vec![MaybeUninit::uninit(); head],
            pickle: Blank::new(py, len.saturating_sub(head as u64 + apart), false)?,
            parts: words.iter().map(blank).collect::<PyResult<_>>()?,
        })
    }

    /// Calls `f` with what has to be filled with the item, from its beginning to its end.
    pub(crate) fn with<R>(&mut self, f: impl FnOnce(&mut [&mut [MaybeUninit<u8>]]) -> R) -> R {
        let mut all = vec![&mut self.head[..], self.pickle.room()];
        all.extend(self.parts.iter_mut().map(Blank::room));
        f(&mut all)
    }

    /// The object, once all is filled.
    pub(crate) fn load(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let pickle = self.pickle.filled();
        let buffers = if self.parts.is_empty() {
            None
        } else {
            Some(PyList::new(py, self.parts.into_iter().map(Blank::filled))?)
        };
        pickle::loads(py, &pickle, buffers)
    }
}
