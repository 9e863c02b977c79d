"""faster-fifo: a queue and nothing else."""

from __future__ import annotations

import multiprocessing
from typing import Any

from bench.rivals.base import Adapter

CAPACITY = 8 << 20


class FasterFifo(Adapter):
    """Its queue between processes of the standard library."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.context: Any = multiprocessing.get_context(method)

    def Queue(self) -> Any:
        """A queue with room for 8 MB; it has 1 MB unless told, and an item of ours needs more."""
        from faster_fifo import Queue

        return Queue(max_size_bytes=CAPACITY)

    def Process(self, *args: Any, **options: Any) -> Any:
        """A process of the standard library."""
        return self.context.Process(*args, **options)
