"""One call, many inputs: what `Pool.map` and its relatives do for you."""

import math
import multiprocessing
import random
import statistics
import time
from functools import partial

from report import QUICK, introduce, report

POINTS_PER_RUN = 2_000 if QUICK else 150_000
CATALOGUE_SIZE = 60 if QUICK else 800


def square_after_a_while(number):
    """The first numbers take longest, so the tasks do not end in the order of the inputs."""
    time.sleep(0.005 * (4 - number % 4))
    return number * number, time.monotonic()


def power(base, exponent):
    return base**exponent


def estimate_pi(seed, points):
    """Throws points at a square and counts those inside the circle."""
    rng = random.Random(seed)
    inside = sum(math.hypot(rng.random(), rng.random()) < 1 for _ in range(points))
    return 4 * inside / points


def make_catalogue(size):
    rng = random.Random(2024)
    return [(rng.random(), rng.random(), rng.gauss(10, 2)) for _ in range(size)]


def pair_correlation(points, radius):
    """The number of pairs closer than `radius`, against that of points strewn at random."""
    close = 0
    for i, (x, y, _) in enumerate(points):
        close += sum(math.hypot(x - u, y - v) < radius for u, v, _ in points[:i])
    expected = len(points) * (len(points) - 1) / 2 * math.pi * radius**2
    return close / expected


def marked_correlation(points, radius, power):
    """The mean product of the marks of close pairs, against the mean mark."""
    products = []
    for i, (x, y, mark) in enumerate(points):
        for u, v, other in points[:i]:
            if math.hypot(x - u, y - v) < radius:
                products.append((mark * other) ** power)
    mean = statistics.fmean(mark**power for _, _, mark in points)
    return statistics.fmean(products) / mean**2


def nearest_neighbours(points, bins, width):
    """A histogram of the distance from each point to its nearest neighbour."""
    counts = [0] * bins
    for i, (x, y, _) in enumerate(points):
        others = points[:i] + points[i + 1 :]
        nearest = min(math.hypot(x - u, y - v) for u, v, _ in others)
        counts[min(int(nearest / width), bins - 1)] += 1
    return counts


def map_and_starmap():
    numbers = list(range(16))
    start = time.perf_counter()
    serial = [square_after_a_while(number) for number in numbers]
    report("squares with a pause", "serial", time.perf_counter() - start, [s for s, _ in serial])

    start = time.perf_counter()
    with multiprocessing.Pool(4) as pool:
        results = pool.map(square_after_a_while, numbers, chunksize=1)
    seconds = time.perf_counter() - start
    squares = [square for square, _ in results]
    report("squares with a pause", "Pool(4).map", seconds, squares)

    ended = sorted(numbers, key=lambda number: results[number][1])
    print("tasks ended in the order", ended)
    print("results are in the order ", squares)

    pairs = [(base, exponent) for base in range(1, 6) for exponent in range(4)]
    start = time.perf_counter()
    serial = [power(base, exponent) for base, exponent in pairs]
    report("powers of 20 pairs", "serial", time.perf_counter() - start, serial)

    start = time.perf_counter()
    with multiprocessing.Pool() as pool:
        powers = pool.starmap(power, pairs)
    report("powers of 20 pairs", "Pool().starmap", time.perf_counter() - start, powers)


def ten_simulations():
    simulate = partial(estimate_pi, points=POINTS_PER_RUN)
    start = time.perf_counter()
    serial = [simulate(seed) for seed in range(10)]
    report("ten simulations", "serial", time.perf_counter() - start, serial)

    start = time.perf_counter()
    with multiprocessing.Pool() as pool:
        runs = pool.map(simulate, range(10))
    report("ten simulations", "Pool().map", time.perf_counter() - start, runs)
    print(f"pi is {statistics.fmean(runs):.4f}, give or take {statistics.stdev(runs):.4f}")


def three_functions_at_once():
    points = make_catalogue(CATALOGUE_SIZE)
    jobs = [
        (pair_correlation, (points, 0.1)),
        (marked_correlation, (points, 0.2, 0.5)),
        (nearest_neighbours, (points, 10, 0.01)),
    ]
    start = time.perf_counter()
    serial = [function(*arguments) for function, arguments in jobs]
    report("three correlations", "serial", time.perf_counter() - start, serial)

    start = time.perf_counter()
    with multiprocessing.Pool() as pool:
        waiting = [pool.apply_async(function, arguments) for function, arguments in jobs]
        results = [result.get() for result in waiting]
    report("three correlations", "Pool().apply_async", time.perf_counter() - start, results)


if __name__ == "__main__":
    introduce("pool_map")
    map_and_starmap()
    ten_simulations()
    three_functions_at_once()
