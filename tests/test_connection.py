import array
import multiprocessing.connection
import multiprocessing.resource_sharer
import os
import pickle
import signal
import threading
import time

import manycore
import pytest
from manycore import connection


@pytest.fixture(params=[True, False], ids=["duplex", "simplex"])
def pipe(request):
    reader, writer = manycore.Pipe(request.param)
    with reader, writer:
        yield reader, writer


def test_objects(pipe):
    reader, writer = pipe
    for obj in (1, None, "text", [1, {2: 3}], b"x" * 1000):
        writer.send(obj)
        assert reader.recv() == obj


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 1 << 16, 1 << 22])
def test_bytes(pipe, size):
    reader, writer = pipe
    message = os.urandom(size)
    thread = threading.Thread(target=writer.send_bytes, args=(message,))
    thread.start()
    assert reader.recv_bytes() == message
    thread.join()


def test_parts_of_buffers(pipe):
    reader, writer = pipe
    numbers = array.array("i", range(10))
    writer.send_bytes(numbers)
    assert reader.recv_bytes() == bytes(numbers)
    writer.send_bytes(b"0123456789", 3)
    assert reader.recv_bytes() == b"3456789"
    writer.send_bytes(b"0123456789", 3, 4)
    assert reader.recv_bytes() == b"3456"
    room = bytearray(10)
    writer.send_bytes(b"abc")
    assert reader.recv_bytes_into(room, 2) == 3
    assert room == b"\0\0abc" + bytes(5)
    writer.send_bytes(b"x" * 11)
    with pytest.raises(manycore.BufferTooShort) as info:
        reader.recv_bytes_into(room)
    assert info.value.args == (b"x" * 11,)
    with pytest.raises(ValueError, match="offset"):
        writer.send_bytes(b"", -1)


def test_closed(pipe):
    reader, writer = pipe
    writer.close()
    assert writer.closed
    with pytest.raises(EOFError):
        reader.recv()
    with pytest.raises(OSError, match="handle is closed"):
        writer.send(1)
    reader.close()
    with pytest.raises(OSError, match="handle is closed"):
        reader.poll()


def test_broken():
    reader, writer = manycore.Pipe(False)
    with writer:
        reader.close()
        with pytest.raises(BrokenPipeError):
            writer.send(1)


def test_direction():
    reader, writer = manycore.Pipe(False)
    with reader, writer:
        assert (reader.readable, reader.writable) == (True, False)
        assert (writer.readable, writer.writable) == (False, True)
        with pytest.raises(OSError, match="write-only"):
            writer.recv()
        with pytest.raises(OSError, match="read-only"):
            reader.send(1)


def test_too_long(pipe):
    reader, writer = pipe
    writer.send_bytes(b"12345")
    with pytest.raises(OSError, match="bad message length"):
        reader.recv_bytes(4)
    with pytest.raises(OSError):  # noqa: PT011
        reader.recv_bytes()
    with pytest.raises(ValueError, match="negative"):
        manycore.Pipe()[0].recv_bytes(-1)


def test_end_inside_a_message():
    reader, writer = manycore.Pipe(False)
    with reader:
        os.write(writer.fileno(), b"\0\0\0\x09abc")
        writer.close()
        with pytest.raises(OSError, match="end of file during message"):
            reader.recv_bytes()


def test_poll(pipe):
    reader, writer = pipe
    assert reader.poll() is False
    assert reader.poll(0.01) is False
    assert reader.poll(-1) is False
    writer.send(1)
    assert reader.poll() is True
    assert reader.poll(None) is True
    reader.recv()


def test_wire_format_is_the_standard_library_s():
    ours, theirs = manycore.Pipe()
    with ours, multiprocessing.connection.Connection(os.dup(theirs.fileno())) as original:
        theirs.close()
        for size in (0, 5, 20000):
            ours.send_bytes(b"x" * size)
            assert original.recv_bytes() == b"x" * size
            original.send_bytes(b"y" * size)
            assert ours.recv_bytes() == b"y" * size
        assert isinstance(ours, multiprocessing.connection.Connection)


