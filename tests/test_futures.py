"""The executor: futures, cancelling, deaths, shutdown, garbage collection and exit."""

import asyncio
import concurrent.futures
import concurrent.futures.process
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import manycore
import pytest
from manycore import futures


@pytest.fixture
def executor(ctx):
    with futures.ProcessPoolExecutor(2, ctx) as executor:
        yield executor


def square(x):
    return x * x


def fail(error):
    raise error


def wait_for(path):
    """Runs until the file is there; says before that it runs."""
    Path(f"{path}.{os.getpid()}").touch()
    while not os.path.exists(path):
        time.sleep(0.002)
    return os.getpid()


class Gate:
    """A file that opens the way for tasks."""

    def __init__(self, directory):
        self.path = str(directory / "gate")
        self.directory = directory

    def open(self):
        Path(self.path).touch()

    def wait_for(self, count):
        while len(list(self.directory.glob("gate.*"))) < count:
            time.sleep(0.002)


@pytest.fixture
def gate(tmp_path):
    gate = Gate(tmp_path)
    yield gate
    gate.open()


def test_it_is_an_executor_of_the_standard_library(executor):
    assert isinstance(executor, concurrent.futures.Executor)
    assert isinstance(executor, concurrent.futures.ProcessPoolExecutor)
    future = executor.submit(square, 3)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result() == 9
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert future.exception() is None
    assert repr(future).endswith("state=finished returned int>")
    assert executor._max_workers == 2


def test_the_module_has_all_names():
    for name in (*concurrent.futures.__all__, "InvalidStateError"):
        if name != "ProcessPoolExecutor":
            assert getattr(futures, name) is getattr(concurrent.futures, name), name
    assert futures.BrokenProcessPool is concurrent.futures.process.BrokenProcessPool
    with pytest.raises(AttributeError):
        futures.nonsense  # noqa: B018


def keywords(*args, **kwargs):
    return args, kwargs


def test_arguments(executor):
    submitted = executor.submit(keywords, 1, 2, fn=3, self=4)
    assert submitted.result() == ((1, 2), {"fn": 3, "self": 4})
    with pytest.raises(TypeError):
        executor.submit(fn=square)


def test_exceptions_have_their_remote_traceback(executor):
    future = executor.submit(fail, ValueError("no"))
    with pytest.raises(ValueError, match="no") as caught:
        future.result()
    assert future.exception() is caught.value
    cause = caught.value.__cause__
    assert type(cause) is concurrent.futures.process._RemoteTraceback
    assert "raise error" in str(cause)


class Treacherous:
    def __init__(self, when):
        self.when = when

    def __reduce__(self):
        if self.when == "pickle":
            raise pickle.PicklingError("not this one")
        return fail, (pickle.UnpicklingError("not here"),)


def make(when):
    return Treacherous(when)


def test_what_cannot_be_pickled_fails_its_future(executor):
    for future, error in [
        (executor.submit(square, Treacherous("pickle")), pickle.PicklingError),
        (executor.submit(square, Treacherous("unpickle")), pickle.UnpicklingError),
        (executor.submit(make, "pickle"), pickle.PicklingError),
        (executor.submit(make, "unpickle"), pickle.UnpicklingError),
    ]:
        with pytest.raises(error) as caught:
            future.result()
        # The frames are those of __reduce__, or of what it named.
        assert "test_futures.py" in str(caught.value.__cause__)
    assert executor.submit(square, 4).result() == 16


def test_wait_and_as_completed(executor, gate):
    slow = executor.submit(wait_for, gate.path)
    quick = [executor.submit(square, n) for n in range(20)]
    done, rest = futures.wait([slow, *quick], return_when=futures.FIRST_COMPLETED)
    assert done
    assert slow in rest
    first = next(iter(futures.as_completed([slow, quick[0]])))
    assert first is quick[0]
    assert {future.result() for future in futures.as_completed(quick)} == {n * n for n in range(20)}
    with pytest.raises(TimeoutError):
        list(futures.as_completed([slow], timeout=0.01))
    bad = executor.submit(fail, KeyError(1))
    done, rest = futures.wait([slow, bad], return_when=futures.FIRST_EXCEPTION)
    assert (done, rest) == ({bad}, {slow})
    gate.open()
    assert futures.wait([slow, bad, *quick]).not_done == set()


