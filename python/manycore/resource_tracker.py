"""The tracker of named semaphores and named shared memory.

At run time this module is the standard library's own, so that its state exists once.
"""

import sys
from typing import TYPE_CHECKING

from . import _stdlib

if TYPE_CHECKING:
    from multiprocessing.resource_tracker import (
        ensure_running as ensure_running,
    )
    from multiprocessing.resource_tracker import (
        register as register,
    )
    from multiprocessing.resource_tracker import (
        unregister as unregister,
    )

sys.modules[__name__] = _stdlib.load("resource_tracker")
