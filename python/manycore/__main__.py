"""``python -m manycore program.py …``: runs a program in which multiprocessing is manycore."""

import argparse
import io
import linecache
import os
import runpy
import sys
import types
import zipfile
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, SourceFileLoader

from . import _stdlib, context
from ._install import install

__all__ = ["main"]

_USAGE = """\
python -m manycore [--start-method METHOD] program.py [argument ...]
       python -m manycore [--start-method METHOD] -m module [argument ...]
       python -m manycore [--start-method METHOD] -c command [argument ...]"""


def main(arguments: list[str]) -> None:
    """Becomes the program that ``arguments`` name."""
    options = _parse(arguments)
    if options.start_method is not None:
        # By the environment, so that it holds in every descendant.
        os.environ[_stdlib.START_METHOD_VARIABLE] = options.start_method
        chosen = context._concrete_contexts[options.start_method]
        context._default_context._default_context = chosen
    install()
    target, *sys.argv[1:] = options.program
    if options.module:
        _run_module(target)
    elif options.command:
        _run_command(target)
    elif os.path.isdir(target) or zipfile.is_zipfile(target):
        _run_directory(target)
    else:
        _run_script(target)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m manycore",
        usage=_USAGE,
        description="Run a program, unchanged, in which multiprocessing means manycore.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--start-method",
        choices=tuple(context._concrete_contexts),
        help="the start method of a program that sets none itself",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("-m", dest="module", action="store_true", help="run a module by its name")
    kind.add_argument("-c", dest="command", action="store_true", help="run a program given as text")
    parser.add_argument("program", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.program:
        parser.error("which program?")
    return options


def _run_module(name: str) -> None:
    # The interpreter's own way to run `-m`; it finds the file and sets argv[0].
    sys.argv[0] = "-m"
    _new_main()
    _run(lambda: runpy._run_module_as_main(name))  # type: ignore[attr-defined]


def _run_command(source: str) -> None:
    sys.argv[0] = "-c"
    if not sys.flags.safe_path:
        sys.path[0] = ""
    module = _new_main()
    module.__loader__ = BuiltinImporter
    if sys.version_info >= (3, 13):
        # From then on a traceback shows the lines of the command.
        lines = [line + "\n" for line in source.splitlines()]
        linecache.cache["<string>"] = (len(source), None, lines, "<string>")
    _run(lambda: exec(compile(source, "<string>", "exec", dont_inherit=True), module.__dict__))


def _run_directory(path: str) -> None:
    # A directory or an archive with a `__main__.py`.
    sys.argv[0] = path
    path = _absolute(path)
    if sys.flags.safe_path:
        sys.path.insert(0, path)
    else:
        sys.path[0] = path
    _new_main()
    _run(lambda: runpy._run_module_as_main("__main__", False))  # type: ignore[attr-defined]


def _run_script(path: str) -> None:
    sys.argv[0] = path
    path = _absolute(path)
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        reason = f"[Errno {error.errno}] {error.strerror}"
        print(f"{sys.executable}: can't open file {path!r}: {reason}", file=sys.stderr)
        sys.exit(2)
    module = _new_main()
    module.__file__ = path
    module.__loader__ = SourceFileLoader("__main__", path)
    if sys.version_info < (3, 15):
        module.__dict__["__cached__"] = None
    _run(lambda: exec(compile(source, path, "exec", dont_inherit=True), module.__dict__))


def _absolute(path: str) -> str:
    # As the interpreter does it: nothing else is changed, and an absolute path needs no directory.
    if os.path.isabs(path):
        return path
    try:
        return os.path.join(os.getcwd(), path)
    except OSError:
        return path


def _new_main() -> types.ModuleType:
    """An empty main module in the launcher's place."""
    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=__builtins__)
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    return module


def _run(program: Callable[[], object]) -> None:
    """Runs the program; an exception is shown as the interpreter would, without our frames."""
    try:
        program()
    except Exception as error:  # noqa: BLE001 - the program's own, whatever it is
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in _OURS:
            traceback = traceback.tb_next
        sys.excepthook(type(error), error.with_traceback(traceback), traceback)
        sys.exit(1)


_OURS = {__name__, __package__, "runpy"}

if __name__ == "__main__":
    # The launcher's own module is about to be replaced; run a copy that stays.
    from manycore.__main__ import main as launch

    launch(sys.argv[1:])
