import ctypes
import gc
import multiprocessing
import multiprocessing.sharedctypes
import operator
import pickle
import subprocess
import sys
import threading
import weakref

import manycore
import numpy
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


NUMBERS = sorted(set(sharedctypes.typecode_to_type) - set("cu"))
#: What a number may be set to: plain, beyond its range, and what ctypes refuses.
VALUES = [
    0, 1, -1, 127, 128, 255, 256, -129, 2**31, 2**32 + 5, 2**63, 2**64 - 1, 2**64, -(2**70),
    10**400, True, 1.5, -0.0, 1e300, float("inf"), "x", b"x", b"xy", None, [], 1j, ctypes.c_int(3),
]  # fmt: skip


class Index:
    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


class Odd(int):
    def __index__(self):
        raise AssertionError("ctypes does not ask")

    __int__ = __index__


class Half(float):
    pass


def seen(act, *args):
    """What comes of it: a value with its type, or an exception with its text."""
    try:
        found = act(*args)
    except Exception as error:  # noqa: BLE001 - whatever it is, it has to be the same
        return type(error), str(error)
    return type(found), repr(found)


def set_value(obj, value):
    obj.value = value
    return obj.value


def set_item(array, index, value):
    array[index] = value
    return list(array[:])


@pytest.mark.parametrize("typecode", [*NUMBERS, "c", "u", ctypes.c_bool])
def test_numbers_are_those_of_ctypes(typecode):
    theirs, ours = multiprocessing.Value(typecode), manycore.Value(typecode)
    for value in [*VALUES, Odd(7), Half(0.5), Index(3)]:
        assert seen(set_value, ours, value) == seen(set_value, theirs, value), value
        assert seen(lambda obj: obj.value, ours) == seen(lambda obj: obj.value, theirs)
        assert bytes(ours.get_obj()) == bytes(theirs.get_obj())
    assert seen(delattr, ours, "value")[0] == seen(delattr, theirs, "value")[0]


@pytest.mark.parametrize("typecode", [*NUMBERS, "c", "u", ctypes.c_bool])
def test_items_are_those_of_ctypes(typecode):
    theirs, ours = multiprocessing.Array(typecode, 4), manycore.Array(typecode, 4)
    for index, value in enumerate([*VALUES, Odd(7), Half(0.5), Index(3)]):
        index = index % 8 - 4
        assert seen(set_item, ours, index, value) == seen(set_item, theirs, index, value), value
        assert seen(ours.__getitem__, index) == seen(theirs.__getitem__, index)
        assert bytes(ours.get_obj()) == bytes(theirs.get_obj())


INDICES = [
    0, 3, -1, -4, 4, -5, 2**70, -(2**70), True, Index(2), Odd(1), 1.0, "x", None, (1, 2), ...,
    slice(None), slice(1, 3), slice(None, None, -1), slice(-3, None, 2), slice(5, 9),
    slice(Index(1)),
]  # fmt: skip


@pytest.mark.parametrize("typecode", ["i", "d", "c", "u"])
def test_indices_are_those_of_ctypes(typecode):
    items = {"c": b"abcd", "u": "abcd"}.get(typecode, [1, 2, 3, 4])
    theirs, ours = multiprocessing.Array(typecode, items), manycore.Array(typecode, items)
    for index in INDICES:
        assert seen(ours.__getitem__, index) == seen(theirs.__getitem__, index), index
        for value in (items[0], items[:2], items, b"x", 5):
            found = seen(set_item, ours, index, value)
            assert found == seen(set_item, theirs, index, value), (index, value)
    assert len(ours) == len(theirs) == len(list(ours)) == 4
    assert seen(operator.delitem, ours, 0)[0] is seen(operator.delitem, theirs, 0)[0]


