"""Connections between threads. The standard library's."""

from multiprocessing.dummy.connection import *
from multiprocessing.dummy.connection import Connection as Connection
from multiprocessing.dummy.connection import __all__ as __all__
from multiprocessing.dummy.connection import families as families
