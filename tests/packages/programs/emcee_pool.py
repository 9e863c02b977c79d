"""An ensemble sampler whose likelihood is computed by a pool."""

import multiprocessing

import emcee
import numpy as np


def log_probability(theta, ivar):
    return -0.5 * np.sum(ivar * theta**2)


if __name__ == "__main__":
    np.random.seed(42)
    start = np.random.randn(16, 3)
    with multiprocessing.Pool(2) as pool:
        sampler = emcee.EnsembleSampler(16, 3, log_probability, args=[np.arange(1, 4)], pool=pool)
        sampler.run_mcmc(start, 40)
    print(sampler.get_chain(flat=True).sum(axis=0).tolist())
    print(sampler.acceptance_fraction.tolist())
