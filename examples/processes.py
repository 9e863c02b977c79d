"""Processes by hand: they run at the same time, and they share only what you share."""

import multiprocessing
import time

from report import QUICK, introduce, report

PAUSE = 0.01 if QUICK else 0.1
INCREMENTS = 200 if QUICK else 5_000


def print_squares(numbers):
    for number in numbers:
        time.sleep(PAUSE)
        print(f"  the square of {number} is {number * number}", flush=True)


def print_cubes(numbers):
    for number in numbers:
        time.sleep(PAUSE)
        print(f"  the cube of {number} is {number**3}", flush=True)


def squares_and_cubes():
    numbers = range(1, 7)
    start = time.perf_counter()
    print_squares(numbers)
    print_cubes(numbers)
    done = [0, 0]  # what the exit codes of the two processes should be
    report("squares and cubes", "serial", time.perf_counter() - start, done)

    start = time.perf_counter()
    squares = multiprocessing.Process(target=print_squares, args=(numbers,))
    cubes = multiprocessing.Process(target=print_cubes, args=(numbers,))
    squares.start()
    cubes.start()
    squares.join()
    cubes.join()
    exits = [squares.exitcode, cubes.exitcode]
    report("squares and cubes", "two processes", time.perf_counter() - start, exits)


collected = []


def collect(numbers):
    for number in numbers:
        collected.append(number * number)
    print(f"  in the child the list is {collected}", flush=True)


def a_list_is_not_shared():
    child = multiprocessing.Process(target=collect, args=([1, 2, 3],))
    child.start()
    child.join()
    print(f"in the parent the list is {collected}")


def deposit(balance, counts, place, times):
    for _ in range(times):
        with balance.get_lock():
            balance.value += 0.5
        with counts.get_lock():
            counts[place] += 1


def shared_memory_is():
    start = time.perf_counter()
    total, places = 0.0, [0] * 4
    for place in range(4):
        for _ in range(INCREMENTS):
            total += 0.5
            places[place] += 1
    report("shared counters", "serial", time.perf_counter() - start, [total, places])

    start = time.perf_counter()
    balance = multiprocessing.Value("d", 0.0)
    counts = multiprocessing.Array("i", 4)
    children = [
        multiprocessing.Process(target=deposit, args=(balance, counts, place, INCREMENTS))
        for place in range(4)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    seconds = time.perf_counter() - start
    report("shared counters", "four processes", seconds, [balance.value, counts[:]])


def introduce_yourself():
    me = multiprocessing.current_process()
    print(f"  I am {me.name}, my pid is {me.pid}", flush=True)
    try:
        me.join()
    except AssertionError as error:
        print(f"  and I cannot wait for myself: {error}", flush=True)


def who_is_who():
    introduce_yourself()
    child = multiprocessing.Process(target=introduce_yourself, name="the child")
    child.start()
    child.join()
    print(f"this machine has {multiprocessing.cpu_count()} processors")


def wait_long(running, line):
    print("  the daemon runs", flush=True)
    running.set()
    time.sleep(60)


def start_a_daemon(line):
    running = multiprocessing.Event()
    daemon = multiprocessing.Process(target=wait_long, args=(running, line), daemon=True)
    daemon.start()
    running.wait()


def a_daemon_ends_with_its_parent():
    reader, writer = multiprocessing.Pipe(duplex=False)
    parent = multiprocessing.Process(target=start_a_daemon, args=(writer,))
    start = time.perf_counter()
    parent.start()
    writer.close()
    try:
        reader.recv()
    except EOFError:
        # The system closes a pipe when the last process that could write to it is gone.
        seconds = time.perf_counter() - start
        print(f"and it ended with its parent, {seconds:.2f} s after the start instead of 60")
    parent.join()


if __name__ == "__main__":
    introduce("processes")
    squares_and_cubes()
    a_list_is_not_shared()
    shared_memory_is()
    who_is_who()
    a_daemon_ends_with_its_parent()
