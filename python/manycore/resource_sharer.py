"""The passing of descriptors to a process that asks for them.

At run time this module is the standard library's own, so that its state exists once.
"""

import sys

from . import _stdlib

sys.modules[__name__] = _stdlib.load("resource_sharer")
