"""Makes ``multiprocessing`` mean manycore in every interpreter of the test environment.

A ``.pth`` file imports this at start-up. That reaches children, and the interpreters that tests
start with ``-I`` or ``-E``; nothing else does. Nothing is loaded before somebody asks.
"""

import importlib
import importlib.machinery
import os
import sys

#: What the tests run on: manycore, the standard library itself (stdlib), or manycore with its
#: executor in the place of that of concurrent.futures (executor).
SYSTEM = os.environ.get("TESTED_SYSTEM", "manycore")


class Multiprocessing:
    """At the first import of ``multiprocessing``: installs manycore and leaves the rest to it."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        """Finds ``multiprocessing`` and its submodules once."""
        if fullname.partition(".")[0] != "multiprocessing":
            return None
        sys.meta_path.remove(cls)
        if "manycore" in sys.modules:
            # A child of ours, in which manycore comes first; it installs itself if it is to.
            return None
        import manycore

        manycore.install()
        return importlib.machinery.ModuleSpec(fullname, cls)

    @staticmethod
    def create_module(spec):
        """The module that has this name by now."""
        return importlib.import_module(spec.name)

    @staticmethod
    def exec_module(module):
        """Gives the module its own spec back, which the import system has just replaced."""
        module.__spec__ = sys.modules["manycore"].__spec__


class Executor:
    """Puts our executor into the place of the one that it meets in ``concurrent.futures``."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        """Finds ``concurrent.futures.process`` and has it changed once it is loaded."""
        if fullname != "concurrent.futures.process":
            return None
        sys.meta_path.remove(cls)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        cls.exec_original = spec.loader.exec_module
        spec.loader.exec_module = cls.exec_module
        return spec

    @classmethod
    def exec_module(cls, module):
        """Runs the module's code, then changes it."""
        cls.exec_original(module)
        from manycore.futures import ProcessPoolExecutor

        module.ProcessPoolExecutor = ProcessPoolExecutor


class StandIns:
    """Finds test packages that the interpreter has not got. It is asked last."""

    path = os.path.join(sys.prefix, "stand_ins")

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        """Finds ``test.test_multiprocessing_fork`` and the like."""
        if not fullname.startswith("test.test_multiprocessing_"):
            return None
        where = [cls.path] if fullname.count(".") == 1 else path
        return importlib.machinery.PathFinder.find_spec(fullname, where)


sys.meta_path.append(StandIns)
if SYSTEM != "stdlib":
    sys.meta_path.insert(0, Multiprocessing)
if SYSTEM == "executor":
    sys.meta_path.insert(0, Executor)
