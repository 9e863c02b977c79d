"""The main module: whether a child can import it, and what the child would find there.

The standard library has every child that it does not fork import the main module, so that what is
defined there is known by name. Some main modules cannot be imported, those of a notebook or of
``python -c``; others must not be, for their import would start the same processes again.
"""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Iterable, Iterator
from multiprocessing import process
from types import FrameType, FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Source", "make_empty", "namespace", "source", "stays_behind"]

#: What the main module is called in the process that runs it, and in its children.
NAMES = ("__main__", "__mp_main__")

_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST, without the import of ast
_DEFINITIONS = ("FunctionDef", "AsyncFunctionDef", "ClassDef")
_SUITES = ("body", "orelse", "finalbody", "handlers", "cases")
# Asked for, these say whether the process is a child.
_GUARDS = frozenset(("__name__", "parent_process", "current_process"))


def namespace() -> dict[str, Any]:
    """The main module's names."""
    return vars(sys.modules["__main__"])


class _Empty(ModuleType):
    """The main module of a child that is sent what it needs by value."""

    def __repr__(self) -> str:
        # Seen in "Can't get attribute … on …", when something was sent by its name after all.
        return f"<module {self.__name__!r}, which this process does not import from its parent>"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"Can't get attribute {name!r} on {self!r}")


def make_empty() -> None:
    """Replaces the main module by an empty one."""
    module = _Empty(NAMES[1])
    vars(module)["__builtins__"] = builtins
    sys.modules.update(dict.fromkeys(NAMES, module))


def stays_behind(method: str) -> bool:
    """Whether what is defined in the main module goes to children by value.

    Under fork that is so in a notebook and at a prompt, where definitions come and go, and where
    there is no file. Otherwise it is so if the child cannot import the main module, or if that
    would call again what is being called now: the ``if __name__ == "__main__"`` guard is missing.
    """
    if method == "fork":
        return hasattr(sys, "ps1") or not _is_file()
    return not _is_importable() or _runs_unguarded()


def _is_file() -> bool:
    """Whether the main module comes from a file or a package."""
    return _spec_name() is not None or _path() is not None


def _is_importable() -> bool:
    """Whether the standard library would import the main module in a child."""
    name = _spec_name()
    if name is not None:
        return name != "__main__" and not name.endswith(".__main__")
    path = _path()
    # The standard library leaves out this one, whose start script used to have no guard.
    return path is not None and os.path.splitext(os.path.basename(path))[0] != "ipython"


def _spec_name() -> str | None:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return getattr(spec, "name", None)


def _path() -> str | None:
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path is None:
        return None
    path = _absolute(path)
    return path if os.path.exists(path) or _loader_knows(path) else None


def _absolute(path: str) -> str:
    """The path as of the directory that the program was started in."""
    directory: str = process.ORIGINAL_DIR or ""  # type: ignore[attr-defined]
    return os.path.normpath(os.path.join(directory, path))


def _loader_knows(path: str) -> bool:
    # A file in an archive, say; but not "<stdin>".
    loader = getattr(sys.modules["__main__"], "__loader__", None)
    archive: str | None = getattr(loader, "archive", None)
    return archive is not None and path.startswith(archive)


def _runs_unguarded() -> bool:
    """Whether the statement of the main module that is being run would run in a child, too."""
    frame = _outermost(sys._getframe())
    if frame is None:
        # Another thread: what the main one does is started there, too.
        frame = _outermost(sys._current_frames().get(_main_thread_id()))
    if frame is None:
        return False
    text = source(frame.f_code.co_filename)
    return text is not None and not text.is_guarded(frame.f_lineno)


def _main_thread_id() -> int:
    import threading

    return threading.main_thread().ident or 0


def _outermost(frame: FrameType | None) -> FrameType | None:
    """The frame of the main module itself, below ``frame``."""
    found = None
    names, path = namespace(), _path()
    while frame is not None:
        code = frame.f_code
        if frame.f_globals is names and code.co_name == "<module>":
            # Others run code in these names, too: a debugger, say.
            found = frame if _absolute(code.co_filename) == path else found
        frame = frame.f_back
    return found


