"""The passing of descriptors to a process that asks for them. The standard library's."""

from multiprocessing.resource_sharer import *
from multiprocessing.resource_sharer import __all__ as __all__
