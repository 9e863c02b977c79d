"""joblib: a call of `Parallel` for each piece of work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bench.rivals.base import Adapter


class JoblibPool:
    """Workers that are kept between calls of `Parallel`."""

    def __init__(self, workers: int) -> None:
        from joblib import delayed

        self.workers = workers
        self.delayed = delayed
        self.parallel = self.make()

    def make(self, **options: Any) -> Any:
        """What joblib's users make for each piece of work."""
        from joblib import Parallel

        return Parallel(n_jobs=self.workers, **options)

    def __enter__(self) -> JoblibPool:
        self.parallel.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.parallel.__exit__(*exception)
        self.join()

    def apply(self, function: Callable[..., Any], args: tuple[Any, ...] = ()) -> Any:
        """One call."""
        return self.parallel([self.delayed(function)(*args)])[0]

    def imap(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results in order, one task at a time."""
        return self.generate("generator", function, items)

    def imap_unordered(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results as they come."""
        return self.generate("generator_unordered", function, items)

    def generate(
        self, kind: str, function: Callable[..., Any], items: Iterable[Any]
    ) -> Iterator[Any]:
        """A generator of results; the workers are the same, since joblib's users share them."""
        parallel = self.make(return_as=kind, batch_size=1, pre_dispatch="all")
        results: Iterator[Any] = parallel(self.delayed(function)(item) for item in items)
        return results

    def map(
        self, function: Callable[..., Any], items: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """All results, in batches that joblib sizes unless it is told."""
        parallel = self.make(batch_size=chunksize) if chunksize else self.parallel
        results: list[Any] = parallel(self.delayed(function)(item) for item in items)
        return results

    def close(self) -> None:
        """The end; `join` waits for it."""

    def join(self) -> None:
        """Waits for the workers."""
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown()


class Joblib(Adapter):
    """joblib on loky, as it comes."""

    slow = 5

    def Pool(self, workers: int) -> JoblibPool:
        """As many workers."""
        return JoblibPool(workers)
