"""When is a Pool worth it? Tiny work, small work, more workers than processors."""

import math
import multiprocessing
import random
import time

from report import QUICK, introduce, report

SHORT, LONG = (1_000, 2_000) if QUICK else (100_000, 1_000_000)


def square(number):
    return number * number


def sum_of_logs(steps):
    total = 0.0
    for step in range(1, steps + 1):
        total += math.log(step)
    return total


def squares():
    case = "squares of 100 numbers"
    rng = random.Random(42)
    numbers = [rng.randint(1, 1000) for _ in range(100)]

    start = time.perf_counter()
    results = [square(number) for number in numbers]
    report(case, "serial", time.perf_counter() - start, results)

    start = time.perf_counter()
    with multiprocessing.Pool() as pool:
        results = pool.map(square, numbers)
    report(case, "Pool, cold", time.perf_counter() - start, results)

    with multiprocessing.Pool() as pool:
        pool.map(square, numbers)
        start = time.perf_counter()
        results = pool.map(square, numbers)
        report(case, "Pool, warm", time.perf_counter() - start, results)


def logarithms(steps):
    case = f"16 x {steps} logarithms"
    inputs = [steps + i for i in range(16)]

    start = time.perf_counter()
    results = [sum_of_logs(steps) for steps in inputs]
    report(case, "serial", time.perf_counter() - start, results)

    start = time.perf_counter()
    with multiprocessing.Pool() as pool:
        results = pool.map(sum_of_logs, inputs)
    report(case, "Pool()", time.perf_counter() - start, results)

    start = time.perf_counter()
    with multiprocessing.Pool(12) as pool:
        results = pool.map(sum_of_logs, inputs)
    report(case, "Pool(12)", time.perf_counter() - start, results)


def terminate_then_close():
    pool = multiprocessing.Pool(2)
    print("the last squares are", pool.map(square, range(5)))
    pool.terminate()
    pool.close()
    pool.join()
    try:
        pool.map(square, range(5))
    except ValueError as error:
        print(f"and then no more: {error}")


if __name__ == "__main__":
    introduce("small_functions")
    squares()
    logarithms(SHORT)
    logarithms(LONG)
    terminate_then_close()