def test_wait(pipe):
    reader, writer = pipe
    assert connection.wait([reader], 0.01) == []
    writer.send(1)
    assert connection.wait([reader]) == [reader]
    reader.recv()


def ping(end, other):
    other.close()
    while True:
        try:
            end.send(end.recv() + 1)
        except EOFError:
            return


def test_between_processes(ctx):
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=ping, args=(theirs, ours))
    process.start()
    theirs.close()
    for number in range(100):
        ours.send(number)
        assert ours.recv() == number + 1
    ours.close()
    process.join()
    assert process.exitcode == 0


def test_pickles_to_any_process():
    # By the standard library's resource sharer, which serves the descriptor in a thread.
    ours, theirs = manycore.Pipe()
    with ours:
        data = multiprocessing.reduction.ForkingPickler.dumps(theirs)
        theirs.close()
        with pickle.loads(data) as copy:
            assert type(copy) is connection.Connection
            copy.send("over")
            assert ours.recv() == "over"
    multiprocessing.resource_sharer.stop()


def test_listener_and_client():
    with connection.Listener(authkey=b"secret") as listener:
        accepted = []
        thread = threading.Thread(target=lambda: accepted.append(listener.accept()))
        thread.start()
        client = connection.Client(listener.address, authkey=b"secret")
        thread.join()
        with client, accepted[0] as server:
            assert type(client) is type(server) is connection.Connection
            client.send("hello")
            assert server.recv() == "hello"


def test_wrong_key():
    with connection.Listener(authkey=b"secret") as listener:
        errors = []

        def serve():
            try:
                listener.accept()
            except manycore.AuthenticationError as error:
                errors.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(manycore.AuthenticationError):
            connection.Client(listener.address, authkey=b"wrong")
        thread.join()
        assert errors


def test_signals_during_a_message(pipe):
    # The message is larger than the pipe, so both sides wait in the middle of it.
    reader, writer = pipe
    rung = []
    old = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    message = os.urandom(1 << 22)
    received = []

    def receive():
        time.sleep(0.2)
        received.append(reader.recv_bytes())

    thread = threading.Thread(target=receive)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        thread.start()
        writer.send_bytes(message)
        thread.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert rung
    assert received == [message]


def test_bytes_are_those_of_the_pickler(pipe):
    reader, writer = pipe
    numbers = (0, 255, 256, 65535, 65536, -1, 1 << 31, -(1 << 31), 1 << 63, 1.5)
    for obj in (*numbers, None, True, "ü" * 300, b"x" * 300, (1, [2, {3: None}]), {1}, 1j, print):
        writer.send(obj)
        data = reader.recv_bytes()
        assert data == bytes(multiprocessing.reduction.ForkingPickler.dumps(obj))
        writer.send_bytes(data)
        assert reader.recv() == obj


class Registered:
    pass


def _replace(_obj):
    return str, ("registered",)


def test_reducers_count_whenever_they_are_registered(pipe, monkeypatch):
    reader, writer = pipe
    writer.send(Registered())
    assert type(reader.recv()) is Registered
    pickler = multiprocessing.reduction.ForkingPickler
    monkeypatch.setattr(pickler, "_extra_reducers", dict(pickler._extra_reducers))
    pickler.register(Registered, _replace)
    writer.send([Registered()])
    assert reader.recv() == ["registered"]


def test_a_failed_pickle_sends_nothing(pipe):
    reader, writer = pipe
    with pytest.raises((AttributeError, pickle.PicklingError)):
        writer.send([1, lambda: 1])
    writer.send("next")
    assert reader.recv() == "next"


class Closes:
    def __init__(self, end):
        self.end = end
        self.fd = end.fileno()

    def __reduce__(self):
        self.end.close()
        # As another thread might, which has not heard of the connection.
        other = os.open(os.devnull, os.O_RDONLY)
        if other != self.fd:
            os.dup2(other, self.fd)
            os.close(other)
        return str, ()


def test_an_end_that_pickling_closes_sends_nothing(pipe):
    reader, writer = pipe
    closes = Closes(writer)
    try:
        with pytest.raises(OSError, match="handle is closed"):
            writer.send(closes)
    finally:
        os.close(closes.fd)
    with pytest.raises(EOFError):
        reader.recv()


