"""A program whose processes are measured by coverage."""

import multiprocessing


def in_pool(n):
    if n % 2:
        return n * 3
    return -n


def in_process(queue, n):
    if n > 1:
        queue.put("large")
    else:
        queue.put("small")


def never():
    return "not covered"


if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(in_pool, range(20), 1))
        pool.close()
        pool.join()
    queue = multiprocessing.SimpleQueue()
    processes = [multiprocessing.Process(target=in_process, args=(queue, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(sorted(queue.get() for _ in processes))
