"""The libraries whose pools give futures."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bench.rivals.base import Adapter


class Result:
    """A future under the name that `AsyncResult` has for what it does."""

    def __init__(self, future: Any) -> None:
        self.get = future.result


class ExecutorPool:
    """The methods of a pool as users of an executor write them."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor
        self.submit = executor.submit

    def __enter__(self) -> ExecutorPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.join()

    def apply(self, function: Callable[..., Any], args: tuple[Any, ...] = ()) -> Any:
        """One call."""
        return self.submit(function, *args).result()

    def apply_async(self, function: Callable[..., Any], args: tuple[Any, ...] = ()) -> Result:
        """A call whose result is taken later."""
        return Result(self.submit(function, *args))

    def imap(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results in order; `map` of an executor is one, and its chunksize is 1."""
        results: Iterator[Any] = self.executor.map(function, items)
        return results

    def imap_unordered(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results as they come."""
        futures = [self.submit(function, item) for item in items]
        return (future.result() for future in concurrent.futures.as_completed(futures))

    def map(
        self, function: Callable[..., Any], items: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """All results."""
        return list(self.executor.map(function, items, chunksize=chunksize or 1))

    def close(self) -> None:
        """The end; `join` waits for it."""

    def join(self) -> None:
        """Waits for the workers."""
        self.executor.shutdown()


class Executors(Adapter):
    """What the executors have in common."""

    def chunksize(self, items: int, workers: int) -> int:
        """As `Pool.map` does it: an executor takes one item at a time unless it is told."""
        return -(-items // (4 * workers))


class ConcurrentFutures(Executors):
    """`ProcessPoolExecutor` of the standard library."""

    def Pool(self, workers: int) -> ExecutorPool:
        """An executor with as many workers."""
        context = multiprocessing.get_context(self.method)
        return ExecutorPool(concurrent.futures.ProcessPoolExecutor(workers, mp_context=context))


class Loky(Executors):
    """An executor with a start method of its own, fork and exec."""

    def Pool(self, workers: int) -> ExecutorPool:
        """A new executor, not the one that loky lets its users share."""
        import loky

        return ExecutorPool(loky.ProcessPoolExecutor(workers))


class PebblePool(ExecutorPool):
    """Pebble's pool has futures, deadlines and other names."""

    def __init__(self, pool: Any) -> None:
        self.executor = pool
        self.submit = lambda function, *args: pool.schedule(function, args=args)

    def imap(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results in order, chunksize 1."""
        results: Iterator[Any] = self.executor.map(function, items).result()
        return results

    def map(
        self, function: Callable[..., Any], items: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """All results."""
        return list(self.executor.map(function, items, chunksize=chunksize or 1).result())

    def close(self) -> None:
        """Takes no more tasks."""
        self.executor.close()

    def join(self) -> None:
        """Waits for the workers."""
        self.executor.join()


class Pebble(Executors):
    """A pool that gives futures and keeps deadlines."""

    def Pool(self, workers: int) -> PebblePool:
        """A pool with as many workers."""
        import pebble

        context = multiprocessing.get_context(self.method)
        return PebblePool(pebble.ProcessPool(workers, context=context))
