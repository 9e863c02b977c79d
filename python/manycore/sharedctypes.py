"""ctypes objects in shared memory."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import operator
import sys
import weakref
from collections.abc import Sequence
from multiprocessing.context import BaseContext
from multiprocessing.context import assert_spawning as assert_spawning
from typing import TYPE_CHECKING, Any, TypeVar

from . import _block, _engine, _stdlib
from ._block import BufferWrapper
from .context import _default_context
from .synchronize import guard

if TYPE_CHECKING:
    from multiprocessing import sharedctypes as _stubs

    import numpy as np

    _T = TypeVar("_T")

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

_original = _stdlib.sharedctypes

SynchronizedBase = _original.SynchronizedBase
class_cache: weakref.WeakKeyDictionary[type, type] = weakref.WeakKeyDictionary()
make_property = _original.make_property
prop_cache = _original.prop_cache
reduce_ctype = _original.reduce_ctype
template = _original.template
typecode_to_type = _original.typecode_to_type

#: The types whose numbers the engine reads and writes itself. Subclasses may do so in other ways.
_NUMBERS = frozenset((*typecode_to_type.values(), ctypes.c_bool)) - {ctypes.c_wchar}


def rebuild_ctype(type_: Any, wrapper: Any, length: int | None) -> Any:
    """A ctypes object in the memory of ``wrapper``."""
    obj = _original.rebuild_ctype(type_, wrapper, length)
    if len(_lengths(type(obj))) > 1:
        _stdlib.reduction.ForkingPickler.register(type(obj), _reduce_nested)
    return obj


def _lengths(type_: Any) -> tuple[int, ...]:
    """How long the arrays in an array of arrays are."""
    lengths = []
    while issubclass(type_, ctypes.Array):
        lengths.append(type_._length_)
        type_ = type_._type_
    return tuple(lengths)


def _innermost(type_: Any) -> Any:
    """What the innermost of them are arrays of."""
    while issubclass(type_, ctypes.Array):
        type_ = type_._type_
    return type_


def _array_type(type_: Any, lengths: Sequence[int]) -> Any:
    """Arrays of arrays of a type."""
    for length in reversed(lengths):
        type_ = type_ * length
    return type_


def _reduce_nested(obj: Any) -> tuple[Any, ...]:
    assert_spawning(obj)
    return _nested_parts(obj)


def _nested_parts(obj: Any) -> tuple[Any, ...]:
    # The types of the arrays have no name that pickle could find.
    return _rebuild_nested, (_innermost(type(obj)), _lengths(type(obj)), obj._wrapper)


def _rebuild_nested(type_: Any, lengths: tuple[int, ...], wrapper: Any) -> Any:
    return rebuild_ctype(_array_type(type_, lengths), wrapper, None)


def _new_value(type_: Any) -> Any:
    size = None
    with contextlib.suppress(TypeError):
        size = ctypes.sizeof(type_)
    if size is None:
        # It raises as the running Python does.
        return _original._new_value(type_)
    return rebuild_ctype(type_, BufferWrapper(size), None)


def _type(typecode_or_type: Any) -> Any:
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not _is_dtype(numpy, type_):
        return type_
    try:
        return numpy.ctypeslib.as_ctypes_type(type_)
    except NotImplementedError:
        raise TypeError(f"typecode_or_type: ctypes has no type for {type_!r}") from None


def _is_dtype(numpy: Any, type_: Any) -> bool:
    scalar = isinstance(type_, type) and issubclass(type_, numpy.generic)
    return scalar or isinstance(type_, numpy.dtype)


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """A ctypes object in shared memory, initialised with ``args``; zero without."""
    value = _new_value(_type(typecode_or_type))
    value.__init__(*args)
    return value


def RawArray(typecode_or_type: Any, size_or_initializer: int | Sequence[Any]) -> Any:
    """A ctypes array in shared memory: of so many zeros, or of the items of a sequence."""
    if isinstance(size_or_initializer, int):
        return _new_value(_type(typecode_or_type) * size_or_initializer)
    array = _new_value(_type(typecode_or_type) * len(size_or_initializer))
    array.__init__(*size_or_initializer)
    return array


def Value(
    typecode_or_type: Any, *args: Any, lock: Any = True, ctx: BaseContext | None = None
) -> Any:
    """As :func:`RawValue`, with a lock around every access unless ``lock`` is False.

    ``lock`` may be a lock to use.
    """
    return _locked(RawValue(typecode_or_type, *args), lock, ctx)


def Array(
    typecode_or_type: Any,
    size_or_initializer: Any = ...,
    *,
    lock: Any = True,
    ctx: BaseContext | None = None,
    shape: int | Sequence[int] | None = None,
) -> Any:
    """As :func:`RawArray`, with a lock around every access unless ``lock`` is False.

    ``lock`` may be a lock to use. With ``shape`` it is an array for NumPy, which is zero or has the
    items of ``size_or_initializer``; ``numpy()`` and ``numpy.asarray`` give views of its memory.
    """
    if shape is not None:
        return _shaped_array(typecode_or_type, size_or_initializer, _checked(shape), lock, ctx)
    if size_or_initializer is ...:
        raise TypeError("Array() missing 1 required positional argument: 'size_or_initializer'")
    return _locked(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def _checked(shape: Any) -> tuple[int, ...]:
    try:
        lengths = tuple(map(operator.index, (shape,) if hasattr(shape, "__index__") else shape))
    except TypeError:
        raise TypeError(f"shape: an int or a tuple of ints is needed, not {shape!r}") from None
    if not lengths or min(lengths) < 0:
        raise ValueError(f"shape: {lengths!r} is not the shape of an array")
    return lengths


def _shaped_array(
    typecode_or_type: Any, items: Any, shape: tuple[int, ...], lock: Any, ctx: BaseContext | None
) -> Any:
    array = _new_value(_array_type(_type(typecode_or_type), shape))
    if items is not ...:
        if isinstance(items, int):
            raise TypeError("size_or_initializer: with a shape it is the items, not a size")
        _view(array)[...] = _reshaped(items, shape)
    if lock is False:
        return array
    cls = SynchronizedArray if len(shape) == 1 else SynchronizedNDArray
    if cls is SynchronizedArray:
        return _locked(array, lock, ctx)
    return cls(array, _lock(lock, ctx))


def _reshaped(items: Any, shape: tuple[int, ...]) -> Any:
    numpy: Any = importlib.import_module("numpy")
    try:
        return numpy.reshape(items, shape)
    except ValueError as error:
        raise ValueError(f"size_or_initializer: {error}") from None


def copy(obj: Any) -> Any:
    """A copy of a ctypes object, in shared memory."""
    new = _new_value(type(obj))
    ctypes.pointer(new)[0] = obj
    return new


def synchronized(obj: Any, lock: Any = None, ctx: BaseContext | None = None) -> Any:
    """``obj``, a ctypes object, with a lock: ``lock`` or one of its own."""
    assert not isinstance(obj, SynchronizedBase), "object already synchronized"
    ctx = ctx or _default_context.get_context()
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        if obj._type_ is ctypes.c_char:
            return SynchronizedString(obj, lock, ctx)
        return SynchronizedArray(obj, lock, ctx)
    return _class_for(type(obj))(obj, lock, ctx)


def _class_for(structure: Any) -> Any:
    """The class for such a structure or union, with a property for each field."""
    if structure not in class_cache:
        properties = {field[0]: make_property(field[0]) for field in structure._fields_}
        name = f"Synchronized{structure.__name__}"
        class_cache[structure] = type(name, (_SynchronizedFields,), properties)
    return class_cache[structure]


def _view(obj: Any) -> Any:
    """A NumPy array in the memory of a ctypes object."""
    numpy: Any = importlib.import_module("numpy")
    type_ = _innermost(type(obj))
    # NumPy does not know the character, which has as many bytes as one of its own.
    dtype = numpy.dtype("U1" if type_ is ctypes.c_wchar else type_)
    return numpy.ndarray(_lengths(type(obj)), dtype, obj)


class _ForNumPy:
    """What NumPy has to do with every shared object."""

    _obj: Any

    def numpy(self) -> np.ndarray[Any, Any]:
        """A NumPy array in the same memory. The lock is up to the caller."""
        view: np.ndarray[Any, Any] = _view(self._obj)
        return view

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the array's dimensions; of a single value none."""
        return _lengths(type(self._obj))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the items, as NumPy names it."""
        dtype: np.dtype[Any] = self.numpy().dtype
        return dtype

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.numpy().__array_interface__


class _SynchronizedFields(_ForNumPy, SynchronizedBase):  # type: ignore[misc, valid-type]
    """A structure or union. Its fields are the standard library's properties."""

    def __init__(self, obj: Any, lock: Any = None, ctx: BaseContext | None = None) -> None:
        SynchronizedBase.__init__(self, obj, lock or _lock(True, ctx), ctx)

    def __reduce__(self) -> tuple[Any, ...]:
        assert_spawning(self)
        return synchronized, (self._obj, self._lock)