def test_a_timeout_leaves_the_future_as_it_is(executor, gate):
    future = executor.submit(wait_for, gate.path)
    for timeout in (0, 0.01, -1):
        with pytest.raises(TimeoutError):
            future.result(timeout)
        with pytest.raises(TimeoutError):
            future.exception(timeout)
    gate.wait_for(1)
    assert future.running()
    gate.open()
    assert future.result() in executor._processes


def test_done_callbacks(executor, gate):
    seen = []
    called = threading.Event()

    def note(future):
        seen.append((future, future.result(), threading.get_ident()))
        called.set()

    future = executor.submit(wait_for, gate.path)
    future.add_done_callback(note)
    future.add_done_callback(lambda future: fail(RuntimeError("for the log")))
    gate.open()
    called.wait()
    assert seen[0][:2] == (future, future.result())
    # As in the standard library it is not the thread that waits for the result.
    assert seen[0][2] != threading.get_ident()
    future.add_done_callback(note)
    assert seen[1][2] == threading.get_ident()


def test_a_done_callback_may_use_the_executor(executor):
    results = []
    over = threading.Event()

    def again(future):
        value = future.result()
        # It waits for another call, which the standard library's thread could not.
        results.append(executor.submit(square, value).result())
        if value < 1000:
            executor.submit(square, value).add_done_callback(again)
        else:
            over.set()

    executor.submit(square, 2).add_done_callback(again)
    over.wait()
    assert results == [16, 256, 65536, 65536**2]


def test_cancel(executor, gate):
    called = []
    running = [executor.submit(wait_for, gate.path) for _ in range(2)]
    gate.wait_for(2)
    waiting = [executor.submit(square, n) for n in range(8)]
    waiting[0].add_done_callback(called.append)
    assert all(future.running() and not future.cancel() for future in running)
    assert not any(future.running() or future.done() for future in waiting)
    for n in (0, 7, 3):
        assert [waiting[n].cancel(), waiting[n].cancel()] == [True, True]
        states = (waiting[n].cancelled(), waiting[n].done(), waiting[n].running())
        assert states == (True, True, False)
        with pytest.raises(concurrent.futures.CancelledError):
            waiting[n].result()
        with pytest.raises(concurrent.futures.CancelledError):
            waiting[n].exception()
    assert called == [waiting[0]]
    assert futures.wait([waiting[7]]).done == {waiting[7]}
    gate.open()
    results = [future.result() for future in waiting if not future.cancelled()]
    assert results == [1, 4, 16, 25, 36]
    assert not waiting[1].cancel()


def test_cancel_wakes_those_who_wait(executor, gate):
    for _ in range(2):
        executor.submit(wait_for, gate.path)
    gate.wait_for(2)
    for look in (
        lambda future: future.exception(),
        lambda future: futures.wait([future]).done.pop().exception(),
        lambda future: next(futures.as_completed([future])).exception(),
    ):
        future = executor.submit(square, 2)
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            waiter = threads.submit(look, future)
            assert future.cancel()
            assert isinstance(waiter.exception(), concurrent.futures.CancelledError)


def test_many_threads_look_at_the_same_futures(executor):
    looks = [
        lambda shared: [future.result() for future in shared],
        lambda shared: [future.exception() for future in shared],
        lambda shared: futures.wait(shared),
        lambda shared: list(futures.as_completed(shared)),
        lambda shared: [future.add_done_callback(hash) for future in shared],
        lambda shared: [future.cancel() for future in reversed(shared)],
    ]
    for _ in range(20):
        shared = [executor.submit(square, n) for n in range(30)]
        with concurrent.futures.ThreadPoolExecutor(len(looks)) as threads:
            for look in [threads.submit(look, shared) for look in looks]:
                error = look.exception()
                assert error is None or isinstance(error, concurrent.futures.CancelledError)
        assert all(future.done() for future in shared)
        values = [None if future.cancelled() else future.result() for future in shared]
        assert all(value in (None, n * n) for n, value in enumerate(values))


