"""Log records of several processes that one listener writes."""

import logging
import logging.handlers
import multiprocessing


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
    lines = [line for line in open("all.log") if "Pool" not in line]
    print(len(lines), "".join(sorted(lines)))
    print(sorted(line.split(" WARNING ")[0] + line[-7:] for line in open("all.log") if line not in lines))
