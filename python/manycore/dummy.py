"""The same names over threads.

At run time this module is the standard library's own, so that its state exists once.
"""

import sys
from typing import TYPE_CHECKING

from . import _stdlib

if TYPE_CHECKING:
    from multiprocessing.dummy import (
        Array as Array,
    )
    from multiprocessing.dummy import (
        Barrier as Barrier,
    )
    from multiprocessing.dummy import (
        BoundedSemaphore as BoundedSemaphore,
    )
    from multiprocessing.dummy import (
        Condition as Condition,
    )
    from multiprocessing.dummy import (
        Event as Event,
    )
    from multiprocessing.dummy import (
        JoinableQueue as JoinableQueue,
    )
    from multiprocessing.dummy import (
        Lock as Lock,
    )
    from multiprocessing.dummy import (
        Manager as Manager,
    )
    from multiprocessing.dummy import (
        Pipe as Pipe,
    )
    from multiprocessing.dummy import (
        Pool as Pool,
    )
    from multiprocessing.dummy import (
        Process as Process,
    )
    from multiprocessing.dummy import (
        Queue as Queue,
    )
    from multiprocessing.dummy import (
        RLock as RLock,
    )
    from multiprocessing.dummy import (
        Semaphore as Semaphore,
    )
    from multiprocessing.dummy import (
        Value as Value,
    )
    from multiprocessing.dummy import (
        active_children as active_children,
    )
    from multiprocessing.dummy import (
        current_process as current_process,
    )
    from multiprocessing.dummy import (
        freeze_support as freeze_support,
    )

sys.modules[__name__] = _stdlib.load("dummy")
