"""Connections and managers whose other end runs on the standard library's package."""

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import manycore
import pytest
from manycore import connection, managers

PEER = Path(__file__).parent / "peer.py"
KEY = b"the right key"
FAMILIES = ["AF_UNIX", "AF_INET"]


@cache
def version_of(python):
    """The version of an interpreter that can run the other end, or None."""
    program = "import multiprocessing.managers, sys; print(*sys.version_info[:2])"
    try:
        output = subprocess.run([python, "-c", program], capture_output=True, check=True, text=True)
        return tuple(map(int, output.stdout.split()))
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


@cache
def others():
    """An interpreter for each other version that is installed here."""
    candidates = [shutil.which(f"python3.{minor}") for minor in range(9, 20)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates += map(str, pyenv.glob("versions/3.*/bin/python3"))
    found = {}
    for python in filter(None, candidates):
        version = version_of(python)
        if version not in (None, sys.version_info[:2]):
            found.setdefault(version, python)
    return found


def another():
    """Another Python; rather from the other side of 3.12, which has changed the challenge."""
    here = sys.version_info[:2]
    ranked = sorted(others().items(), key=lambda it: ((it[0] < (3, 12)) != (here < (3, 12)), it[0]))
    return ranked[-1][1] if ranked else None


@pytest.fixture(params=["same", "other"])
def python(request):
    found = sys.executable if request.param == "same" else another()
    if found is None:
        pytest.skip("no other Python is installed here")
    return found


class Peer:
    """The program at the other end."""

    def __init__(self, python, role, address, key):
        command = [python, "-E", str(PEER), role, json.dumps(address), (key or b"").decode()]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def hear(self):
        """What it says next."""
        return json.loads(self.process.stdout.readline())

    def address(self):
        what, address = self.hear()
        assert what == "address"
        return tuple(address) if isinstance(address, list) else address

    def end(self):
        assert self.process.wait() == 0


@pytest.fixture
def start(python):
    """Starts the other end in some role; at the end of the test it is gone."""
    with contextlib.ExitStack() as stack:

        def start(role, address, key=KEY):
            peer = Peer(python, role, address, key)
            stack.enter_context(peer.process)
            stack.callback(peer.process.kill)
            return peer

        yield start


@pytest.fixture
def free(tmp_path):
    """An address of a family, free to be bound."""
    return lambda family: str(tmp_path / "s") if family == "AF_UNIX" else ("127.0.0.1", 0)


def talk(end):
    for size in (0, 5, 20_000, 1 << 20):
        obj = {"size": size, "data": [b"x" * size, "ü", 1.5, None]}
        end.send(obj)
        assert end.recv() == obj
        end.send_bytes(b"y" * size)
        assert end.recv_bytes() == b"y" * size


@pytest.mark.parametrize("key", [KEY, None], ids=["key", "no key"])
@pytest.mark.parametrize("family", FAMILIES)
def test_our_listener(start, free, family, key):
    with connection.Listener(free(family), authkey=key) as listener:
        peer = start("client", listener.address, key)
        with listener.accept() as end:
            talk(end)
        assert peer.hear() == ["closed"]
        peer.end()


@pytest.mark.parametrize("key", [KEY, None], ids=["key", "no key"])
@pytest.mark.parametrize("family", FAMILIES)
def test_our_client(start, free, family, key):
    peer = start("listener", free(family), key)
    with connection.Client(peer.address(), authkey=key) as end:
        assert type(end) is connection.Connection
        talk(end)
    assert peer.hear() == ["closed"]
    peer.end()


@pytest.mark.parametrize("family", FAMILIES)
def test_wrong_key_of_a_client(start, free, family):
    with connection.Listener(free(family), authkey=KEY) as listener:
        peer = start("client", listener.address, b"wrong")
        with pytest.raises(manycore.AuthenticationError, match="digest received was wrong"):
            listener.accept()
        assert peer.hear() == ["refused", "digest sent was rejected"]
        peer.end()


@pytest.mark.parametrize("family", FAMILIES)
def test_wrong_key_of_ours(start, free, family):
    peer = start("listener", free(family), KEY)
    with pytest.raises(manycore.AuthenticationError, match="digest sent was rejected"):
        connection.Client(peer.address(), authkey=b"wrong")
    assert peer.hear() == ["refused", "digest received was wrong"]
    peer.end()


def test_challenges(start, free):
    with connection.Listener(free("AF_UNIX")) as listener:
        peer = start("challenger", listener.address)
        with listener.accept() as end:
            connection.answer_challenge(end, KEY)
            connection.deliver_challenge(end, KEY)
            assert peer.hear() == ["agreed"]
        peer.end()
        peer = start("challenger", listener.address, b"wrong")
        with listener.accept() as end:
            with pytest.raises(manycore.AuthenticationError):
                connection.answer_challenge(end, KEY)
            assert peer.hear()[0] == "refused"
        peer.end()


# ---- managers


class Serving(managers.BaseManager):
    """Serves a queue and a dictionary from a process of its own."""


class Using(managers.BaseManager):
    """Uses those that another process serves."""


# In the serving process: made once.
_queue = cache(queue.Queue)
_dict = cache(lambda: {"who": "manycore"})


def get_queue():
    return _queue()


def get_dict():
    return _dict()


Serving.register("get_queue", callable=get_queue)
Serving.register("get_dict", callable=get_dict, proxytype=managers.DictProxy)
Using.register("get_queue")
Using.register("get_dict", proxytype=managers.DictProxy)

SEEN = ["error", "items", "seen", "who"]


@pytest.mark.parametrize("family", FAMILIES)
def test_our_manager_is_used_remotely(ctx, start, free, family):
    with Serving(free(family), KEY, ctx=ctx) as manager:
        served, shared = manager.get_queue(), manager.get_dict()
        peer = start("user", manager.address)
        served.put(("item", 1))
        assert peer.hear() == ["done"]
        peer.end()
        assert served.get() == [("item", 1), SEEN, "manycore"]
        assert shared.copy() == {
            "who": "manycore",
            "seen": ("item", 1),
            "items": [1, 2.5, None],
            "error": "missing",
        }
        peer = start("user", manager.address, b"wrong")
        assert peer.hear()[0] == "refused"
        peer.end()
        assert len(shared) == 4


@pytest.mark.parametrize("family", FAMILIES)
def test_we_use_a_manager_remotely(start, free, family):
    peer = start("server", free(family))
    address = peer.address()
    wrong = Using(address, b"wrong")
    with pytest.raises(manycore.AuthenticationError):
        wrong.connect()
    manager = Using(address, KEY)
    manager.connect()
    served, shared = manager.get_queue(), manager.get_dict()
    shared["numbers"] = list(range(10))
    assert dict(shared) == {"who": "the standard library", "numbers": list(range(10))}
    with pytest.raises(KeyError, match="missing"):
        shared["missing"]
    other = start("user", address)
    served.put("to the other")
    assert other.hear() == ["done"]
    other.end()
    answer = served.get()
    assert answer == ["to the other", sorted([*SEEN, "numbers"]), "the standard library"]
    with pytest.raises(queue.Empty):
        served.get_nowait()


def use(address, key, out):
    manycore.current_process().authkey = key
    manager = Using(address, key)
    manager.connect()
    manager.get_dict()["from"] = out
    manager.get_queue().put(out)


def test_our_children_use_a_manager_remotely(ctx, start, free):
    peer = start("server", free("AF_INET"))
    address = peer.address()
    process = ctx.Process(target=use, args=(address, KEY, "a child"))
    process.start()
    process.join()
    assert process.exitcode == 0
    manager = Using(address, KEY)
    manager.connect()
    assert (manager.get_queue().get(), manager.get_dict()["from"]) == ("a child", "a child")


def use_proxies(served, shared):
    served.put(sorted(shared.keys()))
    return shared["who"]


def test_proxies_in_tasks(ctx, start, free, monkeypatch):
    # A proxy in a task has no key with it: workers use their own, which is ours.
    monkeypatch.setitem(manycore.current_process()._config, "authkey", KEY)
    peer = start("server", free("AF_UNIX"))
    manager = Using(peer.address(), KEY)
    manager.connect()
    served, shared = manager.get_queue(), manager.get_dict()
    with ctx.Pool(1) as pool:
        assert pool.apply(use_proxies, (served, shared)) == "the standard library"
    pool.join()
    assert served.get() == ["who"]
