import os
import signal
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import multiprocessing
import multiprocessing.queues
from multiprocessing import Process, Queue
import os, sys

def child(queue):
    import multiprocessing as again
    queue.put([__name__, again.__name__, Queue.__module__, again.get_start_method()])

if __name__ == "__main__":
    queue = Queue()
    process = Process(target=child, args=(queue,))
    process.start()
    names = queue.get()
    process.join()
    main = sys.modules["__main__"]
    print(names[1:], multiprocessing.__name__, sys.argv[1:], main.child is child, process.exitcode)
    print(__file__, sys.path[0], __spec__ and __spec__.name, sys.argv[0])
"""


PACKAGE_WORK = """
import multiprocessing

def child(queue):
    queue.put(f"{__name__} {multiprocessing.__name__}")

def double(number):
    return 2 * number
"""
PACKAGE_MAIN = """
import sys
from multiprocessing import Pool, Process, SimpleQueue
from . import work

# A child does not import the __main__ of a package, here as in the standard library.
if __name__ == "__main__":
    print(__file__, __spec__.name, sys.argv[1:])
    queue = SimpleQueue()
    process = Process(target=work.child, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
    with Pool(2) as pool:
        print(type(pool).__module__, pool.map(work.double, [1, 2]))
"""
PYTEST = """
import multiprocessing
from multiprocessing import Pool, Queue

def double(number):
    return 2 * number

def child(queue):
    queue.put(multiprocessing.__name__)

def test_it():
    with Pool(2) as pool:
        assert type(pool).__module__ == "manycore.pool"
        assert pool.map(double, [1, 2]) == [2, 4]
    queue = Queue()
    process = multiprocessing.Process(target=child, args=(queue,))
    process.start()
    assert queue.get() == "manycore"
    process.join()
"""


def launch(*arguments, **options):
    command = [sys.executable, "-m", "manycore", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.parametrize("by", ["option", "environment"])
def test_script(program, start_method, by):
    if by == "option":
        result = launch("--start-method", start_method, program, "a", "--b")
    else:
        environment = os.environ | {"MANYCORE_START_METHOD": start_method}
        result = launch(program, "a", "--b", env=environment)
    assert result.stderr == ""
    names = ["manycore", "manycore.context", start_method]
    assert result.stdout.splitlines() == [
        f"{names} manycore ['a', '--b'] True 0",
        f"{program} {program.parent} None {program}",
    ]


def test_module(program, start_method):
    result = launch("--start-method", start_method, "-m", "program", "-x", cwd=program.parent)
    assert result.stderr == ""
    names = ["manycore", "manycore.context", start_method]
    assert result.stdout.splitlines() == [
        f"{names} manycore ['-x'] True 0",
        f"{program} {program.parent} program {program}",
    ]


def test_package_with_a_main(tmp_path, start_method):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "work.py").write_text(PACKAGE_WORK)
    (package / "__main__.py").write_text(PACKAGE_MAIN)
    result = launch("--start-method", start_method, "-m", "package", "a", "-m", "b", cwd=tmp_path)
    assert result.stderr == ""
    lines = [f"{package / '__main__.py'} package.__main__ ['a', '-m', 'b']"]
    assert result.stdout.splitlines() == [*lines, "package.work manycore", "manycore.pool [2, 4]"]


def test_command(tmp_path, start_method):
    command = textwrap.dedent(
        """
        import multiprocessing, sys
        from multiprocessing.pool import Pool
        print(multiprocessing.__name__, Pool.__module__, multiprocessing.get_start_method())
        print(sys.argv, repr(sys.path[0]), __name__, __spec__)
        with multiprocessing.Pool(1) as pool:
            print(pool.map(abs, [-1, -2]))
        """
    )
    result = launch("--start-method", start_method, "-c", command, "a", "-c", "b", cwd=tmp_path)
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        f"manycore manycore.pool {start_method}",
        "['-c', 'a', '-c', 'b'] '' __main__ None",
        "[1, 2]",
    ]


@pytest.mark.parametrize(
    "command", ["1/0", "x = = 1", "import sys; sys.exit(3)", "print(__file__)"]
)
def test_command_that_fails(command):
    plain = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    ours = launch("-c", command)
    assert (ours.stderr, ours.stdout) == (plain.stderr, plain.stdout)
    assert ours.returncode == plain.returncode != 0


def test_command_has_the_names_of_a_plain_one():
    command = "print(sorted(globals()), __name__, __spec__, __loader__)"
    plain = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert launch("-c", command).stdout == plain.stdout


def test_pytest(tmp_path, start_method):
    (tmp_path / "test_it.py").write_text(PYTEST)
    options = ("-q", "-p", "no:cacheprovider", "-W", "error")
    result = launch("--start-method", start_method, "-m", "pytest", *options, cwd=tmp_path)
    assert "1 passed" in result.stdout, result.stdout


def test_directory_with_a_main(tmp_path, start_method):
    (tmp_path / "__main__.py").write_text(PROGRAM)
    result = launch("--start-method", "fork", tmp_path)
    assert result.stderr == ""
    assert result.stdout.splitlines()[0].startswith("['manycore', 'manycore.context', 'fork']")


@pytest.mark.parametrize(
    ("code", "exitcode", "stderr"),
    [
        ("raise SystemExit(5)", 5, ""),
        ("raise SystemExit('oh no')", 1, "oh no\n"),
        ("import sys; sys.exit()", 0, ""),
        ("import os; os._exit(9)", 9, ""),
    ],
)
def test_exit(tmp_path, code, exitcode, stderr):
    script = tmp_path / "leave.py"
    script.write_text(code)
    result = launch(script)
    assert (result.returncode, result.stderr) == (exitcode, stderr)


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n    1 / 0\n\nf()\n",
        "x = = 1\n",
        "import nothing_of_this_name\n",
        "import atexit\natexit.register(print, 'bye')\nraise ValueError('text')\n",
    ],
)
def test_traceback_is_the_interpreter_s(tmp_path, code):
    script = tmp_path / "wrong.py"
    script.write_text(code)
    plain = subprocess.run([sys.executable, script], capture_output=True, text=True)
    ours = launch(script)
    assert ours.stderr == plain.stderr
    assert (ours.stdout, ours.returncode) == (plain.stdout, plain.returncode)


def test_keyboard_interrupt(tmp_path):
    script = tmp_path / "interrupted.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    result = launch(script)
    assert result.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in result.stderr


@pytest.mark.parametrize("form", ["{}", "./{}", "../work/{}"])
@pytest.mark.parametrize("what", ["script.py", "directory", "absent.py"])
def test_relative_path_is_as_in_a_plain_run(tmp_path, form, what):
    work = tmp_path / "work"
    (work / "directory").mkdir(parents=True)
    for path in (work / "script.py", work / "directory" / "__main__.py"):
        path.write_text("import sys\nprint(sys.argv, sys.path[0], __file__)\n1 / 0\n")
    command = [form.format(what), "argument"]
    plain = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=work)
    ours = launch(*command, cwd=work)
    assert ours.stdout == plain.stdout
    assert str(work) in ours.stdout + ours.stderr
    if what != "directory":  # runpy's frames are not shown
        assert ours.stderr == plain.stderr


def test_the_working_directory_may_be_gone(tmp_path, program):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && exec "$2" -m manycore "$3"'
    command = ["sh", "-c", script, "sh", str(gone), sys.executable, str(program)]
    # The other methods tell the child the directory, as in the standard library.
    environ = {**os.environ, "MANYCORE_START_METHOD": "fork"}
    result = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert result.stderr == ""
    assert result.stdout.splitlines()[0].endswith("manycore [] True 0")


@pytest.mark.parametrize(
    "arguments", [[], ["--start-method", "thread", "x.py"], ["-m"], ["-c"], ["-m", "-c", "x"]]
)
def test_wrong_usage(arguments):
    result = launch(*arguments)
    assert result.returncode == 2
    assert "usage: python -m manycore" in result.stderr


def test_missing_program(tmp_path):
    result = launch(tmp_path / "absent.py")
    assert result.returncode == 2
    assert "can't open file" in result.stderr
    result = launch("-m", "absent_module")
    assert result.returncode == 1
    assert "No module named absent_module" in result.stderr


def test_main_names_are_those_of_a_plain_run(tmp_path):
    script = tmp_path / "names.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            print(sorted(k for k in globals() if k not in ("__loader__", "__annotations__")))
            print(__name__, __doc__, __package__, __spec__, __file__, sys.argv)
            """
        )
    )
    plain = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert launch(script).stdout == plain.stdout
