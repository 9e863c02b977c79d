"""Pickling for children and the passing of descriptors.

At run time this module is the standard library's own, so that its state exists once.
"""

import sys
from typing import TYPE_CHECKING

from . import _stdlib

if TYPE_CHECKING:
    from multiprocessing.reduction import (
        DupFd as DupFd,
    )
    from multiprocessing.reduction import (
        ForkingPickler as ForkingPickler,
    )
    from multiprocessing.reduction import (
        dump as dump,
    )
    from multiprocessing.reduction import (
        recv_handle as recv_handle,
    )
    from multiprocessing.reduction import (
        recvfds as recvfds,
    )
    from multiprocessing.reduction import (
        register as register,
    )
    from multiprocessing.reduction import (
        send_handle as send_handle,
    )
    from multiprocessing.reduction import (
        sendfds as sendfds,
    )

sys.modules[__name__] = _stdlib.load("reduction")
