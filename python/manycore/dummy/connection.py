"""Connections between threads.

At run time this module is the standard library's own; ``manycore.dummy`` sees to that.
"""
