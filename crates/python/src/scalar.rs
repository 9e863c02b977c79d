//! Pickles of plain numbers, without a pickler.
//!
//! Tasks and results are often a number or a few. What is written here is pickle (protocol 5) like
//! any other, and `pickle.loads` reads it; but a pickler and an unpickler cost ten times as much as
//! the handful of bytes that there are to write. Opcodes: `pickletools` in the standard library.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyTuple};

const PROTO: u8 = 0x80;
const VERSION: u8 = 5;
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
/// Tuples of one, two or three.
const TUPLES: [u8; 3] = [0x85, 0x86, 0x87];

/// The pickle of a number, a bool, None, or a tuple of one to three of them; None for others.
pub(crate) fn dump(obj: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(32);
    out.extend([PROTO, VERSION]);
    match obj.cast_exact::<PyTuple>() {
        Ok(tuple) => {
            let tuple_of = TUPLES.get(tuple.len().checked_sub(1)?)?;
            for item in tuple.iter() {
                dump_one(&item, &mut out)?;
            }
            out.push(*tuple_of);
        }
        Err(_) => dump_one(obj, &mut out)?,
    }
    out.push(STOP);
    Some(out)
}

/// The longest pickle that [`dump_alike`] writes.
pub(crate) const LONGEST: usize = 2 + 9 + 9 + 1;

/// Writes the very bytes that Python's pickler writes for a number, a bool or None, and gives how
/// many; None for others. The protocol has to be 4 or 5.
pub(crate) fn dump_alike(
    obj: &Bound<'_, PyAny>,
    protocol: u8,
    out: &mut [u8; LONGEST],
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
    out[..2].copy_from_slice(&[PROTO, protocol]);
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

fn dump_one(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Option<()> {
    if let Ok(number) = obj.cast_exact::<PyInt>() {
        dump_int(number, out)?;
    } else if let Ok(number) = obj.cast_exact::<PyFloat>() {
        out.push(BINFLOAT);
        out.extend(number.value().to_be_bytes());
    } else if obj.is_none() {
        out.push(NONE);
    } else if let Ok(truth) = obj.cast_exact::<PyBool>() {
        out.push(if truth.is_true() { TRUE } else { FALSE });
    } else {
        return None;
    }
    Some(())
}

fn dump_int(number: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> Option<()> {
    let number: i64 = match number.extract() {
        Ok(number) => number,
        Err(error) => {
            debug_assert!(error.is_instance_of::<PyOverflowError>(number.py()));
            return None;
        }
    };
    if let Ok(number) = i32::try_from(number) {
        out.push(BININT);
        out.extend(number.to_le_bytes());
    } else {
        out.extend([LONG1, 8]);
        out.extend(number.to_le_bytes());
    }
    Some(())
}

/// The object of a pickle that [`dump`] or [`dump_alike`] has written; None for other pickles.
pub(crate) fn load<'py>(py: Python<'py>, pickle: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    let [PROTO, 2..=VERSION, rest @ ..] = pickle else { return Ok(None) };
    let mut rest = match rest {
        // One frame with all that follows.
        [FRAME, framed @ ..] => match framed.split_first_chunk() {
            Some((len, rest)) if u64::from_le_bytes(*len) == rest.len() as u64 => rest,
            _ => return Ok(None),
        },
        rest => rest,
    };
    let mut items: [Option<Bound<'py, PyAny>>; 3] = [None, None, None];
    for count in 0..=items.len() {
        match rest {
            [STOP] if count == 1 => return Ok(items[0].take()),
            [tuple, STOP] if count > 0 && *tuple == TUPLES[count - 1] => {
                let tuple = PyTuple::new(py, items.into_iter().flatten().collect::<Vec<_>>())?;
                return Ok(Some(tuple.into_any()));
            }
            _ => {}
        }
        let (Some((item, after)), true) = (load_one(py, rest)?, count < items.len()) else {
            return Ok(None);
        };
        items[count] = Some(item);
        rest = after;
    }
    Ok(None)
}

/// The first object, and what follows it.
fn load_one<'py, 'a>(
    py: Python<'py>,
    pickle: &'a [u8],
) -> PyResult<Option<(Bound<'py, PyAny>, &'a [u8])>> {
    let Some((opcode, rest)) = pickle.split_first() else { return Ok(None) };
    let plain = match *opcode {
        NONE => Some((py.None().into_bound(py), rest)),
        TRUE => Some((PyBool::new(py, true).to_owned().into_any(), rest)),
        FALSE => Some((PyBool::new(py, false).to_owned().into_any(), rest)),
        BININT1 => match rest.split_first() {
            Some((byte, rest)) => Some((int(py, (*byte).into())?, rest)),
            None => None,
        },
        BININT2 => match rest.split_first_chunk() {
            Some((bytes, rest)) => Some((int(py, u16::from_le_bytes(*bytes).into())?, rest)),
            None => None,
        },
        BININT => match rest.split_first_chunk() {
            Some((bytes, rest)) => Some((int(py, i32::from_le_bytes(*bytes).into())?, rest)),
            None => None,
        },
        LONG1 => match rest.split_first().map(|(len, rest)| (len, rest.split_first_chunk())) {
            Some((8, Some((bytes, rest)))) => Some((int(py, i64::from_le_bytes(*bytes))?, rest)),
            _ => None,
        },
        BINFLOAT => rest
            .split_first_chunk()
            .map(|(bytes, rest)| (PyFloat::new(py, f64::from_be_bytes(*bytes)).into_any(), rest)),
        _ => None,
    };
    Ok(plain)
}

fn int(py: Python<'_>, number: i64) -> PyResult<Bound<'_, PyAny>> {
    Ok(number.into_pyobject(py)?.into_any())
}
