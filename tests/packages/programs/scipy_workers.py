"""Functions of scipy that take a number of workers or a pool's map."""

import multiprocessing

import numpy as np
from scipy.integrate import quad_vec
from scipy.optimize import brute, differential_evolution, rosen


def wave(x):
    return np.array([np.sin(x), x * np.cos(x)])


def bowl(x):
    return float(np.sum((np.asarray(x) - 0.25) ** 2))


def evolve(workers):
    result = differential_evolution(
        rosen, [(-2, 2)] * 3, seed=1, workers=workers, updating="deferred", maxiter=12, polish=False
    )
    return result.x.tolist(), result.fun, result.nfev


def integrate(workers):
    value, error = quad_vec(wave, 0, 10, workers=workers)
    return value.tolist(), error


def search(workers):
    return brute(bowl, (slice(-1, 1, 0.25),) * 2, finish=None, workers=workers).tolist()


if __name__ == "__main__":
    for function in (evolve, integrate, search):
        print(function.__name__, "workers=2", function(2))
        with multiprocessing.Pool(2) as pool:
            print(function.__name__, "workers=pool.map", function(pool.map))