class _SynchronizedNumbers(_ForNumPy, _engine.SharedValue):
    """What the engine knows of: who locks, and where plain numbers lie."""

    def __init__(self, obj: Any, lock: Any = None, ctx: BaseContext | None = None) -> None:
        self._share(obj)
        guard(self, lock or _lock(True, ctx))
        length, kind = 1, type(obj)
        if isinstance(obj, ctypes.Array):
            length, kind = len(obj), obj._type_
        is_plain = kind in _NUMBERS and type(obj) in (kind, kind * length)
        wrapper = getattr(obj, "_wrapper", None)
        if is_plain and type(wrapper) is BufferWrapper:
            self._share_numbers(wrapper._block, kind._type_, ctypes.sizeof(kind), length)

    def __reduce__(self) -> tuple[Any, ...]:
        assert_spawning(self)
        return synchronized, (self._obj, self._lock)


if TYPE_CHECKING:
    # What type checkers know of the standard library's classes, and what ours have besides.
    class Synchronized(_ForNumPy, _stubs.Synchronized[_T]): ...

    class SynchronizedArray(_ForNumPy, _stubs.SynchronizedArray[_T]): ...

    class SynchronizedString(SynchronizedArray[bytes], _stubs.SynchronizedString): ...

    _AnyArray = SynchronizedArray[Any]

