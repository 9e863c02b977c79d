"""The systems that are measured, and what each of them offers."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from bench.registry import METHODS, Case
from bench.rivals.base import Adapter

POOL = frozenset(["Pool", "apply", "apply_async", "imap", "imap_unordered", "map"])
PROCESSES = frozenset(["Process", "Pipe", "Queue", "Lock", "Value", "Array", "Manager"])

STDLIB = "multiprocessing"
OURS = "manycore"


@dataclass(frozen=True)
class System:
    """One library: how it is measured."""

    name: str
    adapter: str
    """Module and class below `bench.rivals`."""
    offers: frozenset[str]
    """What it has of the names that cases need."""
    methods: tuple[str, ...]
    """The start methods of it that we measure; a rival has the one that is best for it."""
    package: str | None = None
    """The distribution, if it is neither part of Python nor ours."""

    def version(self) -> str | None:
        """Its version, if it is another one than Python's; None if it is not installed."""
        if self.package is None:
            return ""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None

    def has(self, case: Case) -> bool:
        """Whether the case can be measured on it."""
        return case.needs <= self.offers

    def start(self, method: str) -> Adapter:
        """What a case is given; only in the process that measures, since it imports the library."""
        module, _, name = self.adapter.partition(":")
        adapter: Adapter = getattr(importlib.import_module(f"bench.rivals.{module}"), name)(method)
        return adapter


SYSTEMS = {
    system.name: system
    for system in (
        System(STDLIB, "contexts:Multiprocessing", POOL | PROCESSES, METHODS),
        System(OURS, "contexts:Manycore", POOL | PROCESSES, METHODS),
        System("concurrent.futures", "executors:ConcurrentFutures", POOL, ("fork",)),
        System("loky", "executors:Loky", POOL, ("loky",), "loky"),
        System("joblib", "joblib_generators:Joblib", POOL - {"apply_async"}, ("loky",), "joblib"),
        System("mpire", "mpire_pools:Mpire", POOL, ("fork",), "mpire"),
        System("pebble", "executors:Pebble", POOL, ("fork",), "pebble"),
        System("billiard", "contexts:Billiard", POOL | PROCESSES, ("fork",), "billiard"),
        System(
            "multiprocess", "contexts:Multiprocess", POOL | PROCESSES, ("fork",), "multiprocess"
        ),
        System("ray", "ray_pools:Ray", POOL, ("ray",), "ray"),
        System("dask", "dask_clusters:Dask", POOL, ("forkserver",), "distributed"),
        System(
            "faster-fifo",
            "fifos:FasterFifo",
            frozenset({"Process", "Queue"}),
            ("fork",),
            "faster-fifo",
        ),
    )
}