def test_asyncio(executor, gate):
    async def main():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, square, n) for n in range(50)]
        assert await asyncio.gather(*calls) == [n * n for n in range(50)]
        with pytest.raises(KeyError):
            await asyncio.wrap_future(executor.submit(fail, KeyError(1)))
        slow = [loop.run_in_executor(executor, wait_for, gate.path) for _ in range(3)]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(slow.pop(), 0.05)
        gate.open()
        assert set(await asyncio.gather(*slow)) <= set(executor._processes)

    asyncio.run(main())


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("buffersize", [None, 1, 4])
def test_map(executor, chunksize, buffersize):
    options = {"chunksize": chunksize, "buffersize": buffersize}
    results = executor.map(pow, range(20), [2] * 15, **options)
    assert list(results) == [n**2 for n in range(15)]
    assert list(executor.map(square, [], **options)) == []
    assert list(executor.map(square, **options)) == []
    results = executor.map(divmod, [1, 1, 1], [1, 1, 0], **options)
    with pytest.raises(ZeroDivisionError):
        list(results)


def test_map_reads_no_more_than_its_buffer(executor):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield taken[-1]

    for chunksize in (1, 3):
        taken.clear()
        results = executor.map(square, endless(), buffersize=2, chunksize=chunksize)
        assert len(taken) == 2 * chunksize
        assert [next(results) for _ in range(10)] == [n * n for n in range(10)]
        assert len(taken) <= (10 + 3) * chunksize
        results.close()


def test_map_refuses_what_it_cannot_do(executor):
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(square, [1], chunksize=0)
    with pytest.raises(ValueError, match="buffersize"):
        executor.map(square, [1], buffersize=0)
    with pytest.raises(TypeError, match="buffersize"):
        executor.map(square, [1], buffersize=1.5)


def test_map_cancels_the_rest_when_it_is_left(executor, gate):
    submit, submitted = executor.submit, []
    executor.submit = lambda *args: submitted.append(submit(*args)) or submitted[-1]
    results = executor.map(wait_for, [gate.path] * 10, timeout=0.01)
    gate.wait_for(2)
    with pytest.raises(TimeoutError):
        next(results)
    assert [future.cancelled() for future in submitted] == [False] * 2 + [True] * 8
    gate.open()
    results = executor.map(square, range(10))
    assert [next(results), next(results)] == [0, 1]
    results.close()
    # Nobody has to take what is left of it.
    futures.wait(submitted)


def test_map_goes_through_submit(executor):
    """As tqdm's ``process_map`` has it."""
    calls = []
    submit = executor.submit

    def counted(fn, /, *args, **kwargs):
        future = submit(fn, *args, **kwargs)
        future.add_done_callback(calls.append)
        return future

    executor.submit = counted
    assert list(executor.map(square, range(10))) == [n * n for n in range(10)]
    executor.shutdown()
    assert len(calls) == 10


def pid_and_die():
    os._exit(7)


def test_a_worker_that_dies_costs_its_own_task(executor, gate):
    before = [executor.submit(square, n) for n in range(20)]
    doomed = executor.submit(pid_and_die)
    after = [executor.submit(square, n) for n in range(20)]
    with pytest.raises(concurrent.futures.process.BrokenProcessPool) as caught:
        doomed.result()
    assert isinstance(caught.value, manycore.WorkerDied)
    assert isinstance(caught.value, concurrent.futures.BrokenExecutor)
    assert caught.value.exitcode == 7
    assert [future.result() for future in before + after] == [n * n for n in range(20)] * 2
    stuck = [executor.submit(wait_for, gate.path) for _ in range(2)]
    gate.wait_for(2)
    victim = next(iter(executor._processes.values()))
    victim.kill()
    done, rest = futures.wait(stuck, return_when=futures.FIRST_COMPLETED)
    assert done.pop().exception().pid == victim.pid
    gate.open()
    assert rest.pop().result() != victim.pid
    assert executor.submit(square, 5).result() == 25


def test_death_is_seen_by_every_way_to_wait(executor):
    for look in (
        lambda future: future.exception(),
        lambda future: futures.wait([future]).done.pop().exception(),
        lambda future: next(futures.as_completed([future])).exception(),
    ):
        assert isinstance(look(executor.submit(pid_and_die)), manycore.WorkerDied)
    seen, called = [], threading.Event()
    executor.submit(pid_and_die).add_done_callback(
        lambda future: seen.append(future.exception()) or called.set()
    )
    called.wait()
    assert isinstance(seen[0], manycore.WorkerDied)


def set_up(value):
    global state
    state = value


def get_state():
    return state


