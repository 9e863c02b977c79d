//! Pickles of plain values, without a pickler.
//!
//! Tasks and results are often numbers and short texts: one, a few, or thousands of them in a
//! batch. What is written here is pickle (protocol 5) like any other, and `pickle.loads` reads it;
//! but a pickler and an unpickler cost several times as much as the handful of bytes that there
//! are to write, and need all objects of a batch at the same time. Opcodes: `pickletools` in the
//! standard library.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyRange, PyString, PyTuple};

use crate::unchecked::{is_only_reference, small_int};

/// What every pickle here begins with.
const HEAD: [u8; 2] = [0x80, 5];
/// The length of what follows, 8 bytes. Readers with all the bytes at hand ignore it.
const FRAME: u8 = 0x95;
/// Only what is at least so long gets a frame.
const FRAMED: usize = 4;
const STOP: u8 = b'.';
const NONE: u8 = b'N';
const TRUE: u8 = 0x88;
const FALSE: u8 = 0x89;
/// A signed 32-bit integer, little-endian.
const BININT: u8 = b'J';
/// Unsigned integers of 8 and 16 bits, little-endian.
const BININT1: u8 = b'K';
const BININT2: u8 = b'M';
/// A length of one byte and as many bytes of a signed integer, little-endian.
const LONG1: u8 = 0x8a;
/// A 64-bit float, big-endian.
const BINFLOAT: u8 = b'G';
/// A length of one byte, or of four, little-endian, and as many bytes of UTF-8.
const SHORT_BINUNICODE: u8 = 0x8c;
const BINUNICODE: u8 = b'X';
/// The same of plain bytes.
const SHORT_BINBYTES: u8 = b'C';
const BINBYTES: u8 = b'B';
/// What comes until `TUPLE` is in a tuple, until `APPENDS` in a list.
const MARK: u8 = b'(';
const TUPLE: u8 = b't';
const EMPTY_LIST: u8 = b']';
const APPENDS: u8 = b'e';
/// The object just made gets the next number, from 0.
const MEMOIZE: u8 = 0x94;
/// The object with a number, of one byte or of four.
const BINGET: u8 = b'h';
const LONG_BINGET: u8 = b'j';

/// What comes before the parts of a range, and after them.
const RANGE: &[u8] = b"\x80\x05cbuiltins\nrange\n(";
const REDUCE: &[u8] = b"tR.";

/// Longer texts and bytes are the pickler's, which copies them less often.
const LONGEST: usize = 4096;

/// The pickle of a plain value, or of a tuple of them; `None` for others.
pub(crate) fn dump(obj: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    let mut writer = Writer::new(Vec::with_capacity(64), &HEAD);
    writer.write(obj).then(|| writer.finish(&[STOP]))
}

/// The longest pickle that [`dump_alike`] writes.
pub(crate) const LONGEST_ALIKE: usize = 2 + 9 + 9 + 1;

/// Writes the very bytes that Python's pickler writes for a number, a bool or None, and gives how
/// many; None for others. The protocol has to be 4 or 5.
pub(crate) fn dump_alike(
    obj: &Bound<'_, PyAny>,
    protocol: u8,
    out: &mut [u8; LONGEST_ALIKE],
) -> Option<usize> {
    let mut payload = [0; 10];
    let len = if let Ok(number) = obj.cast_exact::<PyInt>() {
        let number: i64 = number.extract().ok()?;
        if let Ok(small) = u8::try_from(number) {
            put(&mut payload, BININT1, &[small])
        } else if let Ok(small) = u16::try_from(number) {
            put(&mut payload, BININT2, &small.to_le_bytes())
        } else {
            put(&mut payload, BININT, &i32::try_from(number).ok()?.to_le_bytes())
        }
    } else if let Ok(number) = obj.cast_exact::<PyFloat>() {
        put(&mut payload, BINFLOAT, &number.value().to_be_bytes())
    } else if obj.is_none() {
        put(&mut payload, NONE, &[])
    } else if let Ok(truth) = obj.cast_exact::<PyBool>() {
        put(&mut payload, if truth.is_true() { TRUE } else { FALSE }, &[])
    } else {
        return None;
    };
    out[..2].copy_from_slice(&[HEAD[0], protocol]);
    let mut end = 2;
    if len >= FRAMED {
        out[end] = FRAME;
        out[end + 1..end + 9].copy_from_slice(&(len as u64).to_le_bytes());
        end += 9;
    }
    out[end..end + len].copy_from_slice(&payload[..len]);
    Some(end + len)
}

