"""ctypes objects in shared memory."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from multiprocessing.context import BaseContext
from multiprocessing.context import assert_spawning as assert_spawning
from typing import TYPE_CHECKING, Any

from . import _block, _engine, _stdlib
from ._block import BufferWrapper
from .context import _default_context

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

_original = _stdlib.sharedctypes

Synchronized = _original.Synchronized
SynchronizedArray = _original.SynchronizedArray
SynchronizedBase = _original.SynchronizedBase
SynchronizedString = _original.SynchronizedString
class_cache = _original.class_cache
make_property = _original.make_property
prop_cache = _original.prop_cache
rebuild_ctype = _original.rebuild_ctype
reduce_ctype = _original.reduce_ctype
synchronized = _original.synchronized
template = _original.template
typecode_to_type = _original.typecode_to_type


def _new_value(type_: Any) -> Any:
    size = None
    with contextlib.suppress(TypeError):
        size = ctypes.sizeof(type_)
    if size is None:
        # It raises as the running Python does.
        return _original._new_value(type_)
    return rebuild_ctype(type_, BufferWrapper(size), None)


def _type(typecode_or_type: Any) -> Any:
    return typecode_to_type.get(typecode_or_type, typecode_or_type)


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
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Any = True,
    ctx: BaseContext | None = None,
) -> Any:
    """As :func:`RawArray`, with a lock around every access unless ``lock`` is False.

    ``lock`` may be a lock to use.
    """
    return _locked(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def copy(obj: Any) -> Any:
    """A copy of a ctypes object, in shared memory."""
    new = _new_value(type(obj))
    ctypes.pointer(new)[0] = obj
    return new


def _ctype_in_message(sink: _engine.Sink, obj: Any) -> Any:
    wrapper = obj._wrapper
    if not isinstance(wrapper, BufferWrapper):
        # Of the standard library's package, which passes it on only while a process starts.
        return _original.reduce_ctype(obj)
    # As there, but for the question whether a process starts.
    length = len(obj) if isinstance(obj, ctypes.Array) else None
    kind = type(obj) if length is None else obj._type_
    return rebuild_ctype, (kind, wrapper, length)


def _synchronized_in_message(sink: _engine.Sink, obj: Any) -> tuple[Any, ...]:
    return synchronized, (obj._obj, obj._lock)


_block.in_messages(reduce_ctype, _ctype_in_message)
_block.subclasses_in_messages(SynchronizedBase, _synchronized_in_message)


def _locked(obj: Any, lock: Any, ctx: BaseContext | None) -> Any:
    if lock is False:
        return obj
    ctx = ctx or _default_context.get_context()
    if lock in (True, None):
        lock = ctx.RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock, ctx=ctx)


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("sharedctypes")