class Source:
    """What the text of a main module says about its import by a child."""

    def __init__(self, path: str, text: str | bytes) -> None:
        self._path = path
        tree: Any = compile(text, path, "exec", _ONLY_AST, dont_inherit=True)
        self._body: list[Any] = tree.body
        self._lines: dict[str, set[int]] | None = None
        self._guarded: set[str] = set()

    def is_guarded(self, line: int) -> bool:
        """Whether the statement at ``line`` runs only in the process that is not a child."""
        return any(
            _mentions(node.test) if type(node).__name__ == "If" else _compares(node)
            for node in _enclosing(self._body, line)
        )

    def binds(self, name: str) -> bool:
        """Whether a child that imports the module has this name, for all that we know."""
        return name in self._defined()

    def defines(self, name: str, value: object) -> bool:
        """Whether a child has the same function or class by this name."""
        lines = self._defined().get(name)
        if lines is None:
            return False
        code = getattr(_unwrapped(value), "__code__", None)
        if code is not None and self._is_here(code.co_filename):
            return code.co_firstlineno in lines
        return name not in self._guarded

    def _is_here(self, filename: str) -> bool:
        return os.path.basename(filename) == os.path.basename(self._path)

    def _defined(self) -> dict[str, set[int]]:
        """The names that the import binds, each with the lines of its definitions."""
        if self._lines is None:
            lines: dict[str, set[int]] = {}
            for name, line, guarded in _bindings(self._body, False):
                if guarded:
                    self._guarded.add(name)
                else:
                    lines.setdefault(name, set()).add(line)
            self._lines = lines
        return self._lines


_sources: dict[str, Source | None] = {}


def source(path: str | None = None) -> Source | None:
    """What there is to know from a source file, the main module's by default."""
    if path is None:
        path = getattr(sys.modules["__main__"], "__file__", None)
    if path is None:
        return None
    path = _absolute(path)
    if path not in _sources:
        _sources[path] = _read(path)
    return _sources[path]


def _read(path: str) -> Source | None:
    try:
        with open(path, "rb") as file:
            text: str | bytes | None = file.read()
    except OSError:
        text = _loaded(sys.modules["__main__"])
    try:
        return None if text is None else Source(path, text)
    except (SyntaxError, ValueError):
        # Compiled code, for example; or the file has been edited meanwhile.
        return None


def _loaded(module: ModuleType) -> str | None:
    get_source = getattr(getattr(module, "__loader__", None), "get_source", None)
    try:
        return get_source(_spec_name() or "__main__") if get_source else None
    except (ImportError, OSError):
        return None


def _enclosing(body: list[Any], line: int) -> Iterator[Any]:
    """The statements around a line, from the outside."""
    for node in body:
        if getattr(node, "lineno", line) <= line <= getattr(node, "end_lineno", line):
            yield node
            for suite in _suites(node):
                yield from _enclosing(suite, line)


def _suites(node: Any) -> Iterator[list[Any]]:
    return (suite for name in _SUITES if isinstance(suite := getattr(node, name, None), list))


def _bindings(body: list[Any], guarded: bool) -> Iterator[tuple[str, int, bool]]:
    """Each name that the statements bind, the line, and whether that is behind a guard."""
    for node in body:
        kind = type(node).__name__
        if kind in _DEFINITIONS:
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            yield node.name, first, guarded
            continue
        if kind in ("Import", "ImportFrom"):
            for alias in node.names:
                yield (alias.asname or alias.name).partition(".")[0], node.lineno, guarded
        for inner in _walk(_expressions(node)):
            if type(inner).__name__ == "Name" and type(inner.ctx).__name__ == "Store":
                yield inner.id, inner.lineno, guarded
        behind = guarded or (kind == "If" and _mentions(node.test))
        for suite in _suites(node):
            yield from _bindings(suite, behind)


def _expressions(node: Any) -> Iterator[Any]:
    """The parts of a statement that are not statements."""
    for name in node._fields:
        if name not in _SUITES:
            yield getattr(node, name, None)


def _walk(parts: Iterable[Any]) -> Iterator[Any]:
    """All nodes below, and the parts themselves."""
    for part in parts:
        if isinstance(part, list):
            yield from _walk(part)
        elif hasattr(part, "_fields"):
            yield part
            yield from _walk(getattr(part, name, None) for name in part._fields)


def _mentions(expression: Any) -> bool:
    return any(
        getattr(node, "id", None) in _GUARDS or getattr(node, "attr", None) in _GUARDS
        for node in _walk([expression])
    )


def _compares(statement: Any) -> bool:
    """Whether an expression such as ``__name__ == "__main__" and main()`` is its own guard."""
    return any(
        type(node).__name__ == "Compare" and _mentions(node)
        for node in _walk(_expressions(statement))
    )


def _unwrapped(value: Any) -> Any:
    """The function that decorators have wrapped."""
    seen = set()
    while not isinstance(value, type) and hasattr(value, "__wrapped__") and id(value) not in seen:
        seen.add(id(value))
        value = value.__wrapped__
    return value if isinstance(value, FunctionType) else None