def test_text_is_that_of_ctypes():
    theirs, ours = multiprocessing.Array("c", 5), manycore.Array("c", 5)
    texts = [b"hello", b"a\0b", b"", b"abc", b"too long", "text", None, bytearray(b"xy"), 3]
    for name in ("value", "raw"):
        for text in texts:
            assert seen(setattr, ours, name, text) == seen(setattr, theirs, name, text), text
            assert (ours.value, ours.raw) == (theirs.value, theirs.raw)
    long = manycore.Array("c", b"x" * 100_000)
    assert long.value == long.raw == b"x" * 100_000
    long.value = b"y" * 5000
    assert (long.value, len(long.raw)) == (b"y" * 5000, 100_000)


class Twice(ctypes.c_int):
    """A number whose items are objects, as ctypes has it for subclasses."""


def test_subclasses_of_numbers_are_objects():
    array = manycore.Array(Twice, 2)
    assert type(array[0]) is Twice
    array[1] = Twice(5)
    assert array[1].value == 5
    value = manycore.Value(Twice, 5)
    value.value += 1
    assert value.value == 6
    big = manycore.Value(ctypes.c_int.__ctype_be__, 1)
    assert (big.value, bytes(big.get_obj())) == (1, b"\0\0\0\1")


def test_classes():
    theirs = multiprocessing.sharedctypes
    value, array, text = manycore.Value("i"), manycore.Array("i", 2), manycore.Array("c", 2)
    point = manycore.Value(Point, 1, 2)
    for obj, name in ((value, ""), (array, "Array"), (text, "String"), (text, "Array")):
        for module in (theirs, sharedctypes):
            assert isinstance(obj, getattr(module, f"Synchronized{name}"))
    assert type(value) is sharedctypes.Synchronized
    assert type(array) is sharedctypes.SynchronizedArray
    assert type(text) is sharedctypes.SynchronizedString
    assert type(point) is type(manycore.Value(Point)) is sharedctypes.class_cache[Point]
    assert repr(point).startswith("<SynchronizedPoint wrapper for ")
    for obj in (value, array, text, point):
        assert isinstance(obj, theirs.SynchronizedBase)
        assert isinstance(obj, sharedctypes.SynchronizedBase)


class Account(sharedctypes.Synchronized):
    """As programs subclass it."""

    def __init__(self, amount, ctx):
        super().__init__(ctx.RawValue("i", amount), ctx.Lock())

    def deposit(self, amount):
        with self:
            self.get_obj().value += amount


def test_subclass():
    account = Account(5, manycore)
    account.deposit(3)
    account.value += 1
    assert account.value == 9
    assert isinstance(account.get_lock(), manycore.synchronize.Lock)
    with pytest.raises(RuntimeError, match="twice"):
        account.__init__(5, manycore)


def test_without_init():
    value = sharedctypes.Synchronized.__new__(sharedctypes.Synchronized)
    array = sharedctypes.SynchronizedArray.__new__(sharedctypes.SynchronizedArray)
    uses = [
        lambda: value.value,
        lambda: value.get_lock(),
        lambda: value.acquire(),
        lambda: array[0],
    ]
    for use in [*uses, lambda: value.__enter__(), lambda: len(array), lambda: value.get_obj()]:
        with pytest.raises(RuntimeError, match="__init__"):
            use()


class Counting:
    """A lock of the user's, which counts."""

    def __init__(self):
        self.calls = []

    def acquire(self, *args, **kwargs):
        self.calls.append("acquire")

    def release(self):
        self.calls.append("release")

    def __enter__(self):
        self.calls.append("enter")

    def __exit__(self, *args):
        self.calls.append("exit")


def test_lock_of_the_user():
    for mp in (multiprocessing, manycore):
        lock = Counting()
        value, array = mp.Value("i", lock=lock), mp.Array("i", 2, lock=lock)
        value.value += 1
        array[1] += 1
        assert (value.value, array[1]) == (1, 1)
        assert lock.calls[:4] == ["acquire", "release"] * 2
        assert lock.calls[4:8] == ["enter", "exit"] * 2
        del lock.calls[:]
        with value, array.get_lock():
            value.acquire(anything=3)
            value.release()
        assert lock.calls == ["enter", "enter", "acquire", "release", "exit", "exit"]


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
@pytest.mark.parametrize("makes", [manycore, multiprocessing, threading])
def test_lock_of_another_make(kind, makes):
    lock = getattr(makes, kind)()
    value, array = manycore.Value("i", lock=lock), manycore.Array("i", 2, lock=lock)
    with value.get_lock():
        value.get_obj().value += 1
    value.value += 1
    array[0] += 2
    assert (value.value, array[0], value.get_lock() is lock) == (2, 2, True)
    assert value.acquire() is True
    assert thread_gets(lock) is False
    assert value.release() is None
    assert thread_gets(lock) is True


