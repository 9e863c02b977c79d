"""The same names over threads.

At run time this module is the standard library's own, so that its state exists once.
"""

import sys

from .. import _stdlib

sys.modules[__name__] = _stdlib.load("dummy")
# The import system would look for it in the standard library's package and make a second one.
sys.modules[f"{__name__}.connection"] = sys.modules["multiprocessing.dummy.connection"]
