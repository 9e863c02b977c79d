"""An environment in which a Python takes manycore for its ``multiprocessing``."""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
PACKAGE = TOP / "python"
REQUIREMENTS = TOP / "requirements-test.txt"
#: Where the environments and the results are, unless somebody wants them elsewhere.
WORK = Path(sys.prefix) / "cpython"

METHODS = ("fork", "forkserver", "spawn")

_KINDS = {
    "manager": 'only_type="manager"',
    "misc": "exclude_types=True",
    "processes": 'only_type="processes"',
    "threads": 'only_type="threads"',
}

_STAND_IN = """\
from test._test_multiprocessing import install_tests_in_module_dict

install_tests_in_module_dict(globals(), {method!r}, {kind})
"""


@dataclass(frozen=True)
class Python:
    """An interpreter and the command that starts it; it may need others before it."""

    command: tuple[str, ...]
    version: str

    @classmethod
    def find(cls, command: str) -> "Python":
        """The interpreter that ``command``, words as in a shell, starts."""
        words = tuple(shlex.split(command))
        version = _output([*words, "-c", "import platform; print(platform.python_version())"])
        return cls(words, version)

    @property
    def minor(self) -> str:
        """Its version without the last part."""
        return self.version.rpartition(".")[0]

    def environment(self, under: Path) -> "Python":
        """Its environment below ``under``, made if it is not there."""
        home = under / self.minor
        python = Python((*self.command[:-1], str(home / "bin" / "python")), self.version)
        if not (home / "ready").exists():
            shutil.rmtree(home, ignore_errors=True)
            _check([*self.command, "-m", "venv", "--without-pip", str(home)])
            _furnish(home, python)
            (home / "ready").touch()
        return python


def _furnish(home: Path, python: Python) -> None:
    where = _output(
        [*python.command, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    )
    packages = home / Path(where).relative_to(home)
    _install(packages, python)
    # The dot makes it the first to be read.
    path_file = f"{PACKAGE}\n{HERE / 'hook'}\nimport multiprocessing_is_manycore\n"
    (packages / "manycore.pth").write_text(path_file)
    for method in METHODS:
        package = home / "stand_ins" / f"test_multiprocessing_{method}"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        for name, kind in _KINDS.items():
            text = _STAND_IN.format(method=method, kind=kind)
            (package / f"test_{name}.py").write_text(text)


def _install(packages: Path, python: Python) -> None:
    """Installs what the tests import, by the pip of this environment: the other may have none."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--target", str(packages), "--python-version", python.minor]
    # Or it would look at the version of the Python that it runs on.
    options += ["--only-binary", ":all:", "--ignore-requires-python", "--no-compile"]
    for requirement in REQUIREMENTS.read_text().splitlines():
        if not requirement or requirement.startswith("#"):
            continue
        name = requirement.partition("==")[0]
        # A new Python may need a newer version than the one that is pinned, or have none yet.
        for choice in (requirement, name):
            if subprocess.run([*pip, *options, choice]).returncode == 0:
                break
        else:
            print(
                f"no {name} for Python {python.minor}: its tests will be skipped", file=sys.stderr
            )
    # Else every child that imports them does it again where nobody may write bytecode. What is not
    # valid in this Python, such as a template, says so when it is imported.
    subprocess.run([*python.command, "-W", "ignore", "-m", "compileall", "-qq", str(packages)])


def modules(python: Python) -> dict[str, list[str]]:
    """The test modules of each suite, by the suite's name."""
    suites = {
        method: [f"test.test_multiprocessing_{method}.test_{kind}" for kind in _KINDS]
        for method in METHODS
    }
    suites["main"] = ["test.test_multiprocessing_main_handling"]
    found = _output([*python.command, "-c", _FIND]).split()
    suites["forkserver"] += [name for name in found if name.endswith("test_preload")]
    futures = [name for name in found if "concurrent_futures" in name]
    if futures:
        # Once with the standard library's executor, which then stands on manycore, once with ours.
        suites["futures"] = suites["executor"] = futures
    return suites


_FIND = """
import os, test
for package, wanted in (
    ("test_multiprocessing_forkserver", {"test_preload.py"}),
    ("test_concurrent_futures", None),
):
    home = os.path.join(os.path.dirname(test.__file__), package)
    for name in sorted(os.listdir(home) if os.path.isdir(home) else ()):
        if name.startswith("test_") and name.endswith(".py") and (not wanted or name in wanted):
            print(f"test.{package}.{name[:-3]}")
"""


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _check(command: list[str]) -> None:
    subprocess.run(command, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