def test_initializer(ctx):
    with futures.ProcessPoolExecutor(2, ctx, set_up, ("ready",)) as executor:
        calls = [executor.submit(get_state) for _ in range(10)]
        assert {future.result() for future in calls} == {"ready"}


def wait_and_fail(path, error):
    wait_for(path)
    raise error


def test_an_initializer_that_raises_breaks_the_executor(ctx, gate):
    initargs = (gate.path, ValueError("bad start"))
    executor = futures.ProcessPoolExecutor(2, ctx, wait_and_fail, initargs)
    calls = [executor.submit(square, n) for n in range(5)]
    gate.open()
    errors = [future.exception() for future in calls]
    for error in errors:
        assert type(error) is concurrent.futures.process.BrokenProcessPool
        assert "bad start" in str(error)
        assert "Traceback" in str(error.__cause__)
    assert len(set(map(id, errors))) == 5
    for _ in range(2):
        with pytest.raises(concurrent.futures.process.BrokenProcessPool):
            executor.submit(square, 1)
        executor.shutdown()


def test_workers_come_when_they_are_needed(start_method, ctx, gate):
    with futures.ProcessPoolExecutor(3, ctx) as executor:
        assert len(executor._processes) == 0
        for n in range(5):
            executor.submit(square, n).result()
        assert len(executor._processes) == (3 if start_method == "fork" else 1)
        for _ in range(2):
            executor.submit(wait_for, gate.path)
        assert len(executor._processes) == (3 if start_method == "fork" else 2)
        processes = executor._processes
        gate.open()
    assert executor._processes is None
    assert processes == {}


def test_max_tasks_per_child():
    context = manycore.get_context("forkserver")
    with futures.ProcessPoolExecutor(2, context, max_tasks_per_child=2) as executor:
        calls = [executor.submit(os.getpid) for _ in range(21)]
        pids = [future.result() for future in calls]
        assert all(pids.count(pid) <= 2 for pid in pids)
        calls = [executor.submit(square, n) for n in range(21)]
    assert [future.result() for future in calls] == [n * n for n in range(21)]


def test_wrong_arguments(ctx):
    for workers in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            futures.ProcessPoolExecutor(workers)
    with pytest.raises(TypeError):
        futures.ProcessPoolExecutor(2.5)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        futures.ProcessPoolExecutor(initializer=1)
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        futures.ProcessPoolExecutor(max_tasks_per_child=0)
    with pytest.raises(TypeError, match="max_tasks_per_child must be an integer"):
        futures.ProcessPoolExecutor(max_tasks_per_child="1")
    with pytest.raises(ValueError, match="incompatible with the 'fork'"):
        futures.ProcessPoolExecutor(1, manycore.get_context("fork"), max_tasks_per_child=1)
    spawning = futures.ProcessPoolExecutor(1, max_tasks_per_child=1)
    assert spawning._mp_context.get_start_method() == "spawn"
    theirs = manycore._stdlib.package.get_context(ctx.get_start_method())
    executor = futures.ProcessPoolExecutor(1, theirs)
    assert executor._mp_context is ctx


def test_shutdown(ctx):
    executor = futures.ProcessPoolExecutor(2, ctx)
    calls = [executor.submit(square, n) for n in range(50)]
    executor.shutdown()
    assert [future.result() for future in calls] == [n * n for n in range(50)]
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 1)
    executor.shutdown()
    unused = futures.ProcessPoolExecutor(2, ctx)
    unused.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        unused.submit(square, 1)


def test_shutdown_cancels(ctx, gate):
    executor = futures.ProcessPoolExecutor(2, ctx)
    running = [executor.submit(wait_for, gate.path) for _ in range(2)]
    gate.wait_for(2)
    calls = [executor.submit(square, n) for n in range(50)]
    cancelled = []
    calls[0].add_done_callback(cancelled.append)
    executor.shutdown(wait=False)
    assert not any(future.done() for future in calls)
    executor.shutdown(wait=False, cancel_futures=True)
    assert futures.wait(calls).not_done == set()
    assert all(future.cancelled() for future in calls)
    gate.open()
    assert all(future.result() for future in running)
    executor.shutdown()
    assert cancelled == [calls[0]]


