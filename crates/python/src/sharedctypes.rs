//! ctypes objects in shared memory with a lock.
//!
//! Numbers are read and written here, as ctypes would. Whatever else there is to do with such an
//! object, or with arguments that are not plain numbers, is left to the standard library's code,
//! which is next in the order of the bases.

use std::sync::OnceLock;

use manycore::memory::{Cells, Width};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PySuper, PyTuple, PyType};
use pyo3::{Borrowed, PyTraverseError, PyTypeInfo, PyVisit, intern};

use crate::direct::{self, Answer, Arguments, Method, ORDINARY, Otherwise, Property, ordinary};
use crate::error::EngineError;
use crate::guarded::{self, Guarded, initialised_twice, not_initialised};
use crate::heap::Block;
use crate::plain;
use crate::synchronize::GetValue;

/// What the bits of a number mean.
#[derive(Clone, Copy)]
enum Meaning {
    Signed,
    Unsigned,
    Float,
    Double,
    Bool,
    Char,
}

/// Numbers of one ctypes type.
struct Numbers {
    cells: Cells,
    meaning: Meaning,
    /// How many bits of 64 a number does not have.
    unused: u32,
}

impl Numbers {
    fn new(block: &Block, format: char, size: usize, len: usize) -> PyResult<Self> {
        let meaning = match format {
            'b' | 'h' | 'i' | 'l' | 'q' => Meaning::Signed,
            'B' | 'H' | 'I' | 'L' | 'Q' => Meaning::Unsigned,
            'f' => Meaning::Float,
            'd' => Meaning::Double,
            '?' => Meaning::Bool,
            'c' => Meaning::Char,
            _ => return Err(PyValueError::new_err(format!("format {format:?} is no number"))),
        };
        let width = match size {
            1 => Width::One,
            2 => Width::Two,
            4 => Width::Four,
            8 => Width::Eight,
            _ => return Err(PyValueError::new_err(format!("no number has {size} bytes"))),
        };
        let cells = Cells::new(block.inner.clone(), width, len).map_err(EngineError)?;
        Ok(Self { cells, meaning, unused: 64 - 8 * width as u32 })
    }

    /// What ctypes makes of the bits.
    #[inline]
    fn read<'py>(&self, py: Python<'py>, bits: u64) -> PyResult<Bound<'py, PyAny>> {
        match self.meaning {
            Meaning::Signed => plain::int(py, bits.cast_signed() << self.unused >> self.unused),
            Meaning::Unsigned => plain::unsigned(py, bits),
            Meaning::Float => plain::float(py, f32::from_bits(bits as u32).into()),
            Meaning::Double => plain::float(py, f64::from_bits(bits)),
            Meaning::Bool => Ok(plain::truth(py, bits != 0)),
            Meaning::Char => Ok(PyBytes::new(py, &[bits as u8]).into_any()),
        }
    }

    /// The bits that ctypes makes of an object. None if it takes more than a look at it.
    #[inline]
    fn bits(&self, value: &Bound<'_, PyAny>) -> Option<u64> {
        match self.meaning {
            // ctypes drops the bits that do not fit, without a word.
            Meaning::Signed | Meaning::Unsigned => value.cast().ok().map(plain::low_bits),
            Meaning::Float => real(value).map(|real| (real as f32).to_bits().into()),
            Meaning::Double => real(value).map(f64::to_bits),
            Meaning::Bool => plain::exact_bool(value).map(u64::from),
            Meaning::Char => match value.cast_exact::<PyBytes>().ok()?.as_bytes() {
                &[byte] => Some(byte.into()),
                _ => None,
            },
        }
    }

    /// The place that an index names.
    #[inline]
    fn place(&self, index: &Bound<'_, PyAny>) -> Option<usize> {
        let index = plain::small(index.cast_exact::<PyInt>().ok()?)?;
        let len = self.cells.len();
        // No block has so many numbers that a place is no i64.
        let place = if index < 0 { index + len as i64 } else { index };
        usize::try_from(place).ok().filter(|&place| place < len)
    }
}

/// The float that is, or is near to, a plain number.
#[inline]
fn real(value: &Bound<'_, PyAny>) -> Option<f64> {
    match value.cast_exact::<PyFloat>() {
        Ok(float) => Some(float.value()),
        Err(_) => plain::small(value.cast_exact::<PyInt>().ok()?).map(|int| int as f64),
    }
}

/// A ctypes object in shared memory with a lock.
#[pyclass(frozen, subclass, extends = Guarded, module = "manycore._engine")]
pub(crate) struct SharedValue {
    obj: OnceLock<Py<PyAny>>,
    numbers: OnceLock<Numbers>,
}

impl SharedValue {
    fn unbound() -> PyClassInitializer<Self> {
        let shared = Self { obj: OnceLock::new(), numbers: OnceLock::new() };
        PyClassInitializer::from(Guarded::unbound()).add_subclass(shared)
    }

