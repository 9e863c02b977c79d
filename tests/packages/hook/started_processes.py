"""Writes down every process that multiprocessing starts, whoever's multiprocessing it is.

A ``.pth`` file imports this at the start of every interpreter of the environment. It changes nothing
unless ``STARTED_PROCESSES`` names a file. The one place that all processes of the standard library
and of manycore pass is ``BaseProcess._bootstrap``, in the child.
"""

import functools
import json
import os
import sys
from importlib.machinery import PathFinder

LOG = os.environ.get("STARTED_PROCESSES")


class Hook:
    """Wraps ``_bootstrap`` when ``multiprocessing.process`` is first imported."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        """Finds that one module, as the interpreter would."""
        if fullname != "multiprocessing.process":
            return None
        sys.meta_path.remove(cls)
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (execute(module), wrap(module.BaseProcess))
        return spec


def wrap(cls):
    """Has each process say what it is before it begins."""
    bootstrap = cls._bootstrap

    @functools.wraps(bootstrap)
    def noted(self, *args, **kwargs):
        note(self)
        return bootstrap(self, *args, **kwargs)

    cls._bootstrap = noted


def note(process):
    """Adds a line to the file: one write, so that lines of several processes do not mix."""
    kind = next(c for c in type(process).__mro__ if c.__module__.endswith(".context"))
    target = getattr(process, "_target", None)
    multiprocessing = sys.modules["multiprocessing"]
    line = {
        "process": f"{kind.__module__}.{kind.__qualname__}",
        "multiprocessing": multiprocessing.__name__,
        "method": multiprocessing.get_start_method(allow_none=True),
        "target": f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', '')}",
    }
    with open(LOG, "ab", buffering=0) as log:
        log.write(json.dumps(line).encode() + b"\n")


if LOG:
    sys.meta_path.insert(0, Hook)
