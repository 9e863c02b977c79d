"""The beginning of a process in a fresh interpreter."""

from __future__ import annotations

import io
import os
import runpy
import signal
import sys
from multiprocessing.process import BaseProcess, current_process
from types import ModuleType

from . import _block, _engine, _install, _stdlib, context, popen_fork
from . import _main as main_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "_main",
    "freeze_support",
    "get_command_line",
    "get_executable",
    "get_preparation_data",
    "import_main_path",
    "set_executable",
]

set_executable = _stdlib.spawn.set_executable
get_executable = _stdlib.spawn.get_executable
is_forking = _stdlib.spawn.is_forking
import_main_path = _stdlib.spawn.import_main_path
old_main_modules = _stdlib.spawn.old_main_modules

_PROGRAM = "import sys; sys.path.append({path!r}); from {module} import {call}"


def freeze_support() -> None:
    """In a frozen program that was started as a child: runs the child and does not return."""
    if is_forking(sys.argv):
        pairs = (argument.split("=") for argument in sys.argv[2:])
        spawn_main(**{name: int(value) for name, value in pairs if value != "None"})


def get_command_line(**kwds: int | None) -> list[str | bytes]:
    """The command that starts a child: ``spawn_main(**kwds)`` in a fresh interpreter."""
    pairs = [f"{name}={value!r}" for name, value in kwds.items()]
    if getattr(sys, "frozen", False):
        return [sys.executable, "--multiprocessing-fork", *pairs]
    call = f"spawn_main; spawn_main({', '.join(pairs)})"
    return [*interpreter(), "-c", program("manycore.spawn", call), "--multiprocessing-fork"]


def interpreter() -> list[str | bytes]:
    """The Python executable with the flags that this one was started with."""
    return [get_executable(), *_stdlib.util._args_from_interpreter_flags()]


def program(module: str, call: str) -> str:
    """Source text that imports from ``module``, also where only our own ``sys.path`` has it."""
    return _PROGRAM.format(
        path=os.path.dirname(os.path.dirname(os.path.abspath(__file__))), module=module, call=call
    )


def get_preparation_data(name: str) -> dict[str, Any]:
    """What the child has to know before it can load its process object.

    Raises RuntimeError if this process is itself still importing its main module.
    """
    default = _stdlib.context._default_context
    before = default._actual_context
    try:
        data: dict[str, Any] = _stdlib.spawn.get_preparation_data(name)
    finally:
        # The question which start method it is would settle it for the standard library.
        default._actual_context = before
    # Asking settles nothing here: the program may still choose.
    data["start_method"] = context._default_context.get_start_method(allow_none=True)
    data["manycore_installed"] = _install.is_installed()
    if (managers := sys.modules.get(f"{__package__}.managers")) is not None:
        data["manager_addresses"] = managers.known_addresses()
    return data


def leave_main_behind(data: dict[str, Any]) -> None:
    """Has the child not import the main module, but begin with an empty one."""
    data.pop("init_main_from_name", None)
    data.pop("init_main_from_path", None)
    data["main_stays_behind"] = True


def prepare(data: dict[str, Any]) -> None:
    """Brings this process into the parent's state, up to the import of the main module."""
    data = dict(data)
    if data.pop("manycore_installed", False):
        _install.install()
    if addresses := data.pop("manager_addresses", None):
        from . import managers

        managers.remember(addresses)
    if (environ := data.pop("environ", None)) is not None:
        _set_environ(environ)
    empty_main = data.pop("main_stays_behind", False)
    if (method := data.pop("start_method", None)) is not None:
        context._default_context.set_start_method(method, force=True)
    script = data.pop("init_main_from_path", None)
    _stdlib.spawn.prepare(data)
    if script is not None:
        _import_script(script)
    if empty_main:
        # It must not be collected: what it holds is still in use.
        old_main_modules.append(sys.modules["__main__"])
        main_module.make_empty()


def _import_script(path: str) -> None:
    """Imports the main module, which is this file, as the standard library does.

    It runs source text by itself: what ``runpy.run_path`` needs to find out whether the file is an
    archive, say, takes a tenth of a child's start.
    """
    if not path.endswith(".py") or not os.path.isfile(path) or _main_is(path):
        _stdlib.spawn._fixup_main_from_path(path)
        return
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    old_main_modules.append(sys.modules["__main__"])
    main = ModuleType(main_module.NAMES[1])
    names = runpy._run_module_code(  # type: ignore[attr-defined]
        code, mod_name=main.__name__, pkg_name="", script_name=path
    )
    vars(main).update(names)
    sys.modules.update(dict.fromkeys(main_module.NAMES, main))


def _main_is(path: str) -> bool:
    name = os.path.splitext(os.path.basename(path))[0]
    return name == "ipython" or getattr(sys.modules["__main__"], "__file__", None) == path


def _set_environ(environ: dict[bytes, bytes]) -> None:
    """Makes this the environment, also for what asks the C library."""
    for name in os.environb.keys() - environ.keys():
        del os.environb[name]
    for name, value in environ.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


#: This process was started with SIGINT blocked: an import that Ctrl-C interrupts would say so on
#: stderr, and the parent has it, too.
_interrupts_wait = False


def take_interrupts() -> bool:
    """Has Ctrl-C interrupt this process from here on; False if it has come already."""
    global _interrupts_wait
    try:
        if _interrupts_wait:
            _interrupts_wait = False
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
    except KeyboardInterrupt:
        return False
    return True


def spawn_main(
    data_fd: int, lifeline_fd: int, grace_ms: int, tracker_fd: int | None = None
) -> None:
    """Runs the process that ``data_fd`` describes and exits with its exit code."""
    global _interrupts_wait
    assert is_forking(sys.argv), "Not forking"
    _interrupts_wait = True
    sys.exit(run(data_fd, lifeline_fd, grace_ms, tracker_fd))


def run(data_fd: int, lifeline_fd: int, grace_ms: int, tracker_fd: int | None) -> int:
    """Runs the process that ``data_fd`` describes; for both methods that do not inherit it."""
    for fd in (data_fd, lifeline_fd):
        os.set_inheritable(fd, False)
    _engine.watch_lifeline(lifeline_fd, grace_ms)
    if tracker_fd is not None:
        _stdlib.resource_tracker._resource_tracker._fd = tracker_fd
    return _main(data_fd, lifeline_fd)


def _main(data_fd: int, parent_sentinel: int) -> int:
    with open(data_fd, "rb", closefd=True) as data:
        process_obj = _load(data)
    _block.close_inherited()
    # A pool's worker does so when it can have Ctrl-C.
    if popen_fork.grace_ms(process_obj) > 0 and not take_interrupts():
        return 1
    exitcode: int = process_obj._bootstrap(parent_sentinel)  # type: ignore[attr-defined]
    return exitcode


def _load(data: Any) -> BaseProcess:
    # A process that is started meanwhile is one from an unguarded main module.
    current = current_process()
    current._inheriting = True  # type: ignore[attr-defined]
    try:
        prepare(_stdlib.reduction.pickle.load(data))
        process_obj: BaseProcess = _stdlib.reduction.pickle.load(data)
    finally:
        del current._inheriting  # type: ignore[attr-defined]
    return process_obj


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("spawn")
