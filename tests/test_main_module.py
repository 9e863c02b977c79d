"""What is defined in the main module, however that is run, and children that cannot import it."""

import os
import re
import subprocess
import sys
import textwrap

import pytest
from manycore import _main

pytestmark = pytest.mark.patience(120)


@pytest.fixture
def run(tmp_path):
    """Runs a program in one of several ways, and returns the lines that it prints."""

    def run(text, *arguments, how="script", env=None):
        text = textwrap.dedent(text)
        (tmp_path / "program.py").write_text(text)
        (tmp_path / "package").mkdir(exist_ok=True)
        (tmp_path / "package" / "__init__.py").touch()
        (tmp_path / "package" / "__main__.py").write_text(text)
        command = {
            "script": ["program.py"],
            "-c": ["-c", text],
            "stdin": ["-"],
            "module": ["-m", "program"],
            "package": ["-m", "package"],
            "directory": ["package"],
            "launcher": ["-m", "manycore", "program.py"],
        }[how]
        done = subprocess.run(
            [sys.executable, *command, *arguments],
            input=text if how == "stdin" else None,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | (env or {}),
        )
        assert done.stderr == ""
        assert done.returncode == 0
        return done.stdout.splitlines()

    return run


UNGUARDED = """
import manycore as mp
import functools, os, sys

print("top", flush=True)
ctx = mp.get_context(sys.argv[1])
factor = 3
queue = None

def initialize(q):
    global queue
    queue = q

def put(x):
    queue.put(x)
    return x * factor

class Point:
    def __init__(self, x):
        self.x = x
    def double(self):
        return Point(helper(self.x))

class Wrong(Exception):
    pass

def helper(x):
    return 2 * x

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

@functools.lru_cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

def fail(x):
    raise Wrong(x)

class Worker(ctx.Process):
    def run(self):
        q.put((factor, type(self).__name__))

q = ctx.SimpleQueue()
with ctx.Pool(2, initialize, (q,), maxtasksperchild=2) as pool:
    print(pool.map(put, range(8), chunksize=1), sorted(q.get() for _ in range(8)))
    print(pool.map(lambda x: x + factor, [1]), pool.map(even, [4, 7]), pool.map(fibonacci, [20]))
    points = pool.map(Point.double, [Point(1), Point(2)])
    print([(type(p) is Point, p.x) for p in points], pool.apply(Point(5).double).x)
    print(pool.apply(lambda: lambda x: x * factor)(5))
    print(list(pool.imap_unordered(helper, iter([4]))), pool.starmap(max, [(1, 2)]))
    try:
        pool.apply(fail, ("oh",))
    except Wrong as error:
        print("Wrong", error)
    factor = 10
    print(pool.map(lambda x: x + factor, [1]))
pool.join()

for process in Worker(), ctx.Process(target=put, args=(1,)), ctx.Process(target=q.put, args=(2,)):
    queue = q
    process.start()
    print(q.get())
    process.join()
    print(process.exitcode)
"""


@pytest.mark.parametrize(
    "how", ["script", "-c", "stdin", "module", "package", "directory", "launcher"]
)
def test_no_guard_is_needed(run, start_method, how):
    assert run(UNGUARDED, start_method, how=how) == [
        "top",
        "[0, 3, 6, 9, 12, 15, 18, 21] [0, 1, 2, 3, 4, 5, 6, 7]",
        "[4] [True, False] [6765]",
        "[(True, 2), (True, 4)] 10",
        "15",
        "[8] [2]",
        "Wrong oh",
        "[11]",
        "(10, 'Worker')",
        "0",
        "1",
        "0",
        "2",
        "0",
    ]


