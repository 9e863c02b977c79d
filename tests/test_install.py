"""After ``install()`` the name ``multiprocessing`` behaves as a package of its own would."""

import subprocess
import sys
import textwrap

import pytest

CASES = {
    "import of submodules": """
        import multiprocessing.pool, multiprocessing.queues as queues
        from multiprocessing import connection, util as utilities
        from multiprocessing.managers import BaseManager
        from multiprocessing.pool import ThreadPool
        assert multiprocessing is manycore and multiprocessing.pool is manycore.pool
        assert queues.__name__ == "manycore.queues" and connection.__name__ == "manycore.connection"
        assert BaseManager.__module__ == "manycore.managers"
        assert utilities is original.util and sys.modules["multiprocessing.util"] is utilities
    """,
    "import of what is loaded": """
        import multiprocessing.util
        assert multiprocessing.util is original.util is importlib.import_module("manycore.util")
        import manycore.pool  # loads some of the standard library's
        import multiprocessing.dummy, multiprocessing.connection, multiprocessing.reduction
        assert multiprocessing.reduction is manycore.reduction is original.reduction
        assert multiprocessing.connection is manycore.connection
    """,
    "import of the dummy package": """
        import multiprocessing.dummy, multiprocessing.dummy.connection as connection
        from multiprocessing.dummy import Pool
        import manycore.dummy.connection
        assert multiprocessing.dummy is manycore.dummy is sys.modules["multiprocessing.dummy"]
        assert connection is manycore.dummy.connection
        with Pool(2) as pool:
            assert pool.map(abs, [-1, 2]) == [1, 2]
    """,
    "import of everything": """
        names = {}
        exec("from multiprocessing import *", names)
        assert names["Pool"] == manycore.Pool and names["WorkerDied"] is manycore.WorkerDied
    """,
    "import of what is not there": """
        for name in ("multiprocessing.nothing", "multiprocessing.dummy.nothing"):
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                assert error.name == name
            else:
                raise AssertionError(name)
    """,
    "reload": """
        import multiprocessing.pool, multiprocessing.sharedctypes, multiprocessing.shared_memory
        for name in ("pool", "sharedctypes", "shared_memory", "util", "dummy", "resource_sharer"):
            module = importlib.import_module(f"multiprocessing.{name}")
            before = module.__spec__.name
            assert importlib.reload(module) is module
            assert module.__spec__.name == before
            assert importlib.import_module(f"multiprocessing.{name}") is module
        assert importlib.reload(multiprocessing) is manycore is sys.modules["multiprocessing"]
        with multiprocessing.Pool(1) as pool:
            assert pool.map(abs, [-1]) == [1]
    """,
    "attributes": """
        import multiprocessing
        assert multiprocessing.__file__ == manycore.__file__
        assert multiprocessing.__path__ == [os.path.dirname(manycore.__file__)]
        assert multiprocessing.__spec__.name == multiprocessing.__package__ == "manycore"
        assert importlib.util.find_spec("multiprocessing") is manycore.__spec__
        assert multiprocessing.__version__ == manycore.__version__
    """,
    "pkgutil": """
        import multiprocessing
        found = {module.name for module in pkgutil.iter_modules(multiprocessing.__path__)}
        theirs = {module.name for module in pkgutil.iter_modules(original.__path__)}
        assert theirs <= found
        for module in pkgutil.walk_packages(multiprocessing.__path__, "multiprocessing."):
            if module.name.rpartition(".")[2] in theirs - {"popen_spawn_win32"}:
                importlib.import_module(module.name)
        assert pkgutil.resolve_name("multiprocessing.pool:Pool") is manycore.pool.Pool
        assert importlib.util.find_spec("multiprocessing.pool").name == "manycore.pool"
    """,
    "inspect": """
        import multiprocessing.queues
        assert inspect.getsource(multiprocessing.Pool).lstrip().startswith("def Pool(")
        assert inspect.getsource(multiprocessing.queues.Queue).startswith("class Queue(")
        assert inspect.getsourcefile(multiprocessing) == manycore.__file__
        assert inspect.getmodule(multiprocessing.queues.Queue) is multiprocessing.queues
        assert inspect.signature(multiprocessing.Pool) == inspect.signature(manycore.Pool)
    """,
    "pickle": """
        import multiprocessing, multiprocessing.pool
        package = multiprocessing
        for thing in (package.pool.Pool, package.Process, package.TimeoutError):
            assert pickle.loads(pickle.dumps(thing)) is thing
        assert pickle.loads(b"cmultiprocessing.pool\\nPool\\n.") is manycore.pool.Pool
    """,
    "twice": """
        import multiprocessing
        finders = list(sys.meta_path)
        manycore.install()
        assert sys.meta_path == finders and sys.modules["multiprocessing"] is manycore
    """,
}
PROGRAM = """
import importlib, importlib.util, inspect, os, pickle, pkgutil, sys
import multiprocessing as original
import multiprocessing.util
import manycore

manycore.install()

def main():
{}

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("name", CASES)
def test_case(name, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PROGRAM.format(textwrap.indent(textwrap.dedent(CASES[name]), "    ")))
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


EARLY = """
import multiprocessing as whole
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Event, Pool, Process, Queue, get_context
from multiprocessing.pool import Pool as PoolClass

context = get_context("spawn")

class Child(Process):
    def run(self):
        self.queue.put(type(self).__bases__[0].__name__)

import manycore
manycore.install()

def child(queue, event):
    event.wait()
    queue.put(whole.current_process().name)

def run(kind, queue, *args):
    process = kind(*args)
    process.queue = queue
    process.start()
    print(queue.get(), end=" ")
    process.join()
    print(process.exitcode)

if __name__ == "__main__":
    whole.set_start_method(sys.argv[1])
    assert manycore.get_start_method() == whole.get_start_method() == sys.argv[1]
    assert get_context() is manycore.get_context()
    with Pool(1) as pool:
        print(type(pool).__module__, pool.map(abs, [-1]))
    with PoolClass(1) as pool:
        print(type(pool).__module__, pool.map(abs, [-1]))
    with whole.Pool(1) as pool:
        print(type(pool).__module__, pool.map(abs, [-1]))
    with ProcessPoolExecutor(1) as executor:
        print(list(executor.map(abs, [-1])))
    queue, event = Queue(), Event()
    event.set()
    print(type(queue).__module__, type(event).__module__, type(context).__module__)
    run(Process, queue, None, child, "a", (queue, event))
    run(whole.Process, queue, None, child, "b", (queue, event))
    run(context.Process, queue, None, child, "c", (queue, event))
    run(Child, queue)
"""


def test_what_was_imported_before(tmp_path, start_method):
    script = tmp_path / "script.py"
    script.write_text(EARLY)
    command = [sys.executable, "-W", "error", script, start_method]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "manycore.pool [1]",
        "multiprocessing.pool [1]",
        "manycore.pool [1]",
        "[1]",
        "manycore.queues manycore.synchronize manycore.context",
        "a 0",
        "b 0",
        "c 0",
        "Process 0",
    ]
