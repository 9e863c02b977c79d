"""The process table and the base class of all processes. The standard library's."""

from multiprocessing.process import *
from multiprocessing.process import __all__ as __all__
