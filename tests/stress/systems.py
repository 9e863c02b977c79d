"""Pools of several libraries, with what the scenarios need of them."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Callable
from typing import Any


class Lost(Exception):  # noqa: N818 - an outcome, not a fault of ours
    """A task has no result because its worker, or the whole pool, has died."""


class ContextPool:
    """A pool with the API of ``multiprocessing``."""

    def __init__(self, module: str, method: str, workers: int) -> None:
        self.pool: Any = importlib.import_module(module).get_context(method).Pool(workers)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.pool.apply_async(function, args)

    def result(self, task: Any, timeout: float) -> Any:
        """The result; raises `Lost`, or TimeoutError."""
        try:
            return task.get(timeout)
        except multiprocessing.TimeoutError as error:
            raise TimeoutError from error
        except multiprocessing.ProcessError as error:
            raise Lost(repr(error)) from error

    def pids(self) -> list[int]:
        """The workers that there are now."""
        return [process.pid for process in list(self.pool._pool) if process.pid]

    def close(self) -> None:
        """Waits for the end of all that was submitted."""
        self.pool.close()
        self.pool.join()

    def abandon(self) -> None:
        """Ends it now."""
        self.pool.terminate()


class Executor:
    """A pool with the API of ``concurrent.futures``, made anew when it says that it is broken."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.pool = make()

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return self.pool.submit(function, *args)
        except Exception:  # noqa: BLE001 - each has its own class for it
            self.pool = self.make()
            return self.pool.submit(function, *args)

    def result(self, task: Any, timeout: float) -> Any:
        try:
            return task.result(timeout)
        except TimeoutError:
            raise
        except Exception as error:
            raise Lost(repr(error)) from error

    def pids(self) -> list[int]:
        return list(getattr(self.pool, "_processes", None) or {})

    def close(self) -> None:
        self.pool.shutdown(wait=True)

    def abandon(self) -> None:
        self.pool.shutdown(wait=False)


class PebblePool(Executor):
    """pebble's, whose method has another name and another end."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.pool.schedule(function, args=args)

    def pids(self) -> list[int]:
        return list(self.pool._pool_manager.worker_manager.workers)

    def close(self) -> None:
        self.pool.close()
        self.pool.join()

    def abandon(self) -> None:
        self.pool.stop()


def make(system: str, method: str, workers: int) -> Any:
    """A pool of this library.

    Raises:
        ImportError: It is not installed.
    """
    if system in ("manycore", "multiprocessing"):
        return ContextPool(system, method, workers)
    context = multiprocessing.get_context(method)
    if system == "pebble":
        module = importlib.import_module("pebble")
        return PebblePool(lambda: module.ProcessPool(workers, context=context))
    if system == "loky":
        module = importlib.import_module("loky")
        return Executor(lambda: module.ProcessPoolExecutor(workers))
    module = importlib.import_module(system)
    return Executor(lambda: module.ProcessPoolExecutor(workers, mp_context=context))