else:

    @_engine.own_methods
    class Synchronized(_SynchronizedNumbers, _original.Synchronized):
        """A simple ctypes object in shared memory with a lock."""

    @_engine.own_methods
    class SynchronizedArray(_engine.SharedArray, _SynchronizedNumbers, _original.SynchronizedArray):
        """A ctypes array in shared memory with a lock."""

    @_engine.own_methods
    class SynchronizedString(SynchronizedArray, _original.SynchronizedString):
        """A ctypes array of characters in shared memory with a lock."""

    _AnyArray = SynchronizedArray


@_engine.own_methods
class SynchronizedNDArray(_AnyArray):
    """An array with several dimensions, which is indexed as NumPy does.

    What is indexed with an int for each dimension is read and written under the lock. A part of
    the array is a view of it, whose lock is up to the caller.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        assert_spawning(self)
        return type(self), (self._obj, self.get_lock())

    def __getitem__(self, index: Any) -> Any:
        view = self.numpy()
        with self:
            return view[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        view = self.numpy()
        with self:
            view[index] = value


def _ctype_in_message(sink: _engine.Sink, obj: Any) -> Any:
    wrapper = obj._wrapper
    if not isinstance(wrapper, BufferWrapper):
        # Of the standard library's package, which passes it on only while a process starts.
        return _original.reduce_ctype(obj)
    # As there, but for the question whether a process starts.
    length = len(obj) if isinstance(obj, ctypes.Array) else None
    kind = type(obj) if length is None else obj._type_
    return rebuild_ctype, (kind, wrapper, length)


def _nested_in_message(sink: _engine.Sink, obj: Any) -> tuple[Any, ...]:
    return _nested_parts(obj)


def _theirs_in_message(sink: _engine.Sink, obj: Any) -> tuple[Any, ...]:
    return _original.synchronized, (obj._obj, obj._lock)


def _ours_in_message(sink: _engine.Sink, obj: Any) -> tuple[Any, ...]:
    return synchronized, (obj._obj, obj._lock)


def _shaped_in_message(sink: _engine.Sink, obj: Any) -> tuple[Any, ...]:
    return type(obj), (obj._obj, obj._lock)


_block.in_messages(reduce_ctype, _ctype_in_message)
_block.in_messages(_reduce_nested, _nested_in_message)
_block.subclasses_in_messages(SynchronizedBase, _theirs_in_message)
_block.subclasses_in_messages(_SynchronizedNumbers, _ours_in_message)
_block.subclasses_in_messages(_SynchronizedFields, _ours_in_message)
_block.subclasses_in_messages(SynchronizedNDArray, _shaped_in_message)


def _locked(obj: Any, lock: Any, ctx: BaseContext | None) -> Any:
    if lock is False:
        return obj
    ctx = ctx or _default_context.get_context()
    return synchronized(obj, _lock(lock, ctx), ctx=ctx)


def _lock(lock: Any, ctx: BaseContext | None) -> Any:
    if lock in (True, None):
        return (ctx or _default_context.get_context()).RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return lock


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("sharedctypes")
