"""The libraries with the API of the standard library."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

from bench.rivals.base import Adapter


class Context(Adapter):
    """A context of a start method."""

    module: ClassVar[str]

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.context = importlib.import_module(self.module).get_context(method)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.context, name)


class Multiprocessing(Context):
    """The standard library."""

    module = "multiprocessing"


class Manycore(Context):
    """We."""

    module = "manycore"


class Billiard(Context):
    """Celery's fork of the standard library."""

    module = "billiard"


class Multiprocess(Context):
    """The standard library with dill in place of pickle."""

    slow = 4

    module = "multiprocess"
