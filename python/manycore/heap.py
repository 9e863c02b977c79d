"""The allocator behind the standard library's own shared values; ours lie in engine blocks.

At run time this module is the standard library's own, so that its state exists once.
"""

import sys

from . import _stdlib

sys.modules[__name__] = _stdlib.load("heap")
