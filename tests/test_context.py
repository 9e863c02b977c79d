import importlib
import multiprocessing.context
import os
import subprocess
import sys
import textwrap

import manycore
import pytest
from manycore.context import _default_context


def run_python(code, *options, **environment):
    result = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    assert result.stderr == ""
    assert result.returncode == 0
    return result.stdout.split()


def test_names_are_those_of_the_standard_library():
    missing = set(multiprocessing.__all__) - set(manycore.__all__)
    assert not missing
    assert set(manycore.__all__) - set(multiprocessing.__all__) == {
        "OwnerDied",
        "RemoteError",
        "Shared",
        "WorkerDied",
        "install",
        "shared",
    }
    for name in manycore.__all__:
        assert hasattr(manycore, name), name


SUBMODULES = [
    "connection", "context", "dummy", "forkserver", "heap", "managers", "pool", "popen_fork",
    "popen_forkserver", "popen_spawn_posix", "process", "queues", "reduction", "resource_sharer",
    "resource_tracker", "shared_memory", "sharedctypes", "spawn", "synchronize", "util",
]  # fmt: skip


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules_have_the_names_of_the_standard_library(name):
    ours = importlib.import_module(f"manycore.{name}")
    theirs = importlib.import_module(f"multiprocessing.{name}")
    for public in theirs.__all__:
        assert hasattr(ours, public), public
    for public in ours.__all__:
        assert hasattr(ours, public), public


def test_contexts(ctx, start_method):
    assert isinstance(ctx, multiprocessing.context.BaseContext)
    assert ctx.get_start_method() == start_method
    assert ctx.get_context() is ctx
    assert ctx.get_context("spawn").get_start_method() == "spawn"
    with pytest.raises(ValueError, match="cannot set start method of concrete context"):
        ctx.set_start_method("fork")
    with pytest.raises(ValueError, match="cannot find context for 'thread'"):
        ctx.get_context("thread")
    assert ctx.cpu_count() == os.cpu_count()
    assert ctx.reducer is manycore.reduction


def test_exceptions():
    assert manycore.TimeoutError is multiprocessing.TimeoutError
    assert manycore.ProcessError is multiprocessing.ProcessError
    assert issubclass(manycore.OwnerDied, manycore.ProcessError)
    assert issubclass(manycore.WorkerDied, manycore.ProcessError)


def test_default_start_method(default_method):
    _default_context._actual_context = None
    assert manycore.get_start_method(allow_none=True) is None
    expected = multiprocessing.get_context()._name
    assert manycore.get_start_method() == expected
    assert manycore.get_start_method(allow_none=True) == expected
    with pytest.raises(RuntimeError, match="context has already been set"):
        manycore.set_start_method("spawn")
    manycore.set_start_method("spawn", force=True)
    assert manycore.get_start_method() == "spawn"
    assert manycore.get_context().get_start_method() == "spawn"
    manycore.set_start_method(None, force=True)
    assert manycore.get_start_method(allow_none=True) is None


def test_all_start_methods():
    assert manycore.get_all_start_methods() == multiprocessing.get_all_start_methods()


def test_environment_names_the_default(start_method):
    code = """
        import manycore
        print(manycore.get_start_method(allow_none=True), manycore.get_start_method())
    """
    output = run_python(code, MANYCORE_START_METHOD=start_method)
    assert output == ["None", start_method]


def test_environment_names_nothing_that_exists():
    code = """
        try:
            import manycore
        except ValueError as error:
            assert "MANYCORE_START_METHOD" in str(error), error
            print("refused")
    """
    assert run_python(code, MANYCORE_START_METHOD="threads") == ["refused"]


def test_starting_leaves_the_standard_library_s_default_alone():
    code = """
        import manycore, multiprocessing
        if __name__ == "__main__":
            for method in ("fork", "spawn", "forkserver"):
                process = manycore.get_context(method).Process()
                process.start()
                process.join()
            print(multiprocessing.get_start_method(allow_none=True))
    """
    assert run_python(code) == ["None"]


def test_import_loads_little():
    code = """
        import sys
        import manycore
        print(*[m for m in sys.modules if m.startswith(("manycore.", "multiprocessing."))])
    """
    heavy = {"pool", "managers", "queues", "connection", "synchronize", "sharedctypes"}
    assert not heavy & {name.partition(".")[2] for name in run_python(code)}


def test_preload_wants_strings():
    with pytest.raises(TypeError, match="module_names must be a list of strings"):
        manycore.set_forkserver_preload([1, 2])


