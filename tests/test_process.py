import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

import manycore
import pytest
from manycore import forkserver, resource_tracker, shared_memory, util


def nothing():
    pass


def put(queue, value):
    queue.put(value)


def report(queue, *args, **kwargs):
    current = manycore.current_process()
    queue.put((args, kwargs, current.name, bytes(current.authkey), current.pid, os.getpid()))


def leave(code):
    sys.exit(code)


def fail():
    raise ArithmeticError("wrong")


def sleep_long():
    time.sleep(100)


def spin():
    while True:
        pass


class Squares(manycore.Process):
    def __init__(self, queue, number):
        super().__init__()
        self.queue = queue
        self.number = number

    def run(self):
        self.queue.put(self.number**2)


def test_runs_target_with_arguments(ctx):
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=report, name="Bob", args=(queue, 1, "x"), kwargs={"y": [2]})
    assert process.pid is None
    assert process.exitcode is None
    process.start()
    args, kwargs, name, authkey, pid, real_pid = queue.get()
    process.join()
    assert (args, kwargs, name) == ((1, "x"), {"y": [2]}, "Bob")
    assert authkey == bytes(manycore.current_process().authkey)
    assert pid == real_pid == process.pid == process.ident
    assert process.exitcode == 0
    process.close()
    queue.close()


def test_is_a_process_of_the_standard_library(ctx):
    process = ctx.Process(target=sleep_long)
    assert isinstance(process, BaseProcess)
    process.start()
    assert process in manycore.active_children()
    process.kill()
    process.join()
    assert process not in manycore.active_children()


def test_subclass_of_the_default_process(start_method, default_method):
    manycore.set_start_method(start_method, force=True)
    queue = manycore.SimpleQueue()
    process = Squares(queue, 12)
    process.start()
    assert queue.get() == 144
    process.join()


@pytest.mark.parametrize(
    ("target", "args", "exitcode"),
    [
        (nothing, (), 0),
        (leave, (7,), 7),
        (leave, (None,), 0),
        (leave, ("a message",), 1),
        (fail, (), 1),
    ],
)
def test_exitcode(ctx, start_method, capfd, target, args, exitcode):
    process = ctx.Process(target=target, args=args, name="Leaver")
    process.start()
    process.join()
    assert process.exitcode == exitcode
    stderr = capfd.readouterr().err
    if start_method == "forkserver":
        return  # the server had its stderr before this test began
    if target is fail:
        assert "Process Leaver:" in stderr
        assert "ArithmeticError: wrong" in stderr
    if args == ("a message",):
        assert stderr.strip() == "a message"


@pytest.mark.parametrize("target", [sleep_long, spin])
@pytest.mark.parametrize(("method", "signo"), [("terminate", 15), ("kill", 9)])
def test_ended_by_a_signal(ctx, target, method, signo):
    process = ctx.Process(target=target)
    process.start()
    assert process.is_alive()
    assert process.exitcode is None
    assert "started" in repr(process)
    getattr(process, method)()
    process.join()
    assert process.exitcode == -signo
    assert not process.is_alive()
    assert f"exitcode=-SIG{'TERM' if signo == 15 else 'KILL'}" in repr(process)


def test_join_with_timeout(ctx):
    process = ctx.Process(target=sleep_long)
    process.start()
    begun = time.monotonic()
    assert process.join(0.1) is None
    assert time.monotonic() - begun >= 0.1
    assert process.is_alive()
    process.join(0)
    process.join(-1)
    process.kill()
    process.join(60)
    assert process.exitcode == -9


def test_sentinel(ctx):
    process = ctx.Process(target=sleep_long)
    with pytest.raises(ValueError, match="process not started"):
        _ = process.sentinel
    process.start()
    assert isinstance(process.sentinel, int)
    assert wait([process.sentinel], 0) == []
    process.kill()
    assert wait([process.sentinel], 60) == [process.sentinel]
    process.join()


def test_exit_code_is_there_once_the_sentinel_says_so(ctx):
    for _ in range(20):
        process = ctx.Process(target=os._exit, args=(7,))
        process.start()
        wait([process.sentinel])
        assert process.exitcode == 7
        process.join()


