"""Finalizers, logging and other helpers.

At run time this module is the standard library's own, so that its state exists once.
"""

import sys
from typing import TYPE_CHECKING

from . import _stdlib

if TYPE_CHECKING:
    from multiprocessing.util import (
        Finalize as Finalize,
        ForkAwareLocal as ForkAwareLocal,
        ForkAwareThreadLock as ForkAwareThreadLock,
        close_all_fds_except as close_all_fds_except,
        debug as debug,
        get_logger as get_logger,
        get_temp_dir as get_temp_dir,
        info as info,
        is_exiting as is_exiting,
        log_to_stderr as log_to_stderr,
        register_after_fork as register_after_fork,
        sub_debug as sub_debug,
        sub_warning as sub_warning,
    )

sys.modules[__name__] = _stdlib.load("util")
