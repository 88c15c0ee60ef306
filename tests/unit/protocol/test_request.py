"""A new request, and the queue of the requests that wait for a reply on one connection."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmproxy.protocol import request as message
from gmproxy.protocol.commands import COMMANDS
from gmproxy.protocol.request import new_request


def test_a_fresh_request():
    request = message.Request(COMMANDS[b"get"], b"a", b"get a\r\n")
    assert (request.command, request.key, request.line) == (COMMANDS[b"get"], b"a", b"get a\r\n")
    assert (request.keys, request.reply, request.sink, request.error, request.failed_server) == (None,) * 5
    assert (request.quiet, request.retried, request.role, request.connection_index) == (False, False, message.PRIMARY, 0)


def test_a_local_reply_is_a_request_that_is_answered():
    request = message.local_reply(b"ERROR\r\n")
    assert (request.command, request.key, request.reply) == (None, b"", b"ERROR\r\n")


def test_repr_tells_the_state():
    request = message.Request(COMMANDS[b"get"], b"a", b"get a\r\n")
    assert repr(request) == "<Request get b'a' role=0 reply=None>"
    assert "STORED" in repr(message.local_reply(b"STORED\r\n"))


# -- the queue of a connection


@given(runs=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12))
def test_a_queue_is_a_deque(runs):
    """In each run, `come` requests are appended, and then `go` are removed."""
    queue, wanted = message.RequestQueue(), deque()
    for come, go in runs:
        for _ in range(come):
            request = new_request(COMMANDS[b"get"], b"k", b"get k\r\n")
            queue.append(request)
            wanted.append(request)
        for _ in range(min(go, len(wanted))):
            assert queue.first() is wanted[0]
            assert queue.popleft() is wanted.popleft()
        assert (len(queue), queue.count, bool(queue)) == (len(wanted), len(wanted), bool(wanted))
        assert list(queue) == list(wanted)
        assert list(reversed(queue)) == list(reversed(wanted))


def test_an_empty_queue():
    queue = message.RequestQueue()
    assert queue.first() is None
    for wrong in (queue.popleft, lambda: queue[0], lambda: queue[-1]):
        with pytest.raises(IndexError):
            wrong()