def test_shutdown_while_others_submit(ctx):
    executor = futures.ProcessPoolExecutor(2, ctx)
    accepted = []

    def submit_for_ever():
        while True:
            accepted.append(executor.submit(square, 3))

    def flood():
        with pytest.raises(RuntimeError, match="after shutdown"):
            submit_for_ever()

    threads = [threading.Thread(target=flood) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(accepted) < 100:
        time.sleep(0.001)
    executor.shutdown()
    for thread in threads:
        thread.join()
    assert all(future.result() == 9 for future in accepted)


@pytest.mark.parametrize("end", ["terminate_workers", "kill_workers"])
def test_ending_the_workers(ctx, gate, end):
    executor = futures.ProcessPoolExecutor(2, ctx)
    running = [executor.submit(wait_for, gate.path) for _ in range(2)]
    gate.wait_for(2)
    waiting = [executor.submit(square, n) for n in range(10)]
    processes = list(executor._processes.values())
    getattr(executor, end)()
    for future in running:
        assert isinstance(future.exception(), concurrent.futures.process.BrokenProcessPool)
    assert all(future.cancelled() for future in waiting)
    signals = {"terminate_workers": -signal.SIGTERM, "kill_workers": -signal.SIGKILL}
    for process in processes:
        process.join()
        # It may have left by itself, once told to.
        assert process.exitcode == signals[end]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 1)
    getattr(executor, end)()
    getattr(futures.ProcessPoolExecutor(1, ctx), end)()
    with pytest.raises(ValueError, match="Unsupported operation"):
        executor._force_shutdown("tickle")


def test_an_executor_that_is_collected_finishes_its_work(ctx, gate):
    executor = futures.ProcessPoolExecutor(2, ctx)
    calls = [executor.submit(wait_for, gate.path) for _ in range(2)]
    calls += [executor.submit(square, n) for n in range(20)]
    processes = executor._processes
    manager = executor._executor_manager_thread
    reference = weakref.ref(executor)
    del executor
    gc.collect()
    assert reference() is None
    assert manager.is_alive()
    gate.open()
    assert [future.result() for future in calls[2:]] == [n * n for n in range(20)]
    manager.join()
    assert not manager.is_alive()
    assert processes == {}


class Marked:
    def __call__(self):
        return 1


def test_arguments_and_results_are_released(executor):
    # A worker keeps none of them either, but this looks at the parent.
    argument = Marked()
    reference = weakref.ref(argument)
    executor.submit(argument)
    del argument
    assert reference() is None
    for result in executor.map(make_marked, range(5)):
        reference = weakref.ref(result)
        del result
        gc.collect()
        assert reference() is None
    future = executor.submit(square, 2)
    future.result()
    reference = weakref.ref(future)
    del future
    assert reference() is None


def make_marked(_):
    return Marked()


def test_a_fork_cannot_use_the_executor(executor):
    future = executor.submit(square, 2)
    assert future.result() == 4
    pid = os.fork()
    if pid == 0:
        try:
            executor.submit(square, 2)
        except RuntimeError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert executor.submit(square, 3).result() == 9


def nested(method):
    executor = futures.ProcessPoolExecutor(1, manycore.get_context(method))
    # It is left to the end of this process to shut it down.
    globals()["kept"] = executor
    return executor.submit(square, 5).result()


def test_an_executor_in_a_worker(start_method, executor):
    assert executor.submit(nested, start_method).result() == 25


SCRIPT = """
import os, sys, time
import manycore
from manycore import futures

def report(seconds, text):
    time.sleep(seconds)
    # In one piece, whoever else writes.
    os.write(1, f"{text}\\n".encode())

if __name__ == "__main__":
    executor = futures.ProcessPoolExecutor(2, manycore.get_context(sys.argv[1]))
    {body}
"""


def run(tmp_path, start_method, body):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("{body}", body.replace("\n", "\n    ")))
    result = subprocess.run(
        [sys.executable, str(script), start_method], capture_output=True, text=True, timeout=50
    )
    return result.returncode, sorted(result.stdout.split()), result.stderr


@pytest.mark.parametrize(
    "shutdown", ["pass", "executor.shutdown(wait=False)", "del executor", "1 / 0"]
)
def test_the_exit_waits_for_pending_work(tmp_path, start_method, shutdown):
    body = "for n in range(4):\n    executor.submit(report, 0.1, n)\n" + shutdown
    code, out, err = run(tmp_path, start_method, body)
    assert out == ["0", "1", "2", "3"]
    assert (code, err) == (0, "") if shutdown != "1 / 0" else "ZeroDivisionError" in err


