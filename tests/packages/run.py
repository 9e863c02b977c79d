"""Runs one command with the interpreter alone and under manycore, and compares what it did."""

import contextlib
import difflib
import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

#: Seconds after which a command hangs.
PATIENCE = 600
#: Seconds that the processes of a command that has ended may take to end, too.
GRACE = 10

#: In the environment of a command's processes, and so the way to find them all.
MARK = "PACKAGES_RUN"


@dataclass(frozen=True)
class Case:
    """A command that starts processes, and what is known about its output."""

    name: str
    #: What follows the interpreter.
    arguments: tuple[str, ...]
    #: Writes what the command works on into its folder.
    prepare: Callable[[Path], None] = lambda folder: None
    #: Start methods for `--start-method`; None, if the package chooses one by itself.
    methods: tuple[str | None, ...] = ("fork", "forkserver", "spawn")
    #: The processes that it starts at least. Some may be ended before they have begun.
    processes: int = 2
    #: The processes' targets have this in their name under manycore.
    target: str = ""
    #: A process class of the package itself that is not derived from a context's.
    own_process: str = ""
    #: Regular expressions for what differs in each run, such as times.
    varying: tuple[str, ...] = ()
    #: The lines come in the order in which workers are ready.
    unordered: bool = False
    #: Patterns for files that are not compared, such as pickles with times in them.
    varying_files: tuple[str, ...] = ()
    #: Further commands of the same kind, which show what the first has done.
    then: tuple[tuple[str, ...], ...] = ()
    #: Exit code that shows that it has worked.
    exitcode: int = 0
    #: Works with the running command and ends it; returns what is to be compared, too.
    use: Callable[[subprocess.Popen[bytes]], str] | None = None


@dataclass
class Run:
    """What one run of a command did."""

    exitcode: int
    output: str
    #: What `hook/started_processes.py` has noted.
    noted: list[dict[str, str]]
    #: Processes that outlived it.
    left: list[str]
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def started(self) -> list[dict[str, str]]:
        """The processes, as they were noted by those who started them."""
        return [line for line in self.noted if line["event"] == "started"]

    @property
    def ran(self) -> list[dict[str, str]]:
        """The processes that have begun, as they noted it themselves."""
        return [line for line in self.noted if line["event"] == "runs"]


class CheckError(Exception):
    """The runs differ, or one of them was not what it should be."""


def check(case: Case, method: str | None) -> str:
    """Runs a case both ways and tells how it was; raises CheckError if it should not be so."""
    alone = _run(case, [], method)
    _check(case, alone, "multiprocessing", None)
    options = ["--start-method", method] if method else []
    ours = _run(case, ["-m", "manycore", *options], None)
    if differences := "".join(_differences(alone, ours)):
        raise CheckError(f"not as with the interpreter alone:\n{differences}")
    _check(case, ours, "manycore", method)
    targets = sorted({line["target"] for line in ours.ran} - {"."})
    return " ".join([f"{len(alone.started)} and {len(ours.started)} processes", *targets])


def _run(case: Case, launcher: list[str], method: str | None) -> Run:
    # A short path, always the same length: some packages have sockets below it or wrap lines.
    with tempfile.TemporaryDirectory(prefix="manycore-", ignore_cleanup_errors=True) as top:
        folder = Path(top, "work")
        for path in (folder, Path(top, "home"), Path(top, "tmp")):
            path.mkdir()
        case.prepare(folder)
        environment = _environment(Path(top)) | ({"STDLIB_START_METHOD": method} if method else {})
        python = [sys.executable, *launcher]
        run = _run_in(case, [*python, *case.arguments], Path(top), environment)
        for arguments in case.then:
            only_run = replace(case, use=None)
            after = _run_in(only_run, [*python, *arguments], Path(top), environment)
            run.output += after.output
            run.exitcode = run.exitcode or after.exitcode
        run.files = _files(case, Path(top))
        return run