    fn obj(&self) -> PyResult<&Py<PyAny>> {
        self.obj.get().ok_or_else(not_initialised)
    }
}

/// The number at `place`, read under the lock.
#[inline]
fn read<'py>(
    this: Borrowed<'_, 'py, SharedValue>,
    place: impl FnOnce(&Numbers) -> Option<usize>,
) -> Result<Bound<'py, PyAny>, Otherwise> {
    let numbers = this.get().numbers.get().ok_or(ORDINARY)?;
    let place = place(numbers).ok_or(ORDINARY)?;
    let bits = this.as_super().get().with_lock(|| numbers.cells.get(place))?;
    Ok(numbers.read(this.py(), bits.flatten().ok_or(ORDINARY)?)?)
}

/// Writes the number at `place` under the lock.
#[inline]
fn write(
    this: Borrowed<'_, '_, SharedValue>,
    place: impl FnOnce(&Numbers) -> Option<usize>,
    value: &Bound<'_, PyAny>,
) -> Result<(), Otherwise> {
    let numbers = this.get().numbers.get().ok_or(ORDINARY)?;
    let place = place(numbers).ok_or(ORDINARY)?;
    let bits = numbers.bits(value).ok_or(ORDINARY)?;
    let done = this.as_super().get().with_lock(|| numbers.cells.set(place, bits))?;
    done.flatten().ok_or(ORDINARY)
}

#[pymethods]
impl SharedValue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        Self::unbound()
    }

    /// Names the object.
    fn _share(&self, obj: Py<PyAny>) -> PyResult<()> {
        self.obj.set(obj).map_err(|_| initialised_twice())
    }

    /// Says that the object is `len` numbers of `size` bytes at the beginning of `block`.
    fn _share_numbers(&self, block: &Block, format: char, size: usize, len: usize) -> PyResult<()> {
        let numbers = Numbers::new(block, format, size, len)?;
        self.numbers.set(numbers).map_err(|_| initialised_twice())
    }

    #[getter]
    fn _obj(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.obj()?.clone_ref(py))
    }

    /// The ctypes object, to be used without the lock.
    fn get_obj(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self._obj(py)
    }

    /// The lock.
    fn get_lock<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.as_super().getattr(intern!(slf.py(), "_lock"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.obj.get())
    }
}

/// A ctypes array in shared memory with a lock.
#[pyclass(frozen, subclass, extends = SharedValue, module = "manycore._engine")]
pub(crate) struct SharedArray;

#[pymethods]
impl SharedArray {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        SharedValue::unbound().add_subclass(Self)
    }

    fn __len__(slf: &Bound<'_, Self>) -> PyResult<usize> {
        match slf.as_super().get().numbers.get() {
            Some(numbers) => Ok(numbers.cells.len()),
            None => next(slf)?.call_method0(intern!(slf.py(), "__len__"))?.extract(),
        }
    }

    fn __getitem__<'py>(
        slf: &Bound<'py, Self>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let shared = slf.as_super().as_borrowed();
        direct::or_ordinary(read(shared, |numbers| numbers.place(index)), || {
            next(slf)?.call_method1(intern!(slf.py(), "__getitem__"), (index,))
        })
    }

    fn __setitem__<'py>(
        slf: &Bound<'py, Self>,
        index: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let shared = slf.as_super().as_borrowed();
        direct::or_ordinary(write(shared, |numbers| numbers.place(index), value), || {
            let name = intern!(slf.py(), "__setitem__");
            next(slf)?.call_method1(name, (index, value)).map(drop)
        })
    }

    fn __delitem__(slf: &Bound<'_, Self>, index: &Bound<'_, PyAny>) -> PyResult<()> {
        next(slf)?.call_method1(intern!(slf.py(), "__delitem__"), (index,)).map(drop)
    }
}

/// The array as the next class in the order of its bases has it.
#[cold]
fn next<'py>(slf: &Bound<'py, SharedArray>) -> PyResult<Bound<'py, PySuper>> {
    PySuper::new(&slf.py().get_type::<SharedArray>(), slf.as_any())
}

struct GetLock;

impl Method for GetLock {
    type Of = SharedValue;
    const NAME: &'static str = "get_lock";
    const NO_ARGUMENTS: bool = true;
    ordinary!();

    #[inline]
    fn call<'py>(this: Borrowed<'_, 'py, SharedValue>, _: Arguments<'_, 'py>) -> Answer<'py> {
        let lock = this.as_super().get().lock().ok_or(ORDINARY)?;
        Ok(lock.clone_ref(this.py()).into_bound(this.py()))
    }
}

struct GetObj;

impl Method for GetObj {
    type Of = SharedValue;
    const NAME: &'static str = "get_obj";
    const NO_ARGUMENTS: bool = true;
    ordinary!();

