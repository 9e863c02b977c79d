"""The start method as a parameter, a watchdog over every test, and a look at what tests leave."""

import gc
import multiprocessing.process
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import manycore
import pytest
from manycore import forkserver, resource_tracker
from manycore.context import _default_context

HERE = Path(__file__).parent
#: Seconds after which a test hangs.
PATIENCE = 60

# Children have to print their stacks when the watchdog strikes.
os.environ["PYTHONFAULTHANDLER"] = "1"

# A shell starts what runs in the background with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def start_method(request):
    return request.param


@pytest.fixture
def ctx(start_method):
    return manycore.get_context(start_method)


@pytest.fixture
def default_method():
    """Gives the default start method back as it was."""
    before = _default_context._actual_context
    yield
    _default_context._actual_context = before


@pytest.fixture(scope="session")
def watchdog(request) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-S", str(HERE / "watchdog.py"), str(os.getpid())]
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
    with process:
        yield process
        process.stdin.close()


@pytest.fixture(scope="session")
def warm(watchdog):
    """What is made once and stays: lifeline, fork server, arena, the thread that watches.

    And the standard library's resource tracker, which its own locks start, and its arena.
    """
    resource_tracker.ensure_running()
    multiprocessing.get_context("fork").RawValue("i")
    with manycore.Pool(1) as pool:
        pool.apply(abs, (1,))
    pool.join()
    forkserver.ensure_running()
    for method in ("fork", "forkserver"):
        context = manycore.get_context(method)
        process = context.Process(args=(context.Lock(), context.Value("i")))
        process.start()
        process.join()
        process.close()


@pytest.fixture(autouse=True)
def careful(request, watchdog, warm):
    """Ends a test that hangs, and fails one that leaves something behind."""
    marker = request.node.get_closest_marker("patience")
    patience = marker.args[0] if marker else PATIENCE
    watchdog.stdin.write(f"{patience}\n".encode())
    watchdog.stdin.flush()
    before = State(watchdog.pid)
    yield
    # What fixtures have given to the test is not left behind by it.
    request.node.funcargs.clear()
    before.compare(State(watchdog.pid))
    watchdog.stdin.write(b"0\n")
    watchdog.stdin.flush()


class State:
    """What a process has: children, threads, descriptors, shared memory."""

    def __init__(self, watchdog: int) -> None:
        self._watchdog = watchdog
        gc.collect()
        self.children = sorted(children() - {watchdog, forkserver._forkserver._forkserver_pid})
        self.started = sorted(p.name for p in multiprocessing.process._children)
        # Before 3.13 the stand-in of a thread that is not Python's own stays when that has ended.
        threads = [t for t in threading.enumerate() if not isinstance(t, threading._DummyThread)]
        self.threads = sorted(thread.name for thread in threads)
        self.fds = sorted(descriptors())
        self.shm = sorted(os.listdir("/dev/shm"))
        self.mappings = memfds()

    def compare(self, after: "State") -> None:
        deadline = time.monotonic() + 2
        while (difference := self._difference(after)) and time.monotonic() < deadline:
            time.sleep(0.02)
            after = State(self._watchdog)
        assert not difference, "\n".join(difference)

    def _difference(self, after: "State") -> list[str]:
        # Less than before is no leak: the garbage of an earlier test may go late.
        return [
            f"new {name}: {sorted(new.elements())}"
            for name in ("children", "started", "threads", "fds", "shm", "mappings")
            if (new := Counter(vars(after)[name]) - Counter(vars(self)[name]))
        ]


def children() -> set[int]:
    """The children of this process that run or have not been waited for."""
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        try:
            found.update(map(int, Path(f"/proc/self/task/{task}/children").read_text().split()))
        except OSError:
            continue
    return found


def descriptors() -> list[str]:
    """What is open here, by its kind or name."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if not target.startswith("/proc/"):
            found.append(target.split(":")[0])
    return found


def memfds() -> list[str]:
    """The pieces of anonymous shared memory that are mapped, by name."""
    maps = Path("/proc/self/maps").read_text()
    return [line.partition("memfd:")[2] for line in maps.splitlines() if "memfd:" in line]


def pytest_configure(config):
    config.addinivalue_line("markers", "patience(seconds): how long the test may take")
