"""Finalizers, logging and other helpers.

At run time this module is the standard library's own, so that its state exists once.
"""

import sys
from typing import TYPE_CHECKING

from . import _stdlib

if TYPE_CHECKING:
    from multiprocessing.util import (
        Finalize as Finalize,
    )
    from multiprocessing.util import (
        ForkAwareLocal as ForkAwareLocal,
    )
    from multiprocessing.util import (
        ForkAwareThreadLock as ForkAwareThreadLock,
    )
    from multiprocessing.util import (
        close_all_fds_except as close_all_fds_except,
    )
    from multiprocessing.util import (
        debug as debug,
    )
    from multiprocessing.util import (
        get_logger as get_logger,
    )
    from multiprocessing.util import (
        get_temp_dir as get_temp_dir,
    )
    from multiprocessing.util import (
        info as info,
    )
    from multiprocessing.util import (
        is_exiting as is_exiting,
    )
    from multiprocessing.util import (
        log_to_stderr as log_to_stderr,
    )
    from multiprocessing.util import (
        register_after_fork as register_after_fork,
    )
    from multiprocessing.util import (
        sub_debug as sub_debug,
    )
    from multiprocessing.util import (
        sub_warning as sub_warning,
    )

sys.modules[__name__] = _stdlib.load("util")
