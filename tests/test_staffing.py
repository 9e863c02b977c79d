"""How the workers of a pool come: together, with little to import, and many if need be."""

import contextlib
import multiprocessing
import os
import resource
import subprocess
import sys
import textwrap
import time

import manycore
import manycore._staffing
import manycore.pool
import pytest

SCRIPT = """
    import sys

    def loaded(_):
        return set(sys.modules)

    if __name__ == "__main__":
        import manycore
        with manycore.get_context({method!r}).Pool(1) as pool:
            print(*sorted(pool.apply(loaded, (0,))))
"""


def parents(_):
    time.sleep(0.01)
    return os.getppid()


def open_things(_):
    """The worker, and how many links it has: their sockets, and their memory, mapped or open."""
    time.sleep(0.05)
    with open("/proc/self/maps") as maps:
        mapped = sum("memfd:manycore" in line for line in maps)
    targets = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the list's own descriptor
            targets.append(os.readlink(f"/proc/self/fd/{fd}"))
    sockets = sum(target.startswith("socket:") for target in targets)
    return os.getpid(), mapped, sockets, sum("memfd:" in target for target in targets)


def double(x):
    return 2 * x


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_worker_imports_no_more_than_it_needs(tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT.format(method=method)))
    bare = [sys.executable, "-c", "import sys, multiprocessing.spawn, pkgutil; print(*sys.modules)"]
    theirs = subprocess.run(bare, capture_output=True, text=True, check=True).stdout.split()
    worker = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    # Each takes as long to import as all the rest of a worker's start.
    dear = {"typing", "traceback", "tempfile", "inspect", "multiprocessing.pool"}
    assert "manycore._worker" in worker.stdout.split()
    assert dear & set(worker.stdout.split()) <= set(theirs)


def test_all_pools_have_the_same_fork_server():
    ctx = manycore.get_context("forkserver")
    servers = set()
    for _ in range(3):
        with ctx.Pool(2) as pool:
            servers.update(pool.map(parents, range(4), chunksize=1))
    assert len(servers) == 1
    assert servers != {os.getpid()}


def test_a_worker_has_nothing_of_those_that_were_started_with_it(ctx):
    with ctx.Pool(6) as pool:
        seen = {pid: tuple(things) for pid, *things in pool.map(open_things, range(60), 1)}
    # Else the last one had more than the first.
    assert len(seen) > 1
    assert len(set(seen.values())) == 1


def test_workers_are_ended_if_one_of_them_cannot_be_entered(ctx, monkeypatch):
    entered = []

    def enter(staff, process):
        entered.append(process)
        if len(entered) == 3:
            raise OSError("no such luck")
        staff.processes.append(process)

    monkeypatch.setattr(manycore.pool._Staff, "_enter", enter)
    with pytest.raises(OSError, match="no such luck"):
        ctx.Pool(5)
    assert all(process.exitcode is not None for process in entered)
    assert multiprocessing.active_children() == []


def test_workers_are_ended_if_ctrl_c_has_come_while_they_were_forked(monkeypatch):
    forked = []

    def interrupted(batch, children):
        forked.extend(child.pid for child in children)
        raise KeyboardInterrupt

    # That is where Python code runs again, for the first time.
    monkeypatch.setattr(manycore._staffing.Batch, "forked", interrupted)
    with pytest.raises(KeyboardInterrupt):
        manycore.get_context("fork").Pool(4)
    assert len(forked) == 4
    for pid in forked:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_so_many_workers_fit_into_the_usual_number_of_descriptors(method):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        with manycore.get_context(method).Pool(256) as pool:
            assert pool.map(double, range(1000)) == [2 * x for x in range(1000)]
            pool.close()
            pool.join()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