def _run_in(case: Case, command: list[str], top: Path, environment: dict[str, str]) -> Run:
    mark = uuid.uuid4().hex
    log = top / "started"
    log.touch()
    with open(top / "output", "w+b") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment | {"STARTED_PROCESSES": str(log), MARK: mark},
            cwd=top / "work",
            start_new_session=True,
        )
        used = _wait(case, process, mark)
        left = _left(mark)
        output.seek(0)
        text = output.read().decode(errors="replace")
    noted = [json.loads(line) for line in log.read_text().splitlines()]
    return Run(process.returncode, _normal(case, used + text, top), noted, left)


def _environment(top: Path) -> dict[str, str]:
    keep = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    return keep | {
        "HOME": str(top / "home"),
        "TMPDIR": str(top / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "NO_COLOR": "1",
    }


def _wait(case: Case, process: subprocess.Popen[bytes], mark: str) -> str:
    used = ""
    try:
        if case.use is not None:
            used = case.use(process)
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        # All of them print their stacks first.
        for signum in (signal.SIGABRT, signal.SIGKILL):
            for pid in _marked(mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)
            time.sleep(1)
        used += f"does not end within {PATIENCE} s\n"
        process.wait()
    return used


def _left(mark: str) -> list[str]:
    """The commands of processes that do not end with their command's; they are killed."""
    deadline = time.monotonic() + GRACE
    while (pids := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = []
    for pid in pids:
        with contextlib.suppress(OSError):
            left.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip())
            os.kill(pid, signal.SIGKILL)
    return left


def _marked(mark: str) -> list[int]:
    """The processes that have this mark in their environment."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and f"{MARK}={mark}".encode() in _environ(name):
                found.append(int(name))
    return found


def _environ(pid: str) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def _normal(case: Case, text: str, top: Path) -> str:
    text = text.replace(str(top), "<top>").replace(top.name, "<top>")
    for pattern in case.varying:
        text = re.sub(pattern, "<varies>", text, flags=re.MULTILINE)
    if case.unordered:
        text = "".join(sorted(text.splitlines(keepends=True)))
    return text


def _files(case: Case, top: Path) -> dict[str, bytes]:
    """What the run has written, and what it has left in the folder for temporary files."""
    found = {}
    for part in ("work", "tmp"):
        for path in sorted((top / part).rglob("*")):
            name = str(path.relative_to(top))
            varies = any(fnmatch.fnmatch(name, pattern) for pattern in case.varying_files)
            if path.is_file() and not varies:
                found[name] = path.read_bytes().replace(os.fsencode(top), b"<top>")
    return found


def _check(case: Case, run: Run, system: str, method: str | None) -> None:
    if run.exitcode != case.exitcode:
        raise CheckError(f"exit code {run.exitcode} with {system}\n{run.output}")
    if run.left:
        raise CheckError(f"processes of {system} are left:\n" + "\n".join(run.left))
    if len(run.started) < case.processes or not run.ran:
        raise CheckError(f"{len(run.started)} processes of {system} were started\n{run.output}")
    for line in run.noted:
        if line["process"] == case.own_process:
            # Such a process need not know of manycore; the one that starts it does.
            if line["event"] == "started" and line["multiprocessing"] != system:
                raise CheckError(f"a process was not started under {system}: {line}")
        elif line["multiprocessing"] != system or not line["process"].startswith(f"{system}."):
            raise CheckError(f"a process is not made by {system}: {line}")
    if method and all(line["method"] != method for line in run.ran):
        raise CheckError(f"no process has the start method {method}: {run.ran}")
    if system == "manycore" and all(case.target not in line["target"] for line in run.ran):
        raise CheckError(f"no process runs {case.target}: {run.ran}")


def _differences(plain: Run, run: Run) -> Iterator[str]:
    if plain.exitcode != run.exitcode:
        yield f"exit code {run.exitcode}, not {plain.exitcode}\n"
    yield from _diff("output", plain.output, run.output)
    for name in sorted(plain.files.keys() | run.files.keys()):
        texts = (files.get(name, b"(no such file)") for files in (plain.files, run.files))
        yield from _diff(name, *(text.decode(errors="backslashreplace") for text in texts))


def _diff(name: str, alone: str, ours: str) -> Iterator[str]:
    return difflib.unified_diff(
        alone.splitlines(keepends=True),
        ours.splitlines(keepends=True),
        f"{name}, alone",
        f"{name}, manycore",
    )
