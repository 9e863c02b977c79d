"""Other libraries, each behind the names that the standard library has for the same thing.

An adapter says how a user of that library writes a case; it does nothing that such a user would
not do. What a library has no name for is not made up: it has no figure there.
"""
