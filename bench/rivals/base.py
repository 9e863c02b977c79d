"""What a case is given."""

from __future__ import annotations

from typing import Any


class Adapter:
    """One library; below the names of `multiprocessing`, as far as it offers them."""

    slow = 1
    """How many times fewer repetitions are enough, for a library whose operations take long."""

    def __init__(self, method: str) -> None:
        self.method = method

    def count(self, repetitions: int) -> int:
        """How often to repeat what a case repeats so and so many times."""
        return max(1, repetitions // self.slow)

    def chunksize(self, items: int, workers: int) -> int | None:
        """Items that travel together in a long `map`; None for what the library chooses."""
        return None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__} does not offer {name}")

    def close(self) -> None:
        """Ends what a pool has left running."""
