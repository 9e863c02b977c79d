"""A program that uses a bit of everything until it is ended: ``python -m tests.stress.victim``."""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from typing import Any

import manycore as mp

from tests.stress import spin


def work(microseconds: int) -> int:
    """A task."""
    spin(microseconds / 1e6)
    return microseconds


def echo(questions: Any, answers: Any) -> None:
    """Sends back what comes, until that is None."""
    with suppress(KeyboardInterrupt):
        while (item := questions.get()) is not None:
            answers.put(item)


def use_a_pool(context: Any, chance: random.Random) -> None:
    """All methods, with work that waits when it ends."""
    times = [chance.choice([0, 10, 1000, 5000]) for _ in range(200)]
    with context.Pool(3) as pool:
        assert pool.map(work, times) == times
        results = [pool.apply_async(work, (each,)) for each in times]
        assert next(pool.imap(work, times)) == times[0]
        assert [result.get() for result in results[:50]] == times[:50]


def use_queues(context: Any, chance: random.Random) -> None:
    """A process at the other end of two queues."""
    questions, answers = context.Queue(), context.SimpleQueue()
    process = context.Process(target=echo, args=(questions, answers))
    process.start()
    for number in range(100):
        questions.put((number, b"x" * chance.choice([10, 100_000])))
        assert answers.get()[0] == number
    questions.put(None)
    process.join()


def use_shared_state(context: Any, chance: random.Random) -> None:
    """A manager, an array and locks."""
    with context.Manager() as manager:
        names = manager.dict()
        for number in range(chance.randrange(100)):
            names[number] = number
    array = context.Array("i", 1000)
    with array.get_lock():
        array[:] = range(1000)


def main(method: str, seed: int) -> None:
    """Goes on until somebody ends it."""
    context, chance = mp.get_context(method), random.Random(seed)
    while True:
        chance.choice([use_a_pool, use_a_pool, use_queues, use_shared_state])(context, chance)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
