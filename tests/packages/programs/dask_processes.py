"""A bag that is computed by dask's own pool and by one of ours."""

import multiprocessing

import dask
import dask.bag


def collatz(n):
    steps = 0
    while n != 1:
        n = 3 * n + 1 if n % 2 else n // 2
        steps += 1
    return steps


if __name__ == "__main__":
    dask.config.set({"multiprocessing.context": multiprocessing.get_start_method()})
    bag = dask.bag.from_sequence(range(1, 400), npartitions=8)
    steps = bag.map(collatz).filter(lambda n: n > 5)
    print(steps.sum().compute(scheduler="processes", num_workers=2))
    print(sorted(steps.frequencies().compute(scheduler="processes", num_workers=2)))
    with multiprocessing.Pool(2) as pool:
        print(steps.topk(5).compute(scheduler="processes", pool=pool))
    try:
        bag.map(lambda n: 1 // (n - 7)).sum().compute(scheduler="processes", num_workers=2)
    except ZeroDivisionError as error:
        print("error:", error)
