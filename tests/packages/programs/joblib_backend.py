"""joblib's own Pool class, which builds on multiprocessing's, and scikit-learn on top of it."""

import numpy as np
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score


def norm(array, scale):
    return float(np.sqrt((array * scale) @ array))


def fail(n):
    if n == 5:
        raise KeyError(f"item {n}")
    return n


def search():
    x, y = make_classification(n_samples=200, n_features=8, random_state=0)
    grid = GridSearchCV(LogisticRegression(max_iter=200), {"C": [0.01, 0.1, 1, 10]}, n_jobs=2, cv=3)
    grid.fit(x, y)
    print(grid.best_params_, grid.best_score_, grid.cv_results_["mean_test_score"].tolist())
    print(cross_val_score(RandomForestClassifier(10, random_state=0), x, y, n_jobs=2).tolist())


if __name__ == "__main__":
    big = np.arange(400_000, dtype=float)
    with parallel_config(backend="multiprocessing", n_jobs=2):
        print(Parallel()(delayed(norm)(big, scale) for scale in range(6)))
        print(Parallel(batch_size=4)(delayed(divmod)(n, 7) for n in range(50)))
        try:
            Parallel()(delayed(fail)(n) for n in range(10))
        except KeyError as error:
            print("error:", error)
        search()
