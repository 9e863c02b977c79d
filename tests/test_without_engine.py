"""manycore where there is no engine: the same names over the standard library, and one warning."""

import importlib
import json
import multiprocessing
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import demo
import manycore
import pytest
from test_readme import BLOCKS, DROP_IN

METHODS = ("fork", "spawn", "forkserver")
EXAMPLES = Path(demo.__file__).parent
WARNING = "RuntimeWarning: manycore works without its engine (MANYCORE_ENGINE=stdlib)"


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "MANYCORE_ENGINE": "stdlib", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def output(done) -> str:
    """What a program printed that ended well and warned once."""
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("RuntimeWarning") == done.stderr.count(WARNING) == 1, done.stderr
    return done.stdout


NAMES = """
import importlib, json, sys
found = {}
for name in json.loads(sys.argv[1]):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", None)
    missing = [it for it in exported or () if not hasattr(module, it)]
    found[name] = [module.__name__, exported, missing]
print(json.dumps(found))
"""


def test_names():
    found = pkgutil.walk_packages(multiprocessing.__path__, "manycore.")
    modules = [name for _, name, _ in found if not name.endswith("_win32")]
    without = json.loads(output(run("-c", NAMES, json.dumps(["manycore", *modules]))))
    assert without.pop("manycore") == ["manycore", manycore.__all__, []]
    assert list(without) == modules
    for name, (home, exported, missing) in without.items():
        assert not missing
        assert home == name.replace("manycore", "multiprocessing", 1)
        ours = getattr(importlib.import_module(name), "__all__", None)
        assert sorted(exported or ()) == sorted(ours or ())


def test_shared_needs_the_engine():
    code = "import manycore; print(manycore.Shared.__name__); manycore.shared([1])"
    done = run("-c", code)
    assert done.stdout == "Shared\n"
    assert "NotImplementedError: manycore.shared needs the engine" in done.stderr


def test_modules_are_the_standard_library_s():
    code = """if True:
        import concurrent.futures, multiprocessing.pool, multiprocessing.dummy.connection
        import manycore.pool, manycore.dummy.connection, manycore.futures
        assert manycore.pool is multiprocessing.pool
        assert manycore.dummy.connection is multiprocessing.dummy.connection
        assert manycore.futures is concurrent.futures
        assert manycore.pool.__spec__.name == "multiprocessing.pool"
        assert manycore.Process is multiprocessing.Process
        assert issubclass(manycore.WorkerDied, multiprocessing.ProcessError)
        assert manycore.__version__ != ""
        manycore.install()
        import multiprocessing as again
        assert again is multiprocessing
    """
    assert output(run("-c", code)) == ""


def test_engine_is_not_there():
    done = run("-c", "import manycore._engine")
    assert "NotImplementedError: manycore._engine: manycore works without its engine" in done.stderr


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("code", "expected"), DROP_IN, ids=range(len(DROP_IN)))
def test_readme_block(code, expected, method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(code)
    assert output(run(script, MANYCORE_START_METHOD=method)) == expected


@pytest.mark.parametrize("method", METHODS)
def test_install_in_the_readme(method, tmp_path):
    [(code, expected)] = [block for block in BLOCKS if "install()" in block[0]]
    script = tmp_path / "script.py"
    script.write_text(code)
    printed = output(run(script, MANYCORE_START_METHOD=method))
    assert printed == expected.replace("manycore", "multiprocessing")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("program", demo.ROUNDS)
def test_example(program, method):
    script = EXAMPLES / f"{program}.py"
    printed = output(run("-m", "manycore", "--start-method", method, script, "--quick"))
    assert f"Pool of multiprocessing.context, start method {method}" in printed
    cases = {case for case, *_ in demo.measurements(printed)}
    assert cases
    for case in cases:
        assert len({digest for c, _, _, digest in demo.measurements(printed) if c == case}) == 1


CHILDREN = """
import manycore as mp
from manycore import process

def names(queue):
    queue.put([mp.Pool.__func__.__module__, process.__name__, mp.get_start_method()])

if __name__ == "__main__":
    queue = mp.Queue()
    children = [mp.Process(target=names, args=(queue,)) for _ in range(3)]
    for child in children:
        child.start()
    print([queue.get() for _ in children])
    with mp.Pool(2) as pool:
        print(pool.map(abs, [-1, -2]))
    for child in children:
        child.join()
"""


@pytest.mark.parametrize("method", METHODS)
def test_children_inherit_the_choice_and_do_not_warn(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(CHILDREN)
    names = ["multiprocessing.context", "multiprocessing.process", method]
    expected = f"{[names] * 3}\n[1, 2]\n"
    assert output(run(script, MANYCORE_START_METHOD=method)) == expected


def test_two_programs_warn_each():
    for _ in range(2):
        output(run("-c", "import manycore"))


@pytest.mark.parametrize("name", ["Rust", "none", " "])
def test_unknown_engine(name):
    done = run("-c", "import manycore", MANYCORE_ENGINE=name)
    assert (
        f"ValueError: MANYCORE_ENGINE={name!r}: it is 'rust' or 'stdlib', or not set" in done.stderr
    )


@pytest.mark.parametrize("name", ["", "rust"])
def test_engine_by_name(name):
    done = run(
        "-c", "import manycore; print(manycore.Pool.__func__.__module__)", MANYCORE_ENGINE=name
    )
    assert (done.stdout, done.stderr) == ("manycore.context\n", "")


def test_unknown_start_method():
    done = run("-c", "import manycore", MANYCORE_START_METHOD="thread")
    assert "ValueError: MANYCORE_START_METHOD='thread': a start method is one of" in done.stderr


@pytest.fixture
def elsewhere(tmp_path):
    """The package as it is on a system for which there is no engine."""
    source = Path(manycore.__file__).parent
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(source, tmp_path / "manycore", ignore=ignore)
    return str(tmp_path)


def test_without_a_compiled_module(elsewhere):
    code = "import manycore; print(manycore.__file__, manycore.Pool.__func__.__module__)"
    done = run("-c", code, MANYCORE_ENGINE="", PYTHONPATH=elsewhere)
    assert done.stdout == f"{elsewhere}/manycore/__init__.py multiprocessing.context\n"
    assert f"(this installation has none for {sys.platform})" in done.stderr


def test_engine_that_is_wanted_and_not_there(elsewhere):
    done = run("-c", "import manycore", MANYCORE_ENGINE="rust", PYTHONPATH=elsewhere)
    assert "ImportError: MANYCORE_ENGINE=rust, but this installation has none" in done.stderr


def test_engine_that_cannot_be_loaded(elsewhere):
    Path(elsewhere, "manycore", "_engine.abi3.so").write_bytes(b"not a library")
    done = run("-c", "import manycore", MANYCORE_ENGINE="", PYTHONPATH=elsewhere)
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    assert "RuntimeWarning" not in done.stderr
