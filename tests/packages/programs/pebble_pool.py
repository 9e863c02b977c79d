"""A pool of another library, which is built on pipes, locks and processes of multiprocessing."""

import multiprocessing
import time
from concurrent.futures import TimeoutError

from pebble import ProcessExpired, ProcessPool, concurrent


def square(n):
    return n * n


def die(n):
    import os

    os._exit(n)


def in_vain(n):
    time.sleep(60 * n)


@concurrent.process(timeout=60)
def alone(n):
    return -n


def outcome(future):
    try:
        return future.result()
    except ProcessExpired as error:
        return "expired", error.exitcode
    except (TimeoutError, ZeroDivisionError) as error:
        return type(error).__name__


if __name__ == "__main__":
    context = multiprocessing.get_context(multiprocessing.get_start_method())
    with ProcessPool(max_workers=2, max_tasks=5, context=context) as pool:
        print(list(pool.map(square, range(30), chunksize=3).result()))
        futures = [pool.schedule(die, args=[3]), pool.schedule(divmod, args=[1, 0])]
        print([outcome(future) for future in futures])
        print(outcome(pool.schedule(in_vain, args=[1], timeout=0.5)))
        print(pool.schedule(square, args=[9]).result())
    print(alone(4).result())
