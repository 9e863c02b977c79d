"""Log records of several processes that one listener writes."""

import logging
import logging.handlers
import multiprocessing
import re
from pathlib import Path


def work(queue, number):
    logger = logging.getLogger(f"worker.{number}")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.handlers.QueueHandler(queue))
    for step in range(20):
        logger.info("step %d of %s", step, multiprocessing.current_process().name)
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logger.exception("worker %d fails", number)


def task(number):
    logging.getLogger("pool").warning("task %d", number)


def initialize(queue):
    logging.getLogger().addHandler(logging.handlers.QueueHandler(queue))


if __name__ == "__main__":
    handler = logging.FileHandler("all.log")
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(processName)s %(message)s"))
    queue = multiprocessing.Queue()
    listener = logging.handlers.QueueListener(queue, handler)
    listener.start()
    workers = [
        multiprocessing.Process(target=work, args=(queue, n), name=f"worker {n}") for n in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with multiprocessing.Pool(2, initialize, (queue,)) as pool:
        pool.map(task, range(10))
        pool.close()
        pool.join()
    listener.stop()
    # Which worker of the pool takes which task is left to chance.
    lines = Path("all.log").read_text().splitlines(keepends=True)
    lines = [re.sub(r"\w*Pool\w+-\d+", "a worker", line) for line in lines]
    print(len(lines), "".join(sorted(lines)))
