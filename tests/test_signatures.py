"""The whole API of the running Python's multiprocessing, as names and signatures.

Both packages are walked, and the modules, classes, functions, methods and properties of the
standard library must be in ours, of the same kind and with the same parameters. Parameters that
only we have must be keyword-only.
"""

import importlib
import inspect
import itertools
import multiprocessing
import pkgutil
import sys
import types
from collections.abc import Iterator

import manycore
import pytest

#: What differs by intent: for each place the reason.
ACCEPTED = {
    "multiprocessing.context.DefaultContext": "its argument is optional from Python 3.14 on",
    "multiprocessing.forkserver.main": "called by the engine's own command line only",
    "multiprocessing.spawn.spawn_main": "called by the engine's own command line only",
    "multiprocessing.pool.MapResult": "made by the pool only, of the engine's parts",
    "multiprocessing.pool.IMapIterator": "made by the pool only, of the engine's parts",
    "multiprocessing.pool.IMapUnorderedIterator": "made by the pool only, of the engine's parts",
}

#: Parameters that have a default in ours only: for each the reason.
OPTIONAL = {"size_or_initializer": "an array with a shape needs neither"}

SUBMODULES = pkgutil.walk_packages(multiprocessing.__path__, "multiprocessing.")
MODULES = ["multiprocessing", *(name for _, name, _ in SUBMODULES if not name.endswith("_win32"))]
#: One object of each class whose methods come with the instance.
OBJECTS = {
    "Barrier": lambda mp: mp.Barrier(2),
    "BoundedSemaphore": lambda mp: mp.BoundedSemaphore(),
    "Condition": lambda mp: mp.Condition(),
    "Event": lambda mp: mp.Event(),
    "JoinableQueue": lambda mp: mp.JoinableQueue(),
    "Lock": lambda mp: mp.Lock(),
    "Queue": lambda mp: mp.Queue(),
    "RLock": lambda mp: mp.RLock(),
    "Semaphore": lambda mp: mp.Semaphore(),
    "SimpleQueue": lambda mp: mp.SimpleQueue(),
    "Array": lambda mp: mp.Array("i", 3),
    "Array of c": lambda mp: mp.Array("c", 3),
    "Value": lambda mp: mp.Value("i"),
    "Process": lambda mp: mp.Process(),
    "context": lambda mp: mp.get_context(),
    "fork context": lambda mp: mp.get_context("fork"),
    "spawn context": lambda mp: mp.get_context("spawn"),
    "forkserver context": lambda mp: mp.get_context("forkserver"),
}
KEYWORD = inspect.Parameter.KEYWORD_ONLY
SLOTS = (types.WrapperDescriptorType, types.MethodWrapperType)
POSITIONAL = inspect.Parameter.POSITIONAL_ONLY


def differences(theirs: object, ours: object, where: str) -> Iterator[str]:
    """What a user of ``theirs`` would miss in ``ours``."""
    if kind(theirs) != kind(ours):
        yield f"{where}: {kind(ours)} instead of {kind(theirs)}"
    elif isinstance(theirs, type):
        yield from of_namespaces(theirs, ours, where)
        yield from of_signatures(theirs, ours, where)
    elif callable(theirs):
        yield from of_signatures(theirs, ours, where)
    elif isinstance(theirs, (str, int, float, tuple)) and theirs != ours:
        yield f"{where}: {ours!r} instead of {theirs!r}"


def kind(thing: object) -> str:
    """What a program can do with it: call it, subclass it, read it."""
    if isinstance(thing, type):
        return "class"
    if isinstance(thing, (property, types.GetSetDescriptorType, types.MemberDescriptorType)):
        return "property"
    if isinstance(thing, types.ModuleType):
        return "module"
    return "callable" if callable(thing) else "value"


def of_namespaces(theirs: object, ours: object, where: str) -> Iterator[str]:
    """The same for what is named in them."""
    for name in public(theirs):
        their, our = attribute(theirs, name), attribute(ours, name)
        if our is None and their is not None:
            yield f"{where}.{name}: missing"
        else:
            yield from differences(their, our, f"{where}.{name}")


def attribute(thing: object, name: str) -> object:
    """The attribute; of a property the property itself, which may have no value yet."""
    static = inspect.getattr_static(thing, name, None)
    return static if kind(static) == "property" else getattr(thing, name, None)


def public(thing: object) -> list[str]:
    """Its names without underscore, and those that syntax uses."""
    if isinstance(thing, types.ModuleType):
        return [name for name in vars(thing) if not name.startswith("_") and is_api(thing, name)]
    syntax = {"__enter__", "__exit__", "__iter__", "__next__", "__len__", "__getitem__", "__call__"}
    syntax |= {"__setitem__", "__delitem__", "__contains__", "__class_getitem__"}
    names = dir(thing)
    return [name for name in names if not name.startswith("_") or name in syntax]


def is_api(module: types.ModuleType, name: str) -> bool:
    """Not a module or class that it has only imported from elsewhere for itself."""
    thing = getattr(module, name)
    home = thing.__name__ if isinstance(thing, types.ModuleType) else thing_home(thing)
    return home.split(".")[0] in ("multiprocessing", "_multiprocessing", "")