    #[inline]
    fn call<'py>(this: Borrowed<'_, 'py, SharedValue>, _: Arguments<'_, 'py>) -> Answer<'py> {
        let obj = this.get().obj.get().ok_or(ORDINARY)?;
        Ok(obj.clone_ref(this.py()).into_bound(this.py()))
    }
}

struct Value;

impl Property for Value {
    type Of = SharedValue;
    const NAME: &'static str = "value";
    ordinary!();

    #[inline]
    fn get<'py>(this: Borrowed<'_, 'py, SharedValue>) -> Answer<'py> {
        read(this, |_| Some(0))
    }

    #[inline]
    fn set(
        this: Borrowed<'_, '_, SharedValue>,
        value: Borrowed<'_, '_, PyAny>,
    ) -> Result<(), Otherwise> {
        write(this, |_| Some(0), &value)
    }
}

/// The twin of the `value` of an array of characters: those before the first zero.
pub(crate) struct Text;

impl Property for Text {
    type Of = SharedValue;
    const NAME: &'static str = "value";
    ordinary!();

    #[inline]
    fn get<'py>(this: Borrowed<'_, 'py, SharedValue>) -> Answer<'py> {
        let bytes = all_bytes(this)?;
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(PyBytes::new(this.py(), text).into_any())
    }

    #[inline]
    fn set(
        this: Borrowed<'_, '_, SharedValue>,
        value: Borrowed<'_, '_, PyAny>,
    ) -> Result<(), Otherwise> {
        let text = value.cast_exact::<PyBytes>().map_err(|_| ORDINARY)?;
        let text = text.as_bytes();
        let cells = &characters(this)?.cells;
        // As ctypes does: a zero behind it where there is room for one.
        let zero = if text.len() < cells.len() { &[0][..] } else { &[] };
        let done = this.as_super().get().with_lock(|| cells.set_bytes(&[text, zero]))?;
        done.flatten().ok_or(ORDINARY)
    }
}

/// The twin of the `raw` of an array of characters: all of them.
pub(crate) struct Raw;

impl Property for Raw {
    type Of = SharedValue;
    const NAME: &'static str = "raw";
    ordinary!();

    #[inline]
    fn get<'py>(this: Borrowed<'_, 'py, SharedValue>) -> Answer<'py> {
        Ok(PyBytes::new(this.py(), &all_bytes(this)?).into_any())
    }

    #[inline]
    fn set(
        this: Borrowed<'_, '_, SharedValue>,
        value: Borrowed<'_, '_, PyAny>,
    ) -> Result<(), Otherwise> {
        let bytes = value.cast_exact::<PyBytes>().map_err(|_| ORDINARY)?;
        let cells = &characters(this)?.cells;
        let done = this.as_super().get().with_lock(|| cells.set_bytes(&[bytes.as_bytes()]))?;
        done.flatten().ok_or(ORDINARY)
    }
}

/// Longer texts are not copied twice.
const LONG: usize = 4096;

fn characters<'a>(this: Borrowed<'a, '_, SharedValue>) -> Result<&'a Numbers, Otherwise> {
    let numbers = this.get().numbers.get().ok_or(ORDINARY)?;
    let are_few = matches!(numbers.meaning, Meaning::Char) && numbers.cells.len() <= LONG;
    are_few.then_some(numbers).ok_or(ORDINARY)
}

fn all_bytes(this: Borrowed<'_, '_, SharedValue>) -> Result<Vec<u8>, Otherwise> {
    let cells = &characters(this)?.cells;
    let mut bytes = vec![0; cells.len()];
    this.as_super().get().with_lock(|| cells.copy_bytes(&mut bytes))?.flatten().ok_or(ORDINARY)?;
    Ok(bytes)
}

/// Gives a class of guarded objects methods of its own, which are faster than inherited ones.
#[pyfunction]
pub(crate) fn own_methods<'py>(class_: Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    guarded::make_all_ready(&class_)?;
    direct::add_method::<guarded::Acquire>(&class_)?;
    direct::add_method::<guarded::Release>(&class_)?;
    if class_.hasattr(GetValue::NAME)? {
        direct::add_method::<GetValue>(&class_)?;
    }
    // Once the interpreter has begun to end nothing can be looked up any more.
    PySuper::type_object(class_.py());
    if class_.is_subclass_of::<SharedValue>()? {
        direct::add_method::<GetLock>(&class_)?;
        direct::add_method::<GetObj>(&class_)?;
    }
    match (class_.hasattr(Value::NAME)?, class_.is_subclass_of::<SharedArray>()?) {
        (true, false) => direct::add_property::<Value>(&class_)?,
        (true, true) => {
            direct::add_property::<Text>(&class_)?;
            direct::add_property::<Raw>(&class_)?;
        }
        (false, _) => {}
    }
    Ok(class_)
}
