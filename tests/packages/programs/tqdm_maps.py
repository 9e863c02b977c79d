"""Progress bars over an executor and over a pool."""

import multiprocessing
import sys
import time
from operator import neg

from tqdm import tqdm
from tqdm.contrib.concurrent import process_map

# One line, without times: "100%|####| 40/40".
FORMAT = "{desc}: {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt}"


def work(n):
    time.sleep(0.001)
    return n * n


if __name__ == "__main__":
    options = {"bar_format": FORMAT, "ascii": True, "miniters": 40, "file": sys.stdout}
    print(sum(process_map(work, range(40), max_workers=2, desc="map", **options)))
    print(sum(process_map(neg, range(40), max_workers=2, chunksize=7, desc="chunks", **options)))
    lock = tqdm.get_lock().mp_lock
    with multiprocessing.Pool(2, initializer=tqdm.set_lock, initargs=(lock,)) as pool:
        print(sum(tqdm(pool.imap(work, range(40)), total=40, desc="imap", **options)))
        print(sum(tqdm(pool.imap_unordered(work, range(40), 3), total=40, desc="any", **options)))