def test_close(ctx):
    process = ctx.Process(target=sleep_long)
    process.start()
    with pytest.raises(ValueError, match="still running"):
        process.close()
    process.kill()
    process.join()
    process.close()
    process.close()
    for name in ("join", "is_alive", "terminate", "kill"):
        with pytest.raises(ValueError, match="process object is closed"):
            getattr(process, name)()
    assert "closed" in repr(process)


def test_what_may_not_be_done(ctx):
    process = ctx.Process(target=nothing)
    with pytest.raises(AssertionError, match="can only join a started process"):
        process.join()
    process.start()
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        process.start()
    with pytest.raises(AssertionError, match="process has already started"):
        process.daemon = True
    process.join()
    with pytest.raises(AssertionError):
        ctx.Process(group=1)


def join_oneself(queue):
    try:
        manycore.current_process().join()
    except AssertionError as error:
        queue.put(str(error))


def test_cannot_join_oneself(ctx):
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=join_oneself, args=(queue,))
    process.start()
    assert queue.get() == "can only join a child process"
    process.join()


def start_grandchild(queue, daemon):
    try:
        child = manycore.Process(target=put, args=(queue, manycore.get_start_method()))
        assert child.daemon is daemon
        child.start()
        child.join()
    except AssertionError as error:
        queue.put(str(error))


def test_grandchildren_have_the_same_start_method(ctx, start_method):
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=start_grandchild, args=(queue, False))
    process.start()
    assert queue.get() == start_method
    process.join()
    assert process.exitcode == 0


def test_daemons_have_no_children(ctx):
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=start_grandchild, args=(queue, True), daemon=True)
    process.start()
    assert queue.get() == "daemonic processes are not allowed to have children"
    process.join()


def tell_parent(queue):
    parent = manycore.parent_process()
    queue.put((parent.pid, parent.name, parent.is_alive()))


def test_parent_process(ctx):
    assert manycore.parent_process() is None
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=tell_parent, args=(queue,))
    process.start()
    assert queue.get() == (os.getpid(), "MainProcess", True)
    process.join()


def watch_parent(connection):
    parent = manycore.parent_process()
    connection.send((parent.is_alive(), os.getpid()))
    parent.join(timeout=60)
    connection.send(parent.is_alive())


def have_child(ctx, connection):
    child = ctx.Process(target=watch_parent, args=(connection,))
    child.start()
    child.join()


def test_child_sees_the_death_of_its_parent(ctx):
    reader, writer = ctx.Pipe(duplex=False)
    parent = ctx.Process(target=have_child, args=(ctx, writer))
    parent.start()
    writer.close()
    alive, grandchild = reader.recv()
    assert alive
    parent.kill()
    parent.join()
    assert reader.recv() is False
    with pytest.raises(EOFError):
        reader.recv()
    reader.close()
    wait_until_gone(grandchild)


def have_busy_child(ctx, connection):
    child = ctx.Process(target=spin)
    child.start()
    connection.send(child.pid)
    child.join()


def test_nothing_outlives_the_parent(ctx):
    reader, writer = ctx.Pipe(duplex=False)
    parent = ctx.Process(target=have_busy_child, args=(ctx, writer))
    parent.start()
    writer.close()
    grandchild = reader.recv()
    parent.kill()
    parent.join()
    reader.close()
    wait_until_gone(grandchild)


def wait_until_gone(pid):
    while True:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] in "ZX":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.01)


def test_many_at_once(ctx):
    queue = ctx.Queue()
    processes = [ctx.Process(target=put, args=(queue, number)) for number in range(10)]
    for process in processes:
        process.start()
    assert sorted(queue.get() for _ in processes) == list(range(10))
    for process in processes:
        process.join()
        assert process.exitcode == 0


def test_large_argument(ctx):
    queue = ctx.SimpleQueue()
    payload = os.urandom(1 << 16) * 64
    process = ctx.Process(target=put_len, args=(queue, payload))
    process.start()
    assert queue.get() == len(payload)
    process.join()


def put_len(queue, payload):
    queue.put(len(payload))


def test_unpicklable_target_leaves_nothing(ctx, start_method):
    process = ctx.Process(target=abs, args=(threading.Lock(),))
    if start_method == "fork":
        process.start()
        process.join()
        assert process.exitcode == 1
    else:
        with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
            process.start()