GUARDED = """
import {package} as mp
import os, sys

print("imported as", __name__, flush=True)
state = "top"
table = {{}}
queue = None

def show(x):
    return x, __name__, show.__module__, state, sorted(table), os.path.basename(__file__)

class Point:
    made = 0
    def __init__(self, x):
        self.x = x
        Point.made += 1

def read(point):
    return type(point) is Point, type(point).__module__, Point.made, point.x

def initialize(q):
    global queue, state
    queue, state = q, "initialized"

def put(x):
    queue.put(x)
    return state

def nested(method):
    with mp.get_context(method).Pool(1) as pool:
        return pool.apply(show, (3,))

class Worker(mp.Process):
    def run(self):
        queue_of_main = getattr(sys.modules["__main__"], "queue", None)
        sys.exit(3 if queue_of_main is None else 4)

if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    state = "before"
    table["before"] = 1
    Point(0)
    with mp.Pool(1) as pool:
        state = "after"
        table["after"] = 2
        Point.made = 50
        print(pool.map(show, [1, 2]), pool.apply(show, (3,)))
        print(pool.apply(read, (Point(1),)), pool.map(read, [Point(2), Point(3)]))
        point = pool.apply(Point, (4,))
        print(type(point) is Point, type(point).__module__, Point.made)
        print([type(p) is Point for p in pool.imap(Point, [1, 2])])
    queue = mp.SimpleQueue()
    with mp.Pool(1, initialize, (queue,)) as pool:
        print(pool.map(put, [1, 2]), queue.get(), queue.get(), state)
    process = Worker()
    process.start()
    process.join()
    print(process.exitcode)
    process = mp.Process(target=put, args=(1,))
    sys.stderr = sys.__stderr__
    with mp.get_context("fork").Pool(1) as pool:
        pass
    print(sys.argv, "done")
"""


@pytest.mark.parametrize("how", ["script", "module"])
def test_a_guarded_script_is_as_in_the_standard_library(run, start_method, how):
    ours, standard = (
        run(GUARDED.format(package=package), start_method, how=how)
        for package in ("manycore", "multiprocessing")
    )
    if start_method == "forkserver":
        # Some versions of the standard library import it in the server, some in each child.
        ours, standard = ([s for s in out if "imported" not in s] for out in (ours, standard))
    assert sorted(ours) == sorted(standard)
    assert "done" in standard[-1]


def test_definitions_that_the_child_has_not(run, start_method):
    lines = run(
        """
        import manycore as mp, functools, sys

        def f(x):
            return "first", x

        def outer(x):
            return f(x)

        def redefine():
            global f, g
            def f(x):
                return "second", x
            def g(x):
                return "global", x

        class Point:
            pass

        lock = __import__("threading").Lock()

        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            with ctx.Pool(2) as pool:
                def late(x):
                    return helper(x), f(x)[0]
                def helper(x):
                    return "late", x, constant
                class Late:
                    def get(self):
                        return constant
                @functools.lru_cache
                def cached(x):
                    return constant, x
                constant = 5
                print(pool.map(late, [1]), pool.map(Late.get, [Late()]))
                print(type(pool.apply(Late)) is Late, type(pool.apply(Point)) is Point)
                print(pool.map(cached, [1]), pool.apply(outer, (1,)))
                print(pool.map(f, [1]))
                redefine()
                print(pool.map(f, [1]), pool.apply(g, (2,)))
                print(pool.apply(lambda: outer(1)), pool.apply(lambda: lock.locked()))
            pool.join()
            process = ctx.Process(target=late, args=(1,))
            process.start()
            process.join()
            print(process.exitcode)
        """,
        start_method,
    )
    # `outer` and `lock` are the child's own: it has them by name. `f` came with a lambda's helper.
    assert lines[:5] == [
        "[(('late', 1, 5), 'first')] [5]",
        "True True",
        "[(5, 1)] ('first', 1)",
        "[('first', 1)]",
        "[('second', 1)] ('global', 2)",
    ]
    assert lines[5].endswith(" False")
    assert lines[6:] == ["0"]


