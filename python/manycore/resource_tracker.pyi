"""The tracker of named semaphores and named shared memory. The standard library's."""

from multiprocessing.resource_tracker import *
from multiprocessing.resource_tracker import ResourceTracker as ResourceTracker
from multiprocessing.resource_tracker import __all__ as __all__
from multiprocessing.resource_tracker import getfd as getfd
from multiprocessing.resource_tracker import main as main
