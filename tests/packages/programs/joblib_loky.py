"""joblib's default backend: processes of loky, with queues derived from multiprocessing's."""

import os

import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV


def norm(array, scale):
    return float(np.sqrt((array * scale) @ array))


def fail(n):
    raise KeyError(f"item {n}")


def search():
    x, y = make_classification(n_samples=200, n_features=8, random_state=0)
    grid = GridSearchCV(LogisticRegression(max_iter=200), {"C": [0.01, 0.1, 1, 10]}, n_jobs=2, cv=3)
    grid.fit(x, y)
    print(grid.best_params_, grid.best_score_, grid.cv_results_["mean_test_score"].tolist())


if __name__ == "__main__":
    big = np.arange(400_000, dtype=float)
    print(Parallel(n_jobs=2)(delayed(norm)(big, scale) for scale in range(6)))
    print(list(Parallel(2, return_as="generator")(delayed(lambda n: -n)(n) for n in range(9))))
    try:
        Parallel(n_jobs=2)(delayed(fail)(5) for _ in range(3))
    except KeyError as error:
        print("error:", error)
    search()
    try:
        get_reusable_executor(2).submit(os._exit, 3).result()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is to be the same
        print(type(error).__name__)