def thread_gets(lock):
    """Whether another thread can have it."""
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(lock.acquire(False)))
    thread.start()
    thread.join()
    if outcomes == [True] and not isinstance(lock, (type(manycore.RLock()), RLOCKS)):
        lock.release()
    return outcomes[0]


RLOCKS = (type(multiprocessing.RLock()), type(threading.RLock()))


def wait_for_lock(value, array, queue):
    queue.put("ready")
    value.value += 1
    array[0] += 1
    queue.put((value.value, array[0]))


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_access_waits_for_the_lock(ctx, kind):
    lock = getattr(ctx, kind)()
    value, array, queue = ctx.Value("i", lock=lock), ctx.Array("i", 1, lock=lock), ctx.SimpleQueue()
    process = ctx.Process(target=wait_for_lock, args=(value, array, queue))
    with lock:
        process.start()
        assert queue.get() == "ready"
        process.join(0.1)
        assert (value.get_obj().value, array.get_obj()[0]) == (0, 0)
    assert queue.get() == (1, 1)
    process.join()


def test_conversion_does_not_hold_the_lock():
    """An error leaves the lock free."""
    value, array = manycore.Value("i", lock=manycore.Lock()), manycore.Array("i", 1)
    with pytest.raises(TypeError):
        value.value = "x"
    with pytest.raises(IndexError):
        array[5]
    assert value.acquire(False)
    assert array.acquire(False)


def test_cycle_with_the_lock_is_collected():
    lock = Counting()
    value = manycore.Value("i", lock=lock)
    lock.value = value
    with value:
        pass
    gone = weakref.ref(value)
    del value, lock
    gc.collect()
    assert gone() is None


def test_values_in_threads():
    """Every access is whole, with or without the GIL."""
    value, array = manycore.Value("q"), manycore.Array("q", 2)

    def add():
        for _ in range(2000):
            with value.get_lock():
                value.value += 1
            with array:
                array[1] += 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (value.value, array[:]) == (8000, [0, 8000])


def test_numpy_view_is_the_memory():
    array, value, text = (
        manycore.Array("i", range(4)),
        manycore.Value("d", 2.5),
        manycore.Array("c", b"ab"),
    )
    view = numpy.asarray(array)
    assert (view.dtype, view.shape, view.tolist()) == ("int32", (4,), [0, 1, 2, 3])
    view[1] = 7
    array[2] = 8
    assert (array[:], view.tolist()) == ([0, 7, 8, 3], [0, 7, 8, 3])
    assert numpy.shares_memory(view, array.numpy())
    assert not numpy.shares_memory(view, numpy.array(array))
    assert (array.shape, array.dtype) == ((4,), "int32")
    number = numpy.asarray(value)
    number[...] = 3.5
    assert (value.value, value.shape, value.dtype) == (3.5, (), "float64")
    assert numpy.asarray(text).tolist() == [b"a", b"b"]
    assert numpy.asarray(manycore.Array("u", "äb")).tolist() == ["ä", "b"]
    assert numpy.asarray(manycore.Value(Point, 3, 4.0))["y"] == 4


def test_numpy_view_keeps_the_memory():
    array = manycore.Array("d", shape=(100, 100))
    views = [numpy.asarray(array), array.numpy(), array[3]]
    del array
    gc.collect()
    for view in views:
        view[...] = 1.5
    assert views[0].sum() == 15000


