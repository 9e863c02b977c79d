"""Named shared memory. The standard library's."""

from multiprocessing.shared_memory import *
