"""Writes down every process that multiprocessing starts, whoever's multiprocessing it is.

A ``.pth`` file imports this at the start of every interpreter of the environment. It changes
nothing unless ``STARTED_PROCESSES`` names a file. What all processes of the standard library and of
manycore pass is ``BaseProcess.start`` in the parent and ``BaseProcess._bootstrap`` in the child.

``STDLIB_START_METHOD`` is for the standard library what ``--start-method`` is for manycore.
"""

import functools
import json
import os
import sys
from importlib.machinery import PathFinder

LOG = os.environ.get("STARTED_PROCESSES")
METHOD = os.environ.get("STDLIB_START_METHOD")


class Hook:
    """Changes a module of the standard library when it is first imported."""

    def __init__(self, name, change):
        self.name = name
        self.change = change

    def find_spec(self, fullname, path=None, target=None):
        """Finds that one module, as the interpreter would."""
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (execute(module), self.change(module))
        return spec


def note_processes(module):
    """Has each process noted by who starts it, and by itself before it begins."""
    cls = module.BaseProcess
    start, bootstrap = cls.start, cls._bootstrap

    @functools.wraps(start)
    def noted_start(self):
        note("started", self)
        return start(self)

    @functools.wraps(bootstrap)
    def noted_bootstrap(self, *args, **kwargs):
        note("runs", self)
        return bootstrap(self, *args, **kwargs)

    cls.start, cls._bootstrap = noted_start, noted_bootstrap


def note(event, process):
    """Adds a line to the file: one write, so that lines of several processes do not mix."""
    # A package may have a class of its own; joblib's is derived from the base of all.
    kinds = [cls for cls in type(process).__mro__ if cls.__module__.endswith(".context")]
    kind = (kinds or [type(process)])[0]
    target = getattr(process, "_target", None)
    multiprocessing = sys.modules["multiprocessing"]
    line = {
        "event": event,
        "process": f"{kind.__module__}.{kind.__qualname__}",
        "multiprocessing": multiprocessing.__name__,
        "method": multiprocessing.get_start_method(allow_none=True),
        "target": f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', '')}",
    }
    with open(LOG, "ab", buffering=0) as log:
        log.write(json.dumps(line).encode() + b"\n")


def set_default_method(module):
    """Makes the method that of programs which choose none."""
    module._default_context._default_context = module._concrete_contexts[METHOD]


if LOG:
    sys.meta_path.insert(0, Hook("multiprocessing.process", note_processes))
if METHOD:
    sys.meta_path.insert(0, Hook("multiprocessing.context", set_default_method))