def test_globals_travel_as_they_are_at_the_call(run, start_method):
    lines = run(
        """
        import manycore as mp, sys
        ctx = mp.get_context(sys.argv[1])
        value, other, mine = [1], "a", "parent's"

        def initialize():
            global mine
            mine = "worker's"

        def read():
            return value, other, mine

        def write():
            global other
            other = other + "w"
            return other

        def keep():
            return other

        with ctx.Pool(1, initialize) as pool:
            print(pool.apply(read))
            value = [2]
            print(pool.apply(read))
            value = [1]
            print(pool.apply(read))
            print(pool.apply(write), pool.apply(write), pool.apply(keep), other)
            other = "b"
            print(pool.apply(keep))
            mine = "changed"
            print(pool.apply(read))
        """,
        start_method,
        how="-c",
    )
    # Before the parent's new values, a forked worker had been sent nothing by these two names,
    # so that its own bindings stay. The others had been sent the first ones.
    other, mine = ("aww", "worker's") if start_method == "fork" else ("b", "changed")
    assert lines == [
        "([1], 'a', \"worker's\")",
        "([2], 'a', \"worker's\")",
        "([1], 'a', \"worker's\")",
        "aw aww aww a",
        other,
        str(([1], other, mine)),
    ]


def test_what_cannot_travel_is_named(run):
    lines = run(
        """
        import manycore as mp, threading
        lock = threading.Lock()
        def locked(x):
            return helper(x)
        def helper(x):
            with lock:
                return x
        with mp.get_context("spawn").Pool(1) as pool:
            try:
                pool.map(locked, [1])
            except Exception as error:
                print(type(error).__name__, error)
            try:
                mp.get_context("spawn").Process(target=locked).start()
            except Exception as error:
                print(type(error).__name__, error)
        """
    )
    expected = (
        "PicklingError helper() uses the global 'lock' of the main module, which cannot be "
        "pickled: TypeError: cannot pickle '_thread.lock' object"
    )
    assert lines == [expected, expected]


def test_what_a_child_has_not_by_name_is_said(run):
    lines = run(
        """
        import manycore as mp
        class Point:
            pass
        def get(queue, answer):
            try:
                queue.get()
            except AttributeError as error:
                answer.put(str(error))
        ctx = mp.get_context("spawn")
        queue, answer = ctx.SimpleQueue(), ctx.SimpleQueue()
        queue.put(Point())
        process = ctx.Process(target=get, args=(queue, answer))
        process.start()
        print(answer.get())
        process.join()
        """
    )
    assert "Can't get attribute 'Point' on <module '__mp_main__', which this process" in lines[0]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_standard_library_s_fork_bomb_is_none(run, method):
    # In the standard library this is a RuntimeError: "An attempt has been made to start …".
    lines = run(
        """
        import manycore as multiprocessing, sys
        def foo():
            print("123")
        multiprocessing.set_start_method(sys.argv[1])
        p = multiprocessing.Process(target=foo)
        p.start()
        p.join()
        sys.exit(p.exitcode)
        """,
        method,
    )
    assert lines == ["123"]


def test_a_guarded_start_that_imports_an_unguarded_one_is_told(run, tmp_path):
    (tmp_path / "careless.py").write_text(
        "import manycore\n"
        "process = manycore.get_context('spawn').Process(target=print)\n"
        "try:\n"
        "    process.start()\n"
        "except RuntimeError as error:\n"
        "    print('bootstrapping phase' in str(error))\n"
        "else:\n"
        "    process.join()\n"
    )
    lines = run(
        """
        import manycore as mp
        if __name__ == "__main__":
            process = mp.get_context("spawn").Process(target=len, args=((),))
            process.start()
            process.join()
        else:
            import careless
        """
    )
    assert lines == ["True"]


def test_a_thread_s_start_counts_as_the_main_thread_s(run, start_method):
    lines = run(
        """
        import manycore as mp, sys, threading
        print("top", flush=True)
        def f(x):
            return x + 1
        def work():
            with mp.get_context(sys.argv[1]).Pool(1) as pool:
                print(pool.map(f, [1]))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """,
        start_method,
    )
    assert lines == ["top", "[2]"]


