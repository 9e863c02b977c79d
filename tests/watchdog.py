"""Kills a test that hangs, from outside, after every process of it has shown its Python stacks.

Runs as a process of its own: ``python watchdog.py PID``. A line on stdin begins a new period of as
many seconds as it says; 0 stops the clock until the next line; the end of stdin ends the watchdog.
"""

import os
import select
import signal
import sys
import time


def descendants(pid: int) -> list[int]:
    """All processes below ``pid``, children first."""
    children = []
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children") as file:
                children += [int(child) for child in file.read().split()]
        except OSError:
            continue
    below = []
    for child in children:
        try:
            below += descendants(child)
        except OSError:
            continue
    return children + below


def strike(pid: int) -> None:
    """Has every process print its stacks and die: faulthandler does both on SIGABRT."""
    hung = [child for child in descendants(pid) if child != os.getpid()]
    print(f"\nwatchdog: {pid} and its children {hung} hang", file=sys.stderr, flush=True)
    for victim in reversed(hung):
        abort(victim)
    show_output(pid)
    abort(pid)


def abort(pid: int) -> None:
    """Sends the signal and gives the stacks time to be written."""
    try:
        os.kill(pid, signal.SIGABRT)
    except ProcessLookupError:
        return
    time.sleep(0.3)


def show_output(pid: int) -> None:
    """What pytest has captured, and would not show any more."""
    for fd in (1, 2):
        path = f"/proc/{pid}/fd/{fd}"
        if os.path.isfile(path):
            with open(path, errors="replace") as file:
                print(f"captured on {fd}:", file.read(), sep="\n", file=sys.stderr, flush=True)


def watch(pid: int) -> None:
    """Obeys stdin."""
    period = 0.0
    while True:
        if not select.select([0], [], [], period or None)[0]:
            strike(pid)
            return
        commands = os.read(0, 4096)
        if not commands:
            return
        period = float(commands.split()[-1])


if __name__ == "__main__":
    watch(int(sys.argv[1]))
