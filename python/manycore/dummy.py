"""The same names over threads.

At run time this module is the standard library's own, so that its state exists once.
"""

import sys
from typing import TYPE_CHECKING

from . import _stdlib

if TYPE_CHECKING:
    from multiprocessing.dummy import (
        Array as Array,
        Barrier as Barrier,
        BoundedSemaphore as BoundedSemaphore,
        Condition as Condition,
        Event as Event,
        JoinableQueue as JoinableQueue,
        Lock as Lock,
        Manager as Manager,
        Pipe as Pipe,
        Pool as Pool,
        Process as Process,
        Queue as Queue,
        RLock as RLock,
        Semaphore as Semaphore,
        Value as Value,
        active_children as active_children,
        current_process as current_process,
        freeze_support as freeze_support,
    )

sys.modules[__name__] = _stdlib.load("dummy")