def test_the_exit_waits_only_for_what_was_not_cancelled(tmp_path, start_method):
    body = (
        "executor.submit(report, 0.1, 0)\n"
        "for n in range(1, 100): executor.submit(report, 60, n)\n"
        "executor.submit(report, 0, 0).cancel()\n"
        "time.sleep(0)\n"
        "executor.kill_workers()\n"
    )
    code, out, err = run(tmp_path, start_method, body)
    assert (code, err) == (0, "")
    assert out in ([], ["0"])


def test_submitting_at_the_exit(tmp_path, start_method):
    body = (
        "import atexit\n"
        "atexit.register(lambda: executor.submit(report, 0, 2))\n"
        "executor.submit(report, 0, 1).result()\n"
    )
    _, out, err = run(tmp_path, start_method, body)
    assert out == ["1"]
    assert "RuntimeError: cannot schedule new futures after interpreter shutdown" in err


def test_an_executor_in_a_child_process(tmp_path, start_method):
    body = (
        "import script_child\n"
        "process = manycore.get_context(sys.argv[1]).Process(target=script_child.main)\n"
        "process.start(); process.join(); print(process.exitcode)\n"
    )
    child = SCRIPT.partition("if __name__")[0] + (
        "def main():\n"
        "    global executor\n"
        "    executor = futures.ProcessPoolExecutor(1)\n"
        "    executor.submit(report, 0.1, 'child')\n"
    )
    (tmp_path / "script_child.py").write_text(child)
    assert run(tmp_path, start_method, body) == (0, ["0", "child"], "")


def test_the_import_of_manycore_leaves_concurrent_futures_alone():
    code = (
        "import sys, manycore\n"
        "assert 'concurrent.futures' not in sys.modules\n"
        "from concurrent.futures.process import BrokenProcessPool\n"
        "assert issubclass(manycore.WorkerDied, BrokenProcessPool)\n"
        "assert issubclass(manycore.WorkerDied, manycore.ProcessError)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_worker_died_can_be_pickled():
    error = pickle.loads(pickle.dumps(manycore.WorkerDied("gone", 1, -9, 2)))
    assert (error.args, error.pid, error.exitcode, error.task) == (("gone",), 1, -9, 2)


def interrupt_once():
    """What is unpickled by calling this is interrupted, as by Ctrl-C, the first time."""
    if not interrupts:
        interrupts.append(True)
        raise KeyboardInterrupt
    return "arrived"


interrupts = []


class Interrupted:
    def __reduce__(self):
        return interrupt_once, ()


def make_interrupted():
    return Interrupted()


def test_an_interrupt_costs_no_result(executor, ctx):
    interrupts.clear()
    future = executor.submit(make_interrupted)
    with pytest.raises(KeyboardInterrupt):
        future.result()
    assert future.result() == "arrived"
    interrupts.clear()
    with ctx.Pool(1) as pool:
        result = pool.apply_async(make_interrupted)
        with pytest.raises(KeyboardInterrupt):
            result.get()
        assert result.get() == "arrived"
        pool.close()
        pool.join()


def raise_interrupt():
    raise KeyboardInterrupt


def test_an_interrupt_of_the_worker_is_an_outcome(executor):
    future = executor.submit(raise_interrupt)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            future.result()
    assert isinstance(future.exception(), KeyboardInterrupt)


@pytest.mark.parametrize("cancels", [False, True])
def test_an_interrupt_leaves_no_future_without_its_outcome(executor, gate, monkeypatch, cancels):
    name = "set_running_or_notify_cancel" if cancels else "set_result"
    once = []

    def interrupted(future, *args):
        if not once:
            once.append(True)
            raise KeyboardInterrupt
        return getattr(futures.Future, name)(future, *args)

    busy = [executor.submit(wait_for, gate.path) for _ in range(2)] if cancels else []
    gate.wait_for(len(busy))
    future = executor.submit(square, 3)
    monkeypatch.setattr(type(future), name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        future.cancel() if cancels else future.result()
    assert once
    gate.open()
    if cancels:
        assert future.cancelled()
        with pytest.raises(futures.CancelledError):
            future.result()
    else:
        assert future.result() == 9
    assert len(futures.wait([*busy, future]).done) == len(busy) + 1
