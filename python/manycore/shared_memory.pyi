"""Named shared memory. The standard library's."""

from multiprocessing.shared_memory import *
from multiprocessing.shared_memory import __all__ as __all__