/// Writes an opcode, its argument and the end of the pickle; gives how many bytes that is.
fn put(payload: &mut [u8; 10], opcode: u8, argument: &[u8]) -> usize {
    let end = 1 + argument.len();
    payload[0] = opcode;
    payload[1..end].copy_from_slice(argument);
    payload[end] = STOP;
    end + 1
}

/// The object of a pickle that was written here; `None` for most other pickles.
pub(crate) fn load<'py>(py: Python<'py>, pickle: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Some(mut items) = Reader::of(py, pickle) {
        return Ok(items.read_list()?.map(Bound::into_any));
    }
    let Some(rest) = unframed(pickle) else { return Ok(None) };
    let mut reader = Reader::new(py, rest, Vec::new());
    Ok(reader.read()?.filter(|_| reader.rest == [STOP]))
}

/// What is in the one frame of a pickle, or all of it if it has none.
fn unframed(pickle: &[u8]) -> Option<&[u8]> {
    let [0x80, 2..=5, rest @ ..] = pickle else { return None };
    let [FRAME, framed @ ..] = rest else { return Some(rest) };
    let (len, rest) = framed.split_first_chunk()?;
    (u64::from_le_bytes(*len) == rest.len() as u64).then_some(rest)
}

/// The pickle of a list of plain values, as [`dump_list`] writes it.
const LIST: [u8; 4] = [HEAD[0], HEAD[1], EMPTY_LIST, MARK];

/// The pickle of a part of a range; `None` if it has large numbers.
pub(crate) fn dump_range(range: &Bound<'_, PyRange>, part: Range<usize>) -> Option<Vec<u8>> {
    let attribute = |name| small_int(range.getattr(name).ok()?.cast_exact().ok()?);
    let (start, step) = (attribute("start")?, attribute("step")?);
    let place = |at: usize| start.checked_add(step.checked_mul(i64::try_from(at).ok()?)?);
    let mut out = RANGE.to_vec();
    for number in [place(part.start)?, place(part.end)?, step] {
        out.extend([LONG1, 8]);
        out.extend(number.to_le_bytes());
    }
    out.extend_from_slice(REDUCE);
    Some(out)
}

/// The pickle of a list of what the iterator gives; `None` if not everything is plain.
pub(crate) fn dump_list<'py>(
    items: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
) -> Option<Vec<u8>> {
    let room = items.size_hint().0.saturating_mul(8);
    let mut list = ListWriter::new(Vec::with_capacity(room));
    for item in items {
        if !list.push(&item.ok()?) {
            return None;
        }
    }
    Some(list.finish())
}

/// Writes a list of plain values.
pub(crate) struct ListWriter<'py>(Writer<'py>);

impl<'py> ListWriter<'py> {
    /// Uses the room of `out`.
    pub(crate) fn new(mut out: Vec<u8>) -> Self {
        out.clear();
        Self(Writer::new(out, &LIST))
    }

    /// Appends an object; false, and the list as it was, if that is not plain.
    pub(crate) fn push(&mut self, obj: &Bound<'py, PyAny>) -> bool {
        self.0.write(obj)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finish(&[APPENDS, STOP])
    }

    /// The list itself, with the very objects that may be elsewhere too.
    pub(crate) fn into_list(self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let Writer { mut out, memo } = self.0;
        out.extend([APPENDS, STOP]);
        Reader::new(py, &out[LIST.len()..], memo.objects).into_list()
    }
}

/// The objects that may come again, by their addresses.
#[derive(Default)]
struct Memo<'py> {
    numbers: HashMap<usize, u32, BuildHasherDefault<AddressHasher>>,
    /// In the order of their numbers. They stay alive, so an address stands for one object.
    objects: Vec<Bound<'py, PyAny>>,
}