def test_a_fork_does_not_wait_for_another_thread_s_import(tmp_path):
    # In the standard library the child waits for ever for the end of that import.
    (tmp_path / "slow.py").write_text("def early():\n    return 1\n\nimport halt\n")
    (tmp_path / "halt.py").write_text("import sys\nsys.began.set()\nsys.done.wait()\n")
    (tmp_path / "program.py").write_text(
        textwrap.dedent("""
            import importlib, manycore, sys, threading
            sys.began, sys.done = threading.Event(), threading.Event()
            def child(queue):
                import slow
                queue.put(slow.early())
            thread = threading.Thread(target=importlib.import_module, args=("slow",))
            thread.start()
            sys.began.wait()
            ctx = manycore.get_context("fork")
            queue = ctx.SimpleQueue()
            process = ctx.Process(target=child, args=(queue,))
            process.start()
            print(queue.get())
            process.join()
            sys.done.set()
            thread.join()
            print("slow" in sys.modules, process.exitcode)
        """)
    )
    command = [sys.executable, "-W", "ignore", tmp_path / "program.py"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\nTrue 0\n", "")


def test_signal_ends_join(ctx):
    def handler(*_):
        raise InterruptedError("ring")

    old = signal.signal(signal.SIGALRM, handler)
    process = ctx.Process(target=sleep_long)
    process.start()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(InterruptedError, match="ring"):
            process.join()
    finally:
        signal.signal(signal.SIGALRM, old)
        process.kill()
        process.join()


def test_log_level_travels(ctx):
    logger = manycore.get_logger()
    before = logger.level
    logger.setLevel(33)
    try:
        queue = ctx.SimpleQueue()
        process = ctx.Process(target=tell_log_level, args=(queue,))
        process.start()
        assert queue.get() == 33
        process.join()
    finally:
        logger.setLevel(before)


def tell_log_level(queue):
    queue.put(util.get_logger().getEffectiveLevel())


def test_log_record_has_the_process_name(ctx):
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=make_record, args=(queue,), name="Chronicler")
    process.start()
    assert queue.get() == "Chronicler"
    process.join()


def make_record(queue):
    queue.put(logging.makeLogRecord({}).processName or record_name())


def record_name():
    return logging.LogRecord("n", 10, "p", 1, "m", (), None).processName


def test_fork_server_is_started_again():
    ctx = manycore.get_context("forkserver")
    server = forkserver._forkserver._forkserver_pid
    os.kill(server, signal.SIGKILL)
    process = ctx.Process(target=leave, args=(3,))
    process.start()
    process.join()
    assert process.exitcode == 3
    assert forkserver._forkserver._forkserver_pid != server


def test_child_of_a_fork_server_that_is_killed():
    ctx = manycore.get_context("forkserver")
    process = ctx.Process(target=sleep_long)
    process.start()
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == 255
    forkserver.ensure_running()


def test_exit_joins_children_and_ends_daemons(start_method, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            import manycore

            def work():
                time.sleep(0.3)
                print("worked", flush=True)

            def idle():
                time.sleep(100)
                print("idled", flush=True)

            if __name__ == "__main__":
                ctx = manycore.get_context(sys.argv[1])
                ctx.Process(target=work).start()
                ctx.Process(target=idle, daemon=True).start()
                print("main ends", flush=True)
            """
        )
    )
    command = [sys.executable, script, start_method]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout.splitlines() == ["main ends", "worked"]
    assert result.stderr == ""
    assert result.returncode == 0


def test_set_executable(tmp_path):
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nWRAPPED=1 exec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    ctx = manycore.get_context("spawn")
    queue = ctx.SimpleQueue()
    ctx.set_executable(str(wrapper))
    try:
        process = ctx.Process(target=tell_environment, args=(queue, "WRAPPED"))
        process.start()
        assert queue.get() == "1"
        process.join()
    finally:
        ctx.set_executable(sys.executable)


def tell_environment(queue, name):
    queue.put(os.environ.get(name))


def put_tracker(queue):
    queue.put(os.stat(resource_tracker._resource_tracker._fd).st_ino)


def test_child_has_the_parent_s_resource_tracker(ctx):
    resource_tracker.ensure_running()
    # A child that does not inherit takes it along only where somebody may have use for it.
    shared = shared_memory.SharedMemory(create=True, size=1)
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=put_tracker, args=(queue,))
    process.start()
    assert queue.get() == os.stat(resource_tracker._resource_tracker._fd).st_ino
    process.join()
    queue.close()
    shared.close()
    shared.unlink()
