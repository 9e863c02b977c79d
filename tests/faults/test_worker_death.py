"""Workers and parents that are killed."""

import os
import random
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path

import manycore
import pytest


def kill_at_three(x):
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def note(arguments):
    """A short task that leaves a mark each time it starts."""
    path, number = arguments
    with open(path, "ab", buffering=0) as file:
        file.write(number.to_bytes(4, "little"))
    return number


def identity(x):
    return x


def test_only_the_task_of_the_dead_worker_fails(ctx):
    with ctx.Pool(2) as pool:
        before = {process.pid for process in pool._pool}
        results = [pool.apply_async(kill_at_three, (x,)) for x in range(8)]
        for number, result in enumerate(results):
            if number != 3:
                assert result.get(30) == number
                continue
            with pytest.raises(manycore.WorkerDied, match=r"task 3.*SIGKILL") as caught:
                result.get(30)
            assert isinstance(caught.value, manycore.ProcessError)
            assert caught.value.pid in before
            assert caught.value.exitcode == -signal.SIGKILL
            assert caught.value.task == 3
        assert pool.map(identity, range(100)) == list(range(100))
        while len(pool._pool) < 2:  # the replacement comes; if not, the watchdog does
            assert pool.apply(identity, (1,)) == 1
    pool.join()


def test_a_map_names_the_item(ctx):
    with ctx.Pool(2) as pool:
        with pytest.raises(manycore.WorkerDied) as caught:
            pool.map(kill_at_three, range(10), chunksize=5)
        assert caught.value.task == 3
        assert pool.map(identity, range(10)) == list(range(10))


def test_exit_in_a_task(ctx):
    with ctx.Pool(2) as pool:
        with pytest.raises(manycore.WorkerDied, match="exit code 7") as caught:
            pool.apply(os._exit, (7,))
        assert caught.value.exitcode == 7
        assert pool.apply(identity, (1,)) == 1


def test_idle_workers_that_are_killed_are_replaced(ctx):
    with ctx.Pool(2) as pool:
        assert pool.map(identity, range(10)) == list(range(10))
        for pid in [process.pid for process in pool._pool]:
            os.kill(pid, signal.SIGKILL)
        assert pool.map(identity, range(1000), chunksize=1) == list(range(1000))


def test_workers_that_leave_while_they_start_fail_the_pool(ctx):
    pool = ctx.Pool(2, initializer=os._exit, initargs=(7,))
    with pool, pytest.raises(manycore.ProcessError, match="exit code 7"):
        pool.map(identity, range(10))


def random_kills(pool, stop, kills, count, progress):
    """Kills a random worker again and again, until there were `count` kills or it is told.

    Each time a task has ended since the last kill, so the workers that are killed work.
    """
    chooser = random.Random(count)
    while len(kills) < count and not stop.is_set():
        if not progress.wait(0.1):
            continue
        progress.clear()
        for process in chooser.sample(pool._pool, len(pool._pool))[:1]:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
                kills.append(process.pid)
        stop.wait(0.005)


#: How much the test of random kills does; more by the environment, for a long run.
KILLS = int(os.environ.get("MANYCORE_KILLS", "60"))
TASKS = int(os.environ.get("MANYCORE_TASKS", "500"))


@pytest.mark.patience(600)
def test_random_kills_lose_and_double_nothing(ctx, tmp_path):
    path = tmp_path / "started"
    path.touch()
    stop, progress, kills = threading.Event(), threading.Event(), []
    lost = done = 0
    with ctx.Pool(2) as pool:
        pool.map(identity, range(2))
        killer = threading.Thread(target=random_kills, args=(pool, stop, kills, KILLS, progress))
        killer.start()
        first = 0
        try:
            while killer.is_alive() or first < TASKS:
                for number, outcome in submit(pool, path, first, 500):
                    progress.set()
                    if isinstance(outcome, manycore.WorkerDied):
                        lost += 1
                        assert outcome.task == number
                    else:
                        assert outcome == number
                        done += 1
                first += 500
        finally:
            stop.set()
            killer.join()
        assert pool.map(identity, range(100)) == list(range(100))
    pool.join()
    assert lost + done == first
    assert lost <= len(kills)
    content = path.read_bytes()
    started = [int.from_bytes(content[at : at + 4], "little") for at in range(0, len(content), 4)]
    assert len(started) == len(set(started)), "a task was started twice"
    assert len(started) >= done
    print(f"{len(kills)} kills, {done} tasks done, {lost} lost")


def submit(pool, path, first, count):
    results = [
        (number, pool.apply_async(note, ((path, number),)))
        for number in range(first, first + count)
    ]
    for number, result in results:
        try:
            yield number, result.get(60)
        except manycore.WorkerDied as error:
            yield number, error


def children_of(pid):
    return [
        int(child)
        for task in os.listdir(f"/proc/{pid}/task")
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
    ]


def descendants(pid):
    found = []
    for child in children_of(pid):
        found += [child, *descendants(child)]
    return found


PARENT = """
import sys, time, manycore
from manycore import get_context

def keep(ready):
    global shared
    shared = ready

def spin(ready):
    ready.set()
    while True:
        pass

if __name__ == "__main__":
    ctx = get_context(sys.argv[1])
    ready = ctx.Event()
    pool = ctx.Pool(2, initializer=keep, initargs=(ready,))
    pool.apply(len, ("x",))
    process = ctx.Process(target=spin, args=(ready,))
    process.start()
    ready.wait()
    pool.apply_async(exec, ("while True: pass",))
    pool.apply(len, ("x",))
    print("ready", flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("round_", range(int(os.environ.get("MANYCORE_ROUNDS", "3"))))
def test_nothing_outlives_a_killed_parent(start_method, tmp_path, round_):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    command = [sys.executable, str(script), start_method]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"ready\n"
        below = [(pid, os.pidfd_open(pid)) for pid in descendants(parent.pid)]
        assert len(below) >= 3
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 2
        alive = [pid for pid, pidfd in below if not ended(pidfd, deadline)]
        for _, pidfd in below:
            os.close(pidfd)
    assert not alive


def ended(pidfd, deadline):
    left = max(0, deadline - time.monotonic())
    return bool(select.select([pidfd], [], [], left)[0])
