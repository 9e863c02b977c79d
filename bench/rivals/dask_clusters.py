"""dask: a `LocalCluster` and its client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bench.rivals.base import Adapter


class Result:
    """A future under the name that `AsyncResult` has for what it does."""

    def __init__(self, future: Any) -> None:
        self.get = future.result


class DaskPool:
    """A cluster of processes with one thread each. Every call is one: `pure=False`."""

    def __init__(self, workers: int) -> None:
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=40,
        )
        self.client = Client(self.cluster)

    def __enter__(self) -> DaskPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.join()

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """A future."""
        return self.client.submit(function, *args, pure=False)

    def apply(self, function: Callable[..., Any], args: tuple[Any, ...] = ()) -> Any:
        """One call."""
        return self.submit(function, *args).result()

    def apply_async(self, function: Callable[..., Any], args: tuple[Any, ...] = ()) -> Result:
        """A call whose result is taken later."""
        return Result(self.submit(function, *args))

    def imap(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results in order, a task for each item."""
        futures = self.client.map(function, list(items), pure=False)
        return iter(self.client.gather(futures))

    def imap_unordered(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results as they come."""
        from distributed import as_completed

        futures = self.client.map(function, list(items), pure=False)
        return (result for _, result in as_completed(futures, with_results=True))

    def map(
        self, function: Callable[..., Any], items: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """All results: tasks, or for chunks a bag, which is what dask has for many small items."""
        if chunksize is None or chunksize == 1:
            return list(self.imap(function, items))
        from dask import bag

        partitions = bag.from_sequence(items, partition_size=chunksize)
        results: list[Any] = partitions.map(function).compute(scheduler=self.client)
        return results

    def close(self) -> None:
        """The end; `join` waits for it."""

    def join(self) -> None:
        """Waits for the end of the cluster."""
        self.client.close()
        self.cluster.close()


class Dask(Adapter):
    """dask's processes on this machine."""

    slow = 10

    def __init__(self, method: str) -> None:
        super().__init__(method)
        import dask

        dask.config.set({"distributed.worker.multiprocessing-method": method})

    def Pool(self, workers: int) -> DaskPool:
        """A cluster with as many workers."""
        return DaskPool(workers)

    def chunksize(self, items: int, workers: int) -> int:
        """As `Pool.map` of the standard library does it."""
        return -(-items // (4 * workers))