def test_children_have_the_parent_s_present_state(run, start_method):
    lines = run(
        """
        import manycore as mp, ctypes, os, sys
        def state(name):
            getenv = ctypes.CDLL(None).getenv
            getenv.restype = ctypes.c_char_p
            return os.environ.get(name), getenv(name.encode())
        def others():
            return os.getcwd(), sys.argv, sys.path[-1], len(os.environ) == len(os.environb)
        if __name__ == "__main__":
            os.environ["GOES"] = "old"
            ctx = mp.get_context(sys.argv[1])
            with ctx.Pool(1) as pool:
                print(pool.apply(state, ("GOES",)))
            os.environ["COMES"] = "new"
            os.environ["CHANGES"] = "1"
            os.environb[b"BYTES"] = bytes([255])
            del os.environ["GOES"]
            os.chdir("/")
            sys.argv.append("more")
            sys.path.append("/last")
            with ctx.Pool(1) as pool:
                print(*(pool.apply(state, (name,)) for name in ("GOES", "COMES", "CHANGES")))
                print(pool.apply(others))
                print(pool.apply(os.environb.get, (b"BYTES",)))
        """,
        start_method,
    )
    assert lines == [
        "('old', b'old')",
        "(None, None) ('new', b'new') ('1', b'1')",
        f"('/', ['program.py', '{start_method}', 'more'], '/last', True)",
        "b'\\xff'",
    ]


CLASSES = """
import manycore as mp
import abc, collections, dataclasses, enum, functools, sys, typing

ctx = mp.get_context(sys.argv[1])
K = 10
T = typing.TypeVar("T")

class Tuple(typing.NamedTuple):
    x: int
    y: int = 2

class Generic(typing.Generic[T]):
    def __init__(self, v: T):
        self.v = v

class Abstract(abc.ABC):
    @abc.abstractmethod
    def method(self): ...

class Concrete(Abstract):
    __slots__ = ("a",)
    def __init__(self, a):
        self.a = a
    def method(self):
        return self.a + K
    @classmethod
    def make(cls):
        return cls(3)
    @staticmethod
    def add(x):
        return x + K
    @property
    def product(self):
        return self.a * K

class Meta(type):
    pass

class WithMeta(metaclass=Meta):
    def names(self):
        return type(self).__name__, type(type(self)).__name__

class Flag(enum.Flag):
    R = 1
    W = 2

@dataclasses.dataclass(frozen=True, order=True)
class Data:
    t: Tuple
    l: list = dataclasses.field(default_factory=list)
    class Inner:
        pass

class Node:
    it = None
    def __init__(self):
        self.next = self

Node.it = Node()
Named = collections.namedtuple("Named", "a b")

def same(x):
    return x

with ctx.Pool(2) as pool:
    equal = [Tuple(1), Data(Tuple(1), [1]), Named(1, 2), Flag.R | Flag.W]
    assert pool.map(same, equal) == equal
    others = [Generic(5), Concrete(1), WithMeta(), Data.Inner(), Node.it]
    assert [type(x) for x in pool.map(same, others)] == [type(x) for x in others]
    assert pool.apply(same, (Flag.R,)) is Flag.R
    node = pool.apply(same, (Node(),))
    assert node.next is node
    one = Concrete(1)
    assert pool.apply(one.method) == 11 and pool.map(Concrete.method, [one]) == [11]
    assert pool.apply(Concrete.add, (1,)) == 11 and pool.apply(Concrete.make).a == 3
    assert pool.apply(lambda c: c.product, (one,)) == 10
    assert pool.apply(WithMeta().names) == ("WithMeta", "Meta")
    assert pool.apply(isinstance, (one, Abstract))
    classes = [Tuple, Generic, Concrete, WithMeta, Flag, Data, Named]
    assert pool.apply(same, (classes,)) == classes
    many = pool.map(same, [Data(Tuple(i)) for i in range(3000)])
    assert many == [Data(Tuple(i)) for i in range(3000)]
    K = 20
    assert pool.apply(lambda c: c.method() + K, (one,)) == 41
    print("done")
"""


@pytest.mark.parametrize("how", ["script", "-c"])
def test_kinds_of_classes(run, start_method, how):
    assert run(CLASSES, start_method, how=how) == ["done"]


