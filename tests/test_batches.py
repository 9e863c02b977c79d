"""Batches of many small items, whichever way their values travel."""

import enum
import operator
import random
import threading

import manycore
import numpy as np
import pytest


class Number(int):
    """A subclass, which has to arrive as what it is."""


class Colour(enum.IntEnum):
    RED = 1


def same(x):
    return x


def square(x):
    return x * x


def pair(*args):
    return args


def label(x):
    return LABELS[x % 3] if x != 7 else {"label": LABELS[0]}


LABELS = ["".join(["lab", "el"]), b"".join([b"la", b"bel"]), ("label", 1)]


def fail_at(x):
    if x in (300, 900):
        raise ArithmeticError(x)
    return x


@pytest.fixture
def pool():
    with manycore.Pool(2) as pool:
        yield pool
    pool.join()


ATOMS = [
    lambda rng: rng.randrange(-300, 300),
    lambda rng: rng.choice([-1, 1]) * rng.getrandbits(rng.choice([31, 32, 62, 63, 64, 65, 200])),
    lambda rng: rng.choice([0.0, -0.0, float("nan"), float("-inf"), rng.random()]),
    lambda rng: rng.choice([None, True, False]),
    lambda rng: "".join(rng.choices("aé\u1234\U0001f600\0", k=rng.choice([0, 1, 5, 200]))),
    lambda rng: rng.randbytes(rng.choice([0, 1, 255, 256, 5000])),
    lambda rng: "_main__" * rng.choice([1, 600]),
    lambda rng: rng.choice([Number(3), Colour.RED, np.float64(0.5), 1j, "\ud800"]),
]


def value(rng, depth):
    kind = rng.randrange(12)
    if depth == 0 or kind < 6:
        return rng.choice(ATOMS)(rng)
    parts = [value(rng, depth - 1) for _ in range(rng.randrange(5))]
    if kind < 9:
        return tuple(parts)
    return parts if kind < 11 else dict(enumerate(parts))


def described(obj):
    """Type and value, all the way down; a NaN is itself here."""
    if isinstance(obj, (tuple, list)):
        return type(obj), [described(part) for part in obj]
    if isinstance(obj, dict):
        return dict, described(list(obj.items()))
    return type(obj), repr(obj)


def lists_of_values(rng):
    """Lists of one kind of values, of a few, and of everything."""
    for atom in ATOMS:
        yield [atom(rng) for _ in range(rng.randrange(1, 400))]
    for depth in (0, 1, 3):
        yield [value(rng, depth) for _ in range(rng.randrange(1, 400))]
    yield [rng.randrange(9) if at != 250 else [at] for at in range(400)]


@pytest.mark.parametrize("seed", range(6))
def test_what_arrives_is_what_was_sent(pool, seed):
    rng = random.Random(seed)
    for values in lists_of_values(rng):
        expected = described(values)
        chunk = rng.choice([None, 1, 7, 1000])
        assert described(pool.map(same, values, chunk)) == expected
        assert described(pool.map(same, tuple(values), chunk)) == expected
        assert described(list(pool.imap(same, iter(values), chunk or 50))) == expected
        assert described(list(pool.imap(same, values, chunk or 50))) == expected
        tuples = [(x, x) for x in values]
        assert described(pool.starmap(pair, tuples, chunk)) == described(tuples)


@pytest.mark.parametrize(
    "numbers",
    [
        range(0),
        range(1000),
        range(1000, 0, -7),
        range(-(2**63), -(2**63) + 10),
        range(2**63 - 10, 2**63 + 10),
        range(0, 2**70, 2**64),
        range(5, 2**62, 2**60 + 1),
    ],
)
def test_ranges(pool, numbers):
    for chunk in (None, 1, 3, 10000):
        assert pool.map(square, numbers, chunk) == [x * x for x in numbers]


def test_one_object_in_a_batch_is_one_object_where_it_arrives(pool):
    items = [*LABELS, *LABELS, LABELS[0]]
    arrived = pool.map(same, items, len(items))
    assert arrived == items
    assert all(arrived[at] is arrived[at + 3] for at in range(3))
    assert arrived[0] is arrived[6]
    text = LABELS[0]
    other = "".join(list(text))
    pairs = [(text, text), (text, other), (other, other)]
    assert pool.starmap(operator.is_, pairs, 3) == [True, False, True]


def test_one_object_stays_one_if_a_later_result_is_of_another_kind(pool):
    results = pool.map(label, range(12), 12)
    assert results == [label(x) for x in range(12)]
    assert results[0] is results[3] is results[9] is results[7]["label"]
    assert results[1] is results[4] is results[10]
    assert results[2] is results[5] is results[11]


def test_more_objects_than_a_byte_can_number(pool):
    texts = [f"text {number}" for number in range(700)]
    arrived = pool.map(same, texts * 2, 1400)
    assert arrived == texts * 2
    assert all(first is second for first, second in zip(arrived, arrived[700:], strict=False))


def test_a_list_that_holds_itself(pool):
    items = []
    items.append((items, 1))
    (arrived,) = pool.map(same, [items])
    assert arrived[0][0] is arrived


def test_the_first_error_of_the_order_counts(pool):
    for chunk in (None, 1, 100):
        with pytest.raises(ArithmeticError, match="300"):
            pool.map(fail_at, range(1000), chunk)
        assert pool.map(same, range(1000), chunk) == list(range(1000))


def test_several_threads_get_one_result(pool):
    for _ in range(20):
        result = pool.map_async(square, range(20_000))
        values = []
        threads = [
            threading.Thread(target=lambda r=result, v=values: v.append(r.get())) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(values) == 4
        assert all(value is values[0] for value in values)
        assert values[0] == [x * x for x in range(20_000)]


def test_a_wait_that_ends_early_loses_nothing(pool):
    result = pool.map_async(square, range(100_000))
    while not result.ready():
        result.wait(0.001)
    assert result.get() == [x * x for x in range(100_000)]