def echo_framed(end, other):
    other.close()
    while True:
        try:
            end.send(end.recv())
        except EOFError:
            end.close()
            return


def test_what_is_written_to_the_descriptor_keeps_its_place(ctx):
    # Messages may go from hand to hand; those that others write go through the kernel.
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=echo_framed, args=(theirs, ours))
    process.start()
    theirs.close()
    for number in range(2000):
        raw = pickle.dumps(("raw", number))
        ours.send(number)
        os.write(ours.fileno(), len(raw).to_bytes(4, "big") + raw)
        ours.send_bytes(pickle.dumps(b"x" * (number % 700)))
        assert ours.recv() == number
        assert ours.recv() == ("raw", number)
        assert ours.recv() == b"x" * (number % 700)
        if number % 3 == 0:
            ours.send("alone")
            assert connection.wait([ours], 60) == [ours]
            assert ours.recv() == "alone"
    ours.send("last")
    assert ours.recv() == "last"
    ours.close()
    process.join()
    assert process.exitcode == 0


def send_and_go(end, n):
    for number in range(n):
        end.send(number)
    end.close()


def test_the_end_comes_after_the_last_message(ctx):
    for n in range(20):
        reader, writer = ctx.Pipe(False)
        process = ctx.Process(target=send_and_go, args=(writer, n))
        process.start()
        writer.close()
        assert [reader.recv() for _ in range(n)] == list(range(n))
        with pytest.raises(EOFError):
            reader.recv()
        reader.close()
        process.join()


def test_threads_with_a_lock_share_an_end():
    ours, theirs = manycore.Pipe()
    lock, received = threading.Lock(), []

    def receive():
        while True:
            with lock:
                number = theirs.recv()
            if number is None:
                return
            received.append(number)

    receivers = [threading.Thread(target=receive) for _ in range(3)]
    senders = [threading.Thread(target=send_all, args=(ours, 1000)) for _ in range(3)]
    for thread in (*receivers, *senders):
        thread.start()
    for thread in senders:
        thread.join()
    for _ in receivers:
        ours.send(None)
    for thread in receivers:
        thread.join()
    assert sorted(received) == sorted([*range(1000)] * 3)
    ours.close()
    theirs.close()


def send_all(end, n):
    for number in range(n):
        end.send(number)


def test_too_long_from_hand_to_hand():
    reader, writer = manycore.Pipe()
    thread = threading.Thread(target=writer.send_bytes, args=(b"12345",))
    timer = threading.Timer(0.05, thread.start)
    timer.start()
    with pytest.raises(OSError, match="bad message length"):
        reader.recv_bytes(4)
    timer.join()
    thread.join()
    writer.close()
    reader.close()


def receive_with_alarms(reader, first):
    # Again and again: one that comes just before the sleep does not end it.
    signal.setitimer(signal.ITIMER_REAL, first, 0.05)
    reader.recv()


@pytest.mark.parametrize("wait", [0.0, 0.00002, 0.05], ids=["at once", "soon", "late"])
def test_a_signal_ends_a_wait(pipe, wait):
    reader, writer = pipe

    def handler(*_):
        raise InterruptedError("ring")

    old = signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(20):
            with pytest.raises(InterruptedError, match="ring"):
                receive_with_alarms(reader, wait or 1e-6)
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    writer.send(1)
    assert reader.recv() == 1


def test_nonblocking(pipe):
    reader, writer = pipe
    os.set_blocking(reader.fileno(), False)
    for _ in range(5):
        with pytest.raises(BlockingIOError):
            reader.recv()
    writer.send(1)
    assert reader.recv() == 1


@pytest.mark.parametrize(
    ("message", "obj"),
    [
        (b"\x80\x05](K\x01}e.", [1, {}]),
        (b"\x80\x05](K\x01K\x02e.more", [1, 2]),
        (b"\x80\x05](K\x01e(K\x02e.", [1, 2]),
    ],
)
def test_pickles_of_other_makers(pipe, message, obj):
    """They may begin as ours of a list do."""
    assert pickle.loads(message) == obj
    reader, writer = pipe
    writer.send_bytes(message)
    assert reader.recv() == obj