impl<'py> Memo<'py> {
    fn number(&self, obj: &Bound<'py, PyAny>) -> Option<u32> {
        self.numbers.get(&obj.as_ptr().addr()).copied()
    }

    fn insert(&mut self, obj: &Bound<'py, PyAny>) {
        self.numbers.insert(obj.as_ptr().addr(), self.objects.len() as u32);
        self.objects.push(obj.clone());
    }

    fn truncate(&mut self, len: usize) {
        for obj in self.objects.drain(len..) {
            self.numbers.remove(&obj.as_ptr().addr());
        }
    }
}

/// Spreads addresses over a table.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        // Objects lie at multiples of 16; a table looks at the highest and the lowest bits.
        let spread = (self.0 ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

struct Writer<'py> {
    out: Vec<u8>,
    memo: Memo<'py>,
}

impl<'py> Writer<'py> {
    fn new(mut out: Vec<u8>, head: &[u8]) -> Self {
        out.extend_from_slice(head);
        Self { out, memo: Memo::default() }
    }

    fn finish(mut self, tail: &[u8]) -> Vec<u8> {
        self.out.extend_from_slice(tail);
        self.out
    }

    /// Writes an object; false, and nothing is written, if it is not plain.
    fn write(&mut self, obj: &Bound<'py, PyAny>) -> bool {
        if self.write_number(obj) {
            return true;
        }
        if let Ok(text) = obj.cast_exact::<PyString>() {
            return self.write_text(text, is_shared(obj));
        }
        if let Ok(tuple) = obj.cast_exact::<PyTuple>() {
            return self.write_tuple(tuple);
        }
        obj.cast_exact::<PyBytes>().is_ok_and(|bytes| self.write_bytes(bytes, is_shared(obj)))
    }

    #[inline]
    fn write_number(&mut self, obj: &Bound<'py, PyAny>) -> bool {
        if let Ok(number) = obj.cast_exact::<PyInt>() {
            return self.write_int(number);
        }
        if let Ok(number) = obj.cast_exact::<PyFloat>() {
            self.put::<9>(BINFLOAT, &number.value().to_be_bytes());
        } else if obj.is_none() {
            self.out.push(NONE);
        } else if let Ok(truth) = obj.cast_exact::<PyBool>() {
            self.out.push(if truth.is_true() { TRUE } else { FALSE });
        } else {
            return false;
        }
        true
    }

    #[inline]
    fn write_int(&mut self, number: &Bound<'py, PyInt>) -> bool {
        let Some(number) = small_int(number) else { return false };
        if let Ok(number) = i32::try_from(number) {
            self.put::<5>(BININT, &number.to_le_bytes());
        } else {
            let mut bytes = [8; 9];
            bytes[1..].copy_from_slice(&number.to_le_bytes());
            self.put::<10>(LONG1, &bytes);
        }
        true
    }

    /// Writes an opcode and its argument, together of `N` bytes.
    #[inline]
    fn put<const N: usize>(&mut self, opcode: u8, argument: &[u8]) {
        let mut bytes = [opcode; N];
        bytes[1..].copy_from_slice(argument);
        self.out.extend_from_slice(&bytes);
    }

    fn write_text(&mut self, text: &Bound<'py, PyString>, shared: bool) -> bool {
        // Half of a pair of surrogates has no UTF-8.
        let Ok(utf8) = text.to_str() else { return false };
        let utf8 = utf8.as_bytes();
        utf8.len() <= LONGEST
            && self.write_once(text.as_any(), shared, |writer| {
                writer.write_long(SHORT_BINUNICODE, BINUNICODE, utf8);
                true
            })
    }

    fn write_bytes(&mut self, bytes: &Bound<'py, PyBytes>, shared: bool) -> bool {
        bytes.as_bytes().len() <= LONGEST
            && self.write_once(bytes.as_any(), shared, |writer| {
                writer.write_long(SHORT_BINBYTES, BINBYTES, bytes.as_bytes());
                true
            })
    }

