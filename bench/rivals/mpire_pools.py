"""mpire: a pool with the names of the standard library's, and its own options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bench.rivals.base import Adapter


class MpirePool:
    """Workers that stay between calls, as those of the standard library do."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.join = pool.stop_and_join

    def __enter__(self) -> MpirePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.join()

    def apply(self, function: Callable[..., Any], args: tuple[Any, ...] = ()) -> Any:
        """One call."""
        return self.pool.apply(function, args)

    def apply_async(self, function: Callable[..., Any], args: tuple[Any, ...] = ()) -> Any:
        """A call whose result is taken later."""
        return self.pool.apply_async(function, args)

    def imap(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results in order, one task at a time."""
        results: Iterator[Any] = self.pool.imap(function, items, chunk_size=1)
        return results

    def imap_unordered(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results as they come, one task at a time."""
        results: Iterator[Any] = self.pool.imap_unordered(function, items, chunk_size=1)
        return results

    def map(
        self, function: Callable[..., Any], items: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """All results, in as many chunks as it chooses unless it is told."""
        results: list[Any] = self.pool.map(function, items, chunk_size=chunksize)
        return results

    def close(self) -> None:
        """The end; `join` waits for it."""


class Mpire(Adapter):
    """mpire."""

    def Pool(self, workers: int) -> MpirePool:
        """A pool whose workers are kept."""
        from mpire import WorkerPool

        return MpirePool(WorkerPool(workers, start_method=self.method, keep_alive=True))