def thing_home(thing: object) -> str:
    home = getattr(thing, "__module__", None) if callable(thing) else None
    return home if isinstance(home, str) else ""


def of_signatures(theirs: object, ours: object, where: str) -> Iterator[str]:
    their, our = signature(theirs), signature(ours)
    if their is None:  # it is written in C and does not tell
        return
    if our is None:
        yield f"{where}: no signature instead of {their}"
        return
    if isinstance(ours, SLOTS):  # syntax calls it, and gives no names
        our = our.replace(parameters=renamed(our, their))
    ours_left = dict(our.parameters)
    matches = all(
        same(parameter, ours_left.pop(name, None)) for name, parameter in their.parameters.items()
    )
    order = [name for name in our.parameters if name in their.parameters]
    extra = [parameter.name for parameter in ours_left.values() if parameter.kind is not KEYWORD]
    if not matches or extra or order != list(their.parameters):
        yield f"{where}: {bare(our)} instead of {bare(their)}"


def renamed(ours: inspect.Signature, theirs: inspect.Signature) -> list[inspect.Parameter]:
    """Our parameters by their names, as far as there are some."""
    pairs = itertools.zip_longest(ours.parameters.values(), theirs.parameters.values())
    return [
        our.replace(name=their.name, kind=their.kind) if their else our
        for our, their in pairs
        if our
    ]


def signature(thing: object) -> inspect.Signature | None:
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return None
    # Nobody passes `self` by its name, and methods in Rust do not take it so.
    first, *others = found.parameters.values() or [None]
    if first is None or first.name != "self":
        return found
    return found.replace(parameters=[first.replace(kind=POSITIONAL), *others])


def same(their: inspect.Parameter, our: inspect.Parameter | None) -> bool:
    if our is None or their.kind != our.kind:
        return False
    if their.name in OPTIONAL:
        return their.default is their.empty
    plain = (str, int, float, tuple, type(None), type, dict)
    if isinstance(their.default, plain):
        return their.default == our.default
    return (their.default is their.empty) == (our.default is our.empty)


def bare(signature: inspect.Signature) -> str:
    """The signature without annotations."""
    parameters = signature.parameters.values()
    stripped = [parameter.replace(annotation=parameter.empty) for parameter in parameters]
    return str(inspect.Signature(stripped))


@pytest.fixture(scope="module", autouse=True)
def everything_is_loaded(warm):
    """Submodules are attributes once they are loaded; so is the standard library's arena."""
    for name in MODULES:
        theirs_and_ours(name)
    multiprocessing.RawValue("i")


def theirs_and_ours(name: str) -> tuple[types.ModuleType, types.ModuleType]:
    ours = name.replace("multiprocessing", "manycore", 1)
    return importlib.import_module(name), importlib.import_module(ours)


def unexpected(found: Iterator[str]) -> list[str]:
    return [line for line in found if line.partition(": ")[0] not in ACCEPTED]


@pytest.mark.parametrize("name", MODULES)
def test_module(name):
    theirs, ours = theirs_and_ours(name)
    assert unexpected(of_namespaces(theirs, ours, name)) == []


@pytest.mark.parametrize("name", MODULES)
def test_all(name):
    theirs, ours = theirs_and_ours(name)
    assert hasattr(theirs, "__all__") == hasattr(ours, "__all__")
    theirs_all, ours_all = (set(getattr(module, "__all__", ())) for module in (theirs, ours))
    assert theirs_all == ours_all or (name == "multiprocessing" and theirs_all < ours_all)
    assert [name for name in getattr(ours, "__all__", ()) if not hasattr(ours, name)] == []


@pytest.mark.parametrize("name", OBJECTS)
def test_object(name):
    theirs, ours = OBJECTS[name](multiprocessing), OBJECTS[name](manycore)
    assert unexpected(of_namespaces(theirs, ours, f"{name}()")) == []


@pytest.mark.parametrize("place", ACCEPTED)
def test_accepted_difference_exists(place):
    name, _, attribute = place.rpartition(".")
    theirs, ours = theirs_and_ours(name)
    found = list(differences(getattr(theirs, attribute), getattr(ours, attribute), place))
    assert found or sys.version_info >= (3, 14)


def test_walk_finds_what_differs():
    """The walk itself: a test that finds nothing anywhere would pass for ever."""

    class Theirs:
        def same(self, a, b=1): ...
        def renamed(self, a): ...
        def other_default(self, a=1): ...
        def positional(self, a): ...
        def keyword(self, a): ...
        def missing(self): ...

        value = property()

    class Ours:
        def same(self, a, b=1): ...
        def renamed(self, b): ...
        def other_default(self, a=2): ...
        def positional(self, a, b=None): ...
        def keyword(self, a, *, b=None): ...
        def value(self): ...

    found = [line.partition(": ")[0] for line in of_namespaces(Theirs, Ours, "X")]
    assert found == ["X.missing", "X.other_default", "X.positional", "X.renamed", "X.value"]
