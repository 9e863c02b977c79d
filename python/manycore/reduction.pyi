"""Pickling for children and the passing of descriptors. The standard library's."""

import sys
from multiprocessing.reduction import *
from multiprocessing.reduction import HAVE_SEND_HANDLE as HAVE_SEND_HANDLE
from multiprocessing.reduction import AbstractReducer as AbstractReducer
from multiprocessing.reduction import __all__ as __all__

if sys.version_info < (3, 14):
    from multiprocessing.reduction import ACKNOWLEDGE as ACKNOWLEDGE
