"""Clients for the cases that run a server."""

import http.client
import signal
import socket
import subprocess
import time
from collections.abc import Callable

#: Seconds that a server may take until it answers.
PATIENCE = 120


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def fifty_requests(port: int) -> Callable[[subprocess.Popen[bytes]], str]:
    """Asks the server fifty times when it is there, then ends it with SIGTERM."""

    def use(process: subprocess.Popen[bytes]) -> str:
        answers = _until_there(process, port)
        for number in range(50):
            answers += _get(port, f"/{number}")
        process.send_signal(signal.SIGTERM)
        return answers

    return use


def _until_there(process: subprocess.Popen[bytes], port: int) -> str:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            _get(port, "/")
        except OSError:
            time.sleep(0.1)
        else:
            return ""
    return f"no answer within {PATIENCE} s\n"


def _get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return f"{response.status} {response.read().decode()}\n"
    finally:
        connection.close()
