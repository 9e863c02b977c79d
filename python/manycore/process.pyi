"""The process table and the base class of all processes. The standard library's."""

from multiprocessing.process import *
