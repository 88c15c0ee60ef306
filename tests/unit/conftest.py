"""Fixtures of the unit tests. tests/README.md describes how they are arranged."""

import socket
from collections.abc import Iterator

import pytest
from support.shared import column_of_test

from gmproxy import internal_errors


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a socket pair, non-blocking."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


class InternalErrors:
    """A call returns the number of internal errors since the start of the test. `may_occur`: True after a call, or if the test sets it."""

    def __init__(self) -> None:
        self.may_occur = False

    def __call__(self) -> int:
        self.may_occur = True
        return internal_errors.count()


@pytest.fixture(autouse=True)
def internal_errors_counted() -> Iterator[InternalErrors]:
    """Counts the internal errors of each test. A test that expects some checks how many. Any other test must have none."""
    internal_errors.forget()
    counted = InternalErrors()
    yield counted
    count = internal_errors.count()
    internal_errors.forget()
    assert counted.may_occur or count == 0, f"{count} internal errors, which the log shows"


@pytest.fixture(autouse=True)
def its_own_shared_memory():
    """What a test notes in the memory is not there in the next test."""
    yield
    column_of_test.cache_clear()
