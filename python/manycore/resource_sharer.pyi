"""The passing of descriptors to a process that asks for them. The standard library's."""

from multiprocessing.resource_sharer import *
