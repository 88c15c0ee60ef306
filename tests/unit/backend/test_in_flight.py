"""The requests in flight on one connection: which of them a later write has overtaken, whether writes are among them, and how many bytes wait."""

import pytest
from support.requests import request_for

from gmproxy.backend.in_flight import awaits_writes, overtaken_requests, queue_sizes
from gmproxy.protocol.request import RequestQueue

EVERYTHING = 10**6


def queue_of(*lines):
    """(a queue of the requests `lines`, as submitted by a connection, their total bytes)"""
    queue = RequestQueue()
    queued = 0
    for line in lines:
        request = request_for(line, [b"a", b"b"] if line == b"get a b\r\n" else None)
        request.sent_at_byte = queued
        queued += len(line)
        queue.append(request)
    return queue, queued


@pytest.mark.parametrize(
    "lines, awaits",
    [
        ([], False),
        ([b"get a\r\n", b"mg a v\r\n"], False),
        ([b"set a 0 0 1\r\nx\r\n", b"get a\r\n"], True),
        ([b"get a\r\n", b"flush_all \r\n"], True),
        ([b"gat 5 a\r\n"], True),
    ],
)
def test_writes_among_them(lines, awaits):
    assert awaits_writes(queue_of(*lines)[0]) is awaits


@pytest.mark.parametrize(
    "lines, overtaken",
    [
        ([b"get a\r\n", b"get b\r\n", b"set a 0 0 1\r\nx\r\n", b"get a\r\n"], [0]),
        ([b"get a b\r\n", b"delete b\r\n"], [0]),
        ([b"get a\r\n", b"flush_all \r\n", b"get b\r\n"], [0]),
        ([b"set a 0 0 1\r\nx\r\n", b"incr a 1\r\n"], [0]),
        ([b"get a\r\n", b"get a\r\n"], []),
    ],
)
def test_requests_behind_which_a_write_of_their_key_was_sent(lines, overtaken):
    queue, _ = queue_of(*lines)
    found = overtaken_requests(queue, EVERYTHING)
    assert [number for number, request in enumerate(queue) if request in found] == overtaken


def test_a_write_that_the_kernel_did_not_take_overtakes_nothing():
    queue, _ = queue_of(b"get a\r\n", b"set a 0 0 1\r\nx\r\n")
    assert overtaken_requests(queue, len(b"get a\r\n")) == set()
    assert overtaken_requests(queue, len(b"get a\r\n") + 1) == {queue[0]}


def test_how_much_waits():
    assert queue_sizes(RequestQueue(), 100, 50) == (0, 0)
    queue, queued = queue_of(b"get a\r\n", b"get b\r\n", b"get c\r\n")
    size = len(b"get a\r\n")
    assert [queue_sizes(queue, queued, sent) for sent in (0, size - 1, size, 2 * size + 1, queued)] == [
        (3, queued),
        (3, queued),
        (2, queued),
        (1, queued),
        (0, queued),
    ]
    queue.popleft()
    assert queue_sizes(queue, queued, queued) == (0, 2 * size)
