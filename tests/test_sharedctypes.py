import ctypes
import pickle

import manycore
import pytest
from manycore import sharedctypes


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


def run(ctx, target, *args):
    process = ctx.Process(target=target, args=args)
    process.start()
    process.join()
    assert process.exitcode == 0


def double(value, array, raw, point, string):
    value.value *= 2
    for i in range(len(array)):
        array[i] *= 2
    raw[1] = 7.5
    point.x += 1
    point.y += 1
    string.value = b"bye"


def test_shared_with_a_child(ctx):
    value = ctx.Value("i", 21)
    array = ctx.Array("i", range(10))
    raw = ctx.RawArray("d", 3)
    point = ctx.Value(Point, 3, 4)
    string = ctx.Array("c", b"hello")
    run(ctx, double, value, array, raw, point, string)
    assert value.value == 42
    assert array[:] == [2 * i for i in range(10)]
    assert list(raw) == [0, 7.5, 0]
    assert (point.x, point.y) == (4, 5)
    assert string.value == b"bye"


def add(value, array, rounds):
    for _ in range(rounds):
        with value.get_lock():
            value.value += 1
        with array.get_lock():
            array[0] += 1


def test_under_the_lock(ctx):
    value, array = ctx.Value("q"), ctx.Array("q", 1)
    processes = [ctx.Process(target=add, args=(value, array, 5000)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (value.value, array[0]) == (15000, 15000)


@pytest.mark.parametrize("typecode", sorted(sharedctypes.typecode_to_type))
def test_typecodes(typecode):
    value = manycore.RawValue(typecode)
    assert type(value) is sharedctypes.typecode_to_type[typecode]
    assert value.value in (0, b"\0", "\0")


def test_locks():
    lock = manycore.Lock()
    assert manycore.Value("i", lock=lock).get_lock() is lock
    assert manycore.Array("i", 2, lock=lock).get_lock() is lock
    assert not hasattr(manycore.Value("i", lock=False), "get_lock")
    assert not hasattr(manycore.Array("i", 2, lock=False), "get_lock")
    assert isinstance(manycore.Value("i").get_lock(), manycore.synchronize.RLock)
    with pytest.raises(AttributeError, match="no method 'acquire'"):
        manycore.Value("i", lock="notalock")


def test_zeroed_again_after_use():
    for _ in range(200):
        array = manycore.RawArray("B", 100)
        assert bytes(array) == bytes(100)
        ctypes.memset(array, 255, 100)
        del array


def test_copy():
    point = manycore.RawValue(Point, 1, 2)
    twin = sharedctypes.copy(point)
    point.x = 9
    assert (twin.x, twin.y) == (1, 2)


def test_empty_array(ctx):
    assert list(ctx.Array("i", 0)) == []
    assert list(ctx.RawArray("i", [])) == []
    with pytest.raises(ValueError, match="Array length"):
        ctx.RawArray("i", -1)


def test_large_array(ctx):
    array = ctx.RawArray("d", 1 << 20)
    run(ctx, fill, array)
    assert array[0] == 1
    assert array[-1] == 2


def fill(array):
    array[0], array[-1] = 1, 2


def test_pickles_only_while_spawning():
    for shared in (manycore.Value("i"), manycore.Array("i", 3)):
        with pytest.raises(RuntimeError, match="should only be shared between processes"):
            pickle.dumps(shared)
