"""Shared memory for parts of a process that are tested by themselves."""

from functools import cache

from gmproxy.shared.column import SharedColumn
from gmproxy.shared.memory import SharedMemory


@cache
def column_of_test():
    """A SharedColumn that all parts of one unit test have in common. tests/unit/conftest.py makes a new one for each test."""
    return SharedColumn(SharedMemory.create())