def test_missing_parts_say_so():
    with pytest.raises(NotImplementedError, match="connect_to_new_process"):
        manycore.forkserver.connect_to_new_process([])


def test_install_is_for_all_modules():
    code = """
        import manycore
        manycore.install()
        manycore.install()
        import multiprocessing, multiprocessing.pool, multiprocessing.dummy
        from multiprocessing import Pool, Process, shared_memory, resource_tracker
        from multiprocessing.managers import BaseManager
        import multiprocessing.connection as connection
        import concurrent.futures
        assert multiprocessing is manycore
        for name in "pool managers connection queues synchronize context spawn".split():
            module = __import__(f"multiprocessing.{name}", fromlist=["x"])
            assert module.__name__ == f"manycore.{name}", module
            assert module.__spec__.name == f"manycore.{name}", module.__spec__
        for name in "util process reduction heap shared_memory resource_tracker dummy".split():
            module = __import__(f"multiprocessing.{name}", fromlist=["x"])
            assert module.__name__ == f"multiprocessing.{name}", module
            assert module is getattr(manycore, name)
        assert concurrent.futures.ProcessPoolExecutor.__module__ == "concurrent.futures.process"
        try:
            import multiprocessing.nonsense
        except ModuleNotFoundError as error:
            print(str(error).replace(" ", "_"))
    """
    assert run_python(code) == ["No_module_named_'multiprocessing.nonsense'"]


PROGRAM = """
import sys
import manycore
manycore.install()
import multiprocessing

def child(queue):
    import multiprocessing as again
    from multiprocessing import queues, shared_memory
    queue.put((again.__name__, queues.Queue.__module__, again.get_start_method()))

def f(x):
    if x == 13:
        raise ArithmeticError(x)
    return x * x

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=child, args=(queue,))
    process.start()
    assert queue.get() == ("manycore", "manycore.queues", sys.argv[1])
    process.join()
    assert process.exitcode == 0

    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(2) as executor:
        assert list(executor.map(f, range(10))) == [x * x for x in range(10)]
        try:
            executor.submit(f, 13).result()
        except ArithmeticError as error:
            assert error.args == (13,)
        try:
            executor.submit(lambda: 1).result()
        except Exception as error:
            assert "pickle" in str(error).lower(), error
        assert executor.submit(f, 5).result() == 25
        assert type(executor._mp_context).__module__ == "manycore.context"
        workers = list(executor._processes.values())
        assert {type(worker).__mro__[1].__module__ for worker in workers} == {"manycore.context"}
    from concurrent.futures.process import BrokenProcessPool
    import os, signal
    with ProcessPoolExecutor(1) as executor:
        pid = executor.submit(os.getpid).result()
        os.kill(pid, signal.SIGKILL)
        try:
            executor.submit(f, 1).result()
            executor.submit(f, 1).result()
            print("not broken")
        except BrokenProcessPool:
            pass
    print("fine")
"""


def test_install_reaches_the_children(start_method, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, script, start_method]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stderr == ""
    assert result.stdout == "fine\n"


def test_executor_takes_our_context(ctx):
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        assert list(executor.map(abs, [-1, 2, -3])) == [1, 2, 3]


PRELOAD = """
import sys
import manycore

def child():
    print("child", flush=True)

if __name__ == "__main__":
    manycore.set_start_method("forkserver")
    manycore.set_forkserver_preload(["nothing_of_this_name"], on_error=sys.argv[1])
    process = manycore.Process(target=child)
    process.start()
    process.join()
    print(process.exitcode)
"""


@pytest.mark.parametrize(
    ("on_error", "stdout", "stderr"),
    [
        ("ignore", "child\n0\n", ""),
        ("warn", "child\n0\n", "ImportWarning: Failed to preload module 'nothing_of_this_name'"),
        ("fail", "", "BrokenPipeError: the socket is closed\nForkserver process may have crashed"),
        ("shout", "", "ValueError: on_error must be 'ignore', 'warn', or 'fail', not 'shout'"),
    ],
)
def test_preload_that_fails(tmp_path, on_error, stdout, stderr):
    script = tmp_path / "script.py"
    script.write_text(PRELOAD)
    command = [sys.executable, "-W", "default::ImportWarning", script, on_error]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == stdout
    assert stderr in done.stderr
    if on_error == "fail":
        assert "ModuleNotFoundError: No module named 'nothing_of_this_name'" in done.stderr
    elif not stderr:
        assert done.stderr == ""