    fn write_long(&mut self, short: u8, long: u8, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(len) => self.out.extend([short, len]),
            Err(_) => self.put::<5>(long, &(bytes.len() as u32).to_le_bytes()),
        }
        self.out.extend_from_slice(bytes);
    }

    fn write_tuple(&mut self, tuple: &Bound<'py, PyTuple>) -> bool {
        // A part that nobody else has comes again if its tuple does, but as part of that.
        let shared = is_shared(tuple);
        self.write_once(tuple.as_any(), shared, |writer| {
            let (start, known) = (writer.out.len(), writer.memo.objects.len());
            writer.out.push(MARK);
            let plain = tuple.iter_borrowed().all(|part| writer.write_part(&part));
            if plain {
                writer.out.push(TUPLE);
            } else {
                writer.out.truncate(start);
                writer.memo.truncate(known);
            }
            plain
        })
    }

    /// Writes a part of a tuple: all that is plain but tuples, which could go on for ever.
    fn write_part(&mut self, part: &Bound<'py, PyAny>) -> bool {
        !part.is_exact_instance_of::<PyTuple>() && self.write(part)
    }

    /// Writes an object whose identity counts, or its number if it has been written before. As
    /// with pickle, what was one object in a batch is one again where it arrives.
    fn write_once(
        &mut self,
        obj: &Bound<'py, PyAny>,
        shared: bool,
        write: impl FnOnce(&mut Self) -> bool,
    ) -> bool {
        if !shared {
            return write(self);
        }
        if let Some(number) = self.memo.number(obj) {
            self.write_get(number);
            return true;
        }
        let written = write(self);
        if written {
            self.out.push(MEMOIZE);
            self.memo.insert(obj);
        }
        written
    }

    fn write_get(&mut self, number: u32) {
        match u8::try_from(number) {
            Ok(number) => self.out.extend([BINGET, number]),
            Err(_) => self.put::<5>(LONG_BINGET, &number.to_le_bytes()),
        }
    }
}

/// Whether there may be other references to an object than the one that is looked at. An object
/// without cannot come a second time.
fn is_shared(obj: &Bound<'_, PyAny>) -> bool {
    !is_only_reference(obj)
}

/// The objects of a list that was written here, one after the other.
pub(crate) struct Reader<'py, 'a> {
    py: Python<'py>,
    rest: &'a [u8],
    memo: Vec<Bound<'py, PyAny>>,
    /// Those that are to be used again instead of new ones, in the order of their numbers.
    known: Vec<Bound<'py, PyAny>>,
}

impl<'py, 'a> Reader<'py, 'a> {
    fn new(py: Python<'py>, rest: &'a [u8], known: Vec<Bound<'py, PyAny>>) -> Self {
        Self { py, rest, memo: Vec::new(), known }
    }

    /// `None` for other pickles.
    pub(crate) fn of(py: Python<'py>, pickle: &'a [u8]) -> Option<Self> {
        Some(Self::new(py, pickle.strip_prefix(&LIST)?, Vec::new()))
    }

