"""Pickling for children and the passing of descriptors.

At run time this module is the standard library's own, so that its state exists once.
"""

import sys
from typing import TYPE_CHECKING

from . import _stdlib

if TYPE_CHECKING:
    from multiprocessing.reduction import (
        DupFd as DupFd,
        ForkingPickler as ForkingPickler,
        dump as dump,
        recv_handle as recv_handle,
        recvfds as recvfds,
        register as register,
        send_handle as send_handle,
        sendfds as sendfds,
    )

sys.modules[__name__] = _stdlib.load("reduction")
