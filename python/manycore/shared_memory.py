"""Named shared memory.

At run time this module is the standard library's own, so that its state exists once.
"""

import sys
from typing import TYPE_CHECKING

from . import _stdlib

if TYPE_CHECKING:
    from multiprocessing.shared_memory import (
        ShareableList as ShareableList,
    )
    from multiprocessing.shared_memory import (
        SharedMemory as SharedMemory,
    )

sys.modules[__name__] = _stdlib.load("shared_memory")
