"""Data frames whose functions are applied by a pool; pandarallel sends them with dill."""

import pandas as pd
from pandarallel import pandarallel

FACTOR = 3

if __name__ == "__main__":
    frame = pd.DataFrame({"a": range(60), "b": [n % 5 for n in range(60)]})
    for memory in (False, True):
        pandarallel.initialize(nb_workers=2, progress_bar=False, verbose=0, use_memory_fs=memory)
        print(frame.parallel_apply(lambda row: row.a * FACTOR + row.b, axis=1).tolist())
        print(frame.a.parallel_map(lambda n: n % 7).tolist())
        print(frame.groupby("b").parallel_apply(lambda group: group.a.sum()).to_dict())
        print(frame.a.rolling(4).parallel_apply(lambda window: window.sum()).tolist())
