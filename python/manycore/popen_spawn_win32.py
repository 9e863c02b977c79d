"""Starts a process on Windows.

This module is the standard library's own, which can be imported there only.
"""

import sys

from . import _stdlib

sys.modules[__name__] = _stdlib.load("popen_spawn_win32")