    fn into_list(mut self) -> PyResult<Bound<'py, PyList>> {
        self.read_list()?.ok_or_else(malformed)
    }

    /// All that is left; `None` if something in it is not written here. Others' pickles may begin
    /// as a list does here.
    fn read_list(&mut self) -> PyResult<Option<Bound<'py, PyList>>> {
        let list = PyList::empty(self.py);
        while self.rest != [APPENDS, STOP] {
            let Some(item) = self.read()? else { return Ok(None) };
            list.append(item)?;
        }
        Ok(Some(list))
    }

    /// The next object of the list.
    #[inline]
    pub(crate) fn next_item(&mut self) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.rest == [APPENDS, STOP] {
            return Ok(None);
        }
        self.read()?.ok_or_else(malformed).map(Some)
    }

    /// Reads an object; `None` if it is not one that is written here.
    #[inline]
    fn read(&mut self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((&opcode, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let py = self.py;
        match opcode {
            BININT => Ok(self.array().map(|bytes| int(py, i32::from_le_bytes(bytes).into()))),
            LONG1 if self.rest.first() == Some(&8) => {
                self.rest = &self.rest[1..];
                Ok(self.array().map(|bytes| int(py, i64::from_le_bytes(bytes))))
            }
            BININT1 => Ok(self.array::<1>().map(|[number]| int(py, number.into()))),
            BININT2 => Ok(self.array().map(|bytes| int(py, u16::from_le_bytes(bytes).into()))),
            BINFLOAT => {
                Ok(self.array().map(|bytes| PyFloat::new(py, f64::from_be_bytes(bytes)).into_any()))
            }
            NONE => Ok(Some(py.None().into_bound(py))),
            TRUE => Ok(Some(PyBool::new(py, true).to_owned().into_any())),
            FALSE => Ok(Some(PyBool::new(py, false).to_owned().into_any())),
            _ => self.read_memoized(opcode),
        }
    }

    fn read_memoized(&mut self, opcode: u8) -> PyResult<Option<Bound<'py, PyAny>>> {
        let obj = match opcode {
            BINGET => {
                let number = self.array::<1>().map(|[number]| usize::from(number));
                return Ok(number.and_then(|number| self.memo.get(number).cloned()));
            }
            LONG_BINGET => {
                let number = self.array().map(|number| u32::from_le_bytes(number) as usize);
                return Ok(number.and_then(|number| self.memo.get(number).cloned()));
            }
            MARK => self.read_tuple()?,
            SHORT_BINUNICODE | BINUNICODE => self.read_text(opcode == SHORT_BINUNICODE),
            SHORT_BINBYTES | BINBYTES => self
                .read_long(opcode == SHORT_BINBYTES)
                .map(|bytes| PyBytes::new(self.py, bytes).into_any()),
            _ => None,
        };
        Ok(obj.map(|obj| self.memoize(obj)))
    }

    /// Gives an object its number, if it has one.
    fn memoize(&mut self, obj: Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        let Some(rest) = self.rest.strip_prefix(&[MEMOIZE]) else { return obj };
        self.rest = rest;
        let obj = self.known.get(self.memo.len()).cloned().unwrap_or(obj);
        self.memo.push(obj.clone());
        obj
    }

    fn read_tuple(&mut self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut parts = Vec::new();
        while self.rest.first() != Some(&TUPLE) {
            // A tuple has no tuples here.
            let part = if self.rest.first() == Some(&MARK) { None } else { self.read()? };
            let Some(part) = part else { return Ok(None) };
            parts.push(part);
        }
        self.rest = &self.rest[1..];
        Ok(Some(PyTuple::new(self.py, parts)?.into_any()))
    }

    fn read_text(&mut self, short: bool) -> Option<Bound<'py, PyAny>> {
        let utf8 = self.read_long(short)?;
        Some(PyString::new(self.py, str::from_utf8(utf8).ok()?).into_any())
    }

    fn read_long(&mut self, short: bool) -> Option<&'a [u8]> {
        let len = if short {
            self.array::<1>()?[0].into()
        } else {
            u32::from_le_bytes(self.array()?) as usize
        };
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }
}

#[cold]
fn malformed() -> PyErr {
    PyValueError::new_err("a batch of plain values is malformed")
}

#[inline]
fn int(py: Python<'_>, number: i64) -> Bound<'_, PyAny> {
    let Ok(number) = number.into_pyobject(py);
    number.into_any()
}

/// The numbers of a range.
pub(crate) struct Steps<'py> {
    py: Python<'py>,
    next: i64,
    step: i64,
    left: u64,
}

impl<'py> Steps<'py> {
    /// `None` for other pickles than that of a range.
    pub(crate) fn of(py: Python<'py>, pickle: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(py, pickle.strip_prefix(RANGE)?, Vec::new());
        let mut number = || {
            let [LONG1, 8] = reader.array()? else { return None };
            reader.array().map(i64::from_le_bytes)
        };
        let (start, stop, step) = (number()?, number()?, number()?);
        let left = i128::from(stop) - i128::from(start);
        let left = u64::try_from(left.checked_div(step.into())?).ok()?;
        (reader.rest == REDUCE).then_some(Self { py, next: start, step, left })
    }
}

impl<'py> Iterator for Steps<'py> {
    type Item = PyResult<Bound<'py, PyAny>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let number = self.next;
        self.next = number.wrapping_add(self.step);
        Some(Ok(int(self.py, number)))
    }
}

impl<'py> Iterator for Reader<'py, '_> {
    type Item = PyResult<Bound<'py, PyAny>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.next_item().transpose()
    }
}
