"""All the ways to hand work to a Pool: first on one small function, then on matrices."""

import multiprocessing
import random
import time
from functools import partial

from report import QUICK, introduce, report

NUMBERS = 200 if QUICK else 3_000
SIZE = 20 if QUICK else 200


def collatz(number, step=3):
    """The number, and how often to halve or to multiply by `step` and add one until it is 1."""
    count, current = 0, number
    while current != 1:
        current = current // 2 if current % 2 == 0 else step * current + 1
        count += 1
    return number, count


def add_rows(row, other):
    return [x + y for x, y in zip(row, other, strict=True)]


def multiply_row(columns, row):
    return [sum(x * y for x, y in zip(row, column, strict=True)) for column in columns]


def random_matrix(size, seed):
    rng = random.Random(seed)
    return [[rng.randint(-9, 9) for _ in range(size)] for _ in range(size)]


def seven_methods_on_one_function(pool):
    case = f"collatz of {NUMBERS} numbers"
    numbers = list(range(1, NUMBERS + 1))
    pairs = [(number, 3) for number in numbers]

    start = time.perf_counter()
    serial = [collatz(number) for number in numbers]
    report(case, "serial", time.perf_counter() - start, serial)

    start = time.perf_counter()
    results = pool.map(collatz, numbers)
    report(case, "map", time.perf_counter() - start, results)

    start = time.perf_counter()
    results = pool.map_async(collatz, numbers).get()
    report(case, "map_async", time.perf_counter() - start, results)

    start = time.perf_counter()
    results = list(pool.imap(collatz, numbers))
    report(case, "imap", time.perf_counter() - start, results)

    # These come as they are ready, so they are sorted afterwards.
    start = time.perf_counter()
    results = list(pool.imap_unordered(collatz, numbers))
    report(case, "imap_unordered", time.perf_counter() - start, sorted(results))

    start = time.perf_counter()
    results = pool.starmap(collatz, pairs)
    report(case, "starmap", time.perf_counter() - start, results)

    start = time.perf_counter()
    results = pool.starmap_async(collatz, pairs).get()
    report(case, "starmap_async", time.perf_counter() - start, results)

    start = time.perf_counter()
    waiting = [pool.apply_async(collatz, (number,)) for number in numbers]
    results = [result.get() for result in waiting]
    report(case, "apply_async", time.perf_counter() - start, results)


def add_matrices(pool, a, b):
    case = f"add {SIZE} x {SIZE}"
    start = time.perf_counter()
    serial = [add_rows(row, other) for row, other in zip(a, b, strict=True)]
    report(case, "serial", time.perf_counter() - start, serial)

    start = time.perf_counter()
    total = pool.starmap(add_rows, zip(a, b, strict=True))
    report(case, "starmap", time.perf_counter() - start, total)

    start = time.perf_counter()
    waiting = pool.starmap_async(add_rows, zip(a, b, strict=True))
    returned = time.perf_counter() - start
    total = waiting.get()
    report(case, "starmap_async returns", returned, total)
    report(case, "starmap_async get()", time.perf_counter() - start, total)


def multiply_matrices(pool, a, b):
    case = f"multiply {SIZE} x {SIZE}"
    columns = list(zip(*b, strict=True))
    multiply = partial(multiply_row, columns)
    start = time.perf_counter()
    serial = [multiply(row) for row in a]
    report(case, "serial", time.perf_counter() - start, serial)

    start = time.perf_counter()
    product = pool.map(multiply, a)
    report(case, "map", time.perf_counter() - start, product)

    # The call comes back at once, which is no miracle: the work has only been handed in.
    start = time.perf_counter()
    waiting = pool.map_async(multiply, a)
    returned = time.perf_counter() - start
    product = waiting.get()
    report(case, "map_async returns", returned, product)
    report(case, "map_async get()", time.perf_counter() - start, product)

    # One task per row: each of them brings the matrix along.
    start = time.perf_counter()
    product = list(pool.imap(multiply, a))
    report(case, "imap", time.perf_counter() - start, product)


if __name__ == "__main__":
    introduce("every_method")
    first, second = random_matrix(SIZE, seed=1), random_matrix(SIZE, seed=2)
    with multiprocessing.Pool() as pool:
        seven_methods_on_one_function(pool)
        add_matrices(pool, first, second)
        multiply_matrices(pool, first, second)
