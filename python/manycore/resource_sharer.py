"""The passing of descriptors to a process that asks for them.

At run time this module is the standard library's own, so that its state exists once.
"""

import sys
from typing import TYPE_CHECKING

from . import _stdlib

if TYPE_CHECKING:
    from multiprocessing.resource_sharer import (
        DupFd as DupFd,
    )
    from multiprocessing.resource_sharer import (
        stop as stop,
    )

sys.modules[__name__] = _stdlib.load("resource_sharer")