@pytest.mark.parametrize(
    ("statement", "guarded"),
    [
        ("HERE", False),
        ("if __name__ == '__main__':\n    HERE", True),
        ("if not __name__ != '__main__':\n    for i in 1, 2:\n        with x: HERE", True),
        ("if parent_process() is None:\n    HERE", True),
        ("if mp.current_process().name == 'MainProcess':\n    HERE", True),
        ("if __name__ != '__main__':\n    pass\nelse:\n    HERE", True),
        ("if debug:\n    HERE", False),
        ("try:\n    HERE\nfinally:\n    pass", False),
        ("try:\n    pass\nexcept E:\n    if __name__ == '__main__':\n        HERE", True),
        ("match x:\n    case 1:\n        HERE", False),
        ("__name__ == '__main__' and (\n    HERE)", True),
        ("log(__name__,\n    HERE)", False),
        ("if __name__ == '__main__':\n    pass\nHERE", False),
        ("class A:\n    x = HERE", False),
    ],
)
def test_guards(statement, guarded):
    source = _main.Source("program.py", f"import sys\n{statement}\nend = 1\n")
    line = next(n for n, text in enumerate(statement.splitlines(), 2) if "HERE" in text)
    assert source.is_guarded(line) is guarded


def test_what_an_import_binds():
    source = _main.Source(
        "program.py",
        "import a.b as c, d.e\nfrom x import y\n(g, [h]), i.j = 1, 2\nfor k in z: pass\n"
        "with m as n: pass\nif o: p = 1\nif (q := 1): pass\nclass R:\n    s = 1\n"
        "def t(): u = 1\nif __name__ == '__main__':\n    v = w = 1\n",
    )
    names = "acdeghijkmnopqrstuvwxyz"
    found = {name for name in (*names, "R") if source.binds(name)}
    assert found == set("cdyghknpqRt")


SEEN_BY_A_CHILD = '''
"""What a child sees of its main module."""

import atexit, sys
import {package} as mp

seen = {{name: repr(value) for name, value in vars().items() if name.startswith("__")}}
seen.pop("__builtins__")
seen.update(argv=sys.argv, registered=sys.modules[__name__].__dict__ is globals())

def see(_):
    main = sys.modules["__main__"]
    atexit.register(print, "a worker has come to its end")
    print("not flushed")
    global log
    log = open("log", "w")
    log.write("not closed")
    return seen, main.__name__, main is sys.modules.get("__mp_main__"), see.__module__

def broken():
    if __name__ != "__main__":
        raise ValueError("this import fails in a child")

if "break" in sys.argv:
    broken()

if __name__ == "__main__":
    ctx = mp.get_context(sys.argv[1])
    with ctx.Pool(1) as pool:
        print(pool.map(see, [1]), flush=True)
        pool.close()
        pool.join()
    if sys.argv[1] == "spawn":
        print(open("log").read())
'''


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_imports_the_main_module_as_with_the_standard_library(run, method):
    """Also: the worker's exit functions run, and what it has written is in the file."""
    ours, theirs = (
        run(SEEN_BY_A_CHILD.format(package=package), method)
        for package in ("manycore", "multiprocessing")
    )
    assert "not flushed" in ours
    if method == "spawn":
        assert "a worker has come to its end" in ours
        assert "not closed" in ours
    assert ours == theirs


def test_a_main_module_that_cannot_be_imported_says_where(tmp_path):
    (tmp_path / "program.py").write_text(SEEN_BY_A_CHILD.format(package="manycore"))
    command = [sys.executable, "program.py", "spawn", "break"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(r'program\.py", line \d+, in broken', done.stderr)
    assert "ValueError: this import fails in a child" in done.stderr


INTERRUPTED = """
import os, signal
import manycore as mp

def same(x):
    return x

if __name__ == "__main__":
    ctx = mp.get_context("spawn")
    with ctx.Pool(1) as pool:
        print(pool.map(same, [1]))
    process = ctx.Process(target=print, args=("not reached",))
    process.start()
    process.join()
    print(process.exitcode)
else:
    os.kill(os.getpid(), signal.SIGINT)
"""


def test_ctrl_c_while_a_child_is_started_is_not_in_its_way(run):
    """A pool's worker goes on, a process ends; neither has a traceback, which is the parent's."""
    assert run(INTERRUPTED) == ["[1]", "1"]
