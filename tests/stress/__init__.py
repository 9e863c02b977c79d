"""Long runs that look for what a short test meets only by chance: `make stress`.

Each scenario is a function with its sizes as arguments; it returns what it has counted, and raises
if anything was lost, doubled or wrong. The short forms of them run with all other tests.
"""