def test_shapes(ctx):
    array = ctx.Array("d", shape=(2, 3))
    assert (array.shape, array.dtype, len(array)) == ((2, 3), "float64", 2)
    assert array.numpy().tolist() == [[0, 0, 0], [0, 0, 0]]
    array[1, 2] = 5
    array[0] = (1, 2, 3)
    array[:, 1] += 10
    assert array[1, 2] == 5
    assert array[0].tolist() == [1, 12, 3]
    assert array[array.numpy() > 4].tolist() == [12, 10, 5]
    assert ctx.Array("i", shape=3)[:] == [0, 0, 0]
    assert ctx.Array("i", shape=(3,)).numpy().shape == (3,)
    assert ctx.Array("i", shape=(0, 3)).numpy().shape == (0, 3)


def test_initial_items_of_a_shape():
    items = numpy.arange(6)
    for given in (items, items.reshape(2, 3), items.tolist(), items.reshape(3, 2).tolist()):
        assert manycore.Array("i", given, shape=(2, 3)).numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match=r"size_or_initializer.*\(2, ?3\)"):
        manycore.Array("i", range(5), shape=(2, 3))
    with pytest.raises(TypeError, match="size_or_initializer"):
        manycore.Array("i", 6, shape=(2, 3))


def test_tuple_without_a_shape_is_the_items():
    """As in the standard library: only `shape` makes a shape."""
    assert manycore.Array("d", (1000, 1000))[:] == [1000, 1000]


@pytest.mark.parametrize("shape", [(), -1, (2, -3), "x", 1.5, (1, "x"), (None,)])
def test_wrong_shapes(shape):
    with pytest.raises((TypeError, ValueError), match="shape: "):
        manycore.Array("i", shape=shape)


@pytest.mark.parametrize(
    "type_", [numpy.float32, numpy.dtype("u2"), numpy.dtype(">i4"), numpy.bool_]
)
def test_numpy_types(type_):
    array, value = manycore.Array(type_, 3), manycore.Value(type_, 1)
    assert array.dtype == value.dtype == numpy.dtype(type_)
    array[1] = 1
    assert array.numpy().tolist() == [0, 1, 0]
    assert value.value == 1
    assert manycore.RawArray(type_, 2)[0] == 0


def test_numpy_types_without_a_ctypes_type():
    with pytest.raises(TypeError, match=r"typecode_or_type: .*complex128"):
        manycore.Array(numpy.complex128, 3)


def test_lock_of_a_shaped_array():
    lock = manycore.Lock()
    array = manycore.Array("i", shape=(2, 2), lock=lock)
    assert array.get_lock() is lock
    array[1, 1] = 1
    raw = manycore.Array("i", shape=(2, 2), lock=False)
    assert numpy.asarray(raw).shape == (2, 2)
    with pytest.raises(AttributeError, match="no method 'acquire'"):
        manycore.Array("i", shape=(2, 2), lock=3)


def fill_views(array, flat, view_of):
    array[1, 0] = 7
    numpy.asarray(array)[0, 1] = 8
    view_of(flat)[2] = 9


def test_shapes_reach_a_child(ctx):
    array, flat = ctx.Array("d", shape=(2, 2)), ctx.Array("i", 4)
    run(ctx, fill_views, array, flat, numpy.asarray)
    assert array.numpy().tolist() == [[0, 8], [7, 0]]
    assert flat[:] == [0, 0, 9, 0]


def set_place(array, place, value):
    with array.get_lock():
        array[place] = value
    return array


def test_shaped_arrays_go_by_reference(ctx):
    array, flat = ctx.Array("d", shape=(2, 2)), ctx.Array("d", 3)
    view = array.numpy()
    with ctx.Pool(2) as pool:
        returned = pool.apply(set_place, (array, (1, 1), 5.0))
        pool.apply(set_place, (flat, 2, 6.0))
        assert pool.map(lambda i: float(array[i, i] + flat[2]), range(2)) == [6, 11]
    assert (view[1, 1], flat[2]) == (5, 6)
    returned[0, 0] = 3
    assert view[0, 0] == 3


def test_numpy_is_not_imported_unless_asked():
    program = """
import sys, manycore
array, value = manycore.Array("d", 3), manycore.Value("i")
array[1] += 1; value.value += 1; array[:]; array.shape
assert "numpy" not in sys.modules
assert array.numpy().sum() == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True)
