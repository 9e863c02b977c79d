"""Ten big sums: one after the other, with a Process each, and with a Pool."""

import multiprocessing
import time

from report import QUICK, introduce, report

LENGTH = 10_000 if QUICK else 10_000_000


def big_sum(first):
    """The sum of `LENGTH` numbers from `first` on."""
    return sum(range(first, first + LENGTH))


def big_sum_into(queue, first):
    queue.put((first, big_sum(first)))


def one_after_the_other():
    return [big_sum(first) for first in range(10)]


def a_process_each():
    queue = multiprocessing.Queue()
    children = [
        multiprocessing.Process(target=big_sum_into, args=(queue, first)) for first in range(10)
    ]
    for child in children:
        child.start()
    # First read, then join: a process ends when somebody has taken what it put into the queue.
    sums = dict(queue.get() for _ in children)
    for child in children:
        child.join()
    return [sums[first] for first in range(10)]


def a_pool():
    with multiprocessing.Pool() as pool:
        return pool.map(big_sum, range(10))


if __name__ == "__main__":
    introduce("big_sums")
    case = f"ten sums of {LENGTH} numbers"
    ways = {"serial": one_after_the_other, "ten processes": a_process_each, "Pool().map": a_pool}
    for way, function in ways.items():
        start = time.perf_counter()
        sums = function()
        report(case, way, time.perf_counter() - start, sums)
