"""The process table and the base class of all processes.

At run time this module is the standard library's own, so that its state exists once.
"""

import sys
from typing import TYPE_CHECKING

from . import _stdlib

if TYPE_CHECKING:
    from multiprocessing.process import (
        BaseProcess as BaseProcess,
    )
    from multiprocessing.process import (
        active_children as active_children,
    )
    from multiprocessing.process import (
        current_process as current_process,
    )
    from multiprocessing.process import (
        parent_process as parent_process,
    )

sys.modules[__name__] = _stdlib.load("process")
