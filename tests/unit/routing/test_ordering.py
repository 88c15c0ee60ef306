"""Which request of a client must not be sent before earlier ones of its batch have their replies."""

import pytest
from support.requests import request_for
from support.routes import options_of

from gmproxy.protocol.commands import COMMANDS
from gmproxy.protocol.request import Request
from gmproxy.routing.ordering import BatchOrder
from gmproxy.routing.router import Router

GET = b"get k\r\n"
SET = b"set k 0 0 1\r\nx\r\n"
INCR = b"incr k 1\r\n"


@pytest.fixture
def router():
    return Router(options_of("-s", "127.0.0.1:1"))


@pytest.mark.parametrize(
    "earlier, line, waits",
    [
        (GET, SET, True),  # the read may have to be repeated, and must not return what was written after it
        (GET, b"delete k\r\n", True),
        (INCR, SET, True),
        (SET, SET, False),
        (SET, GET, False),
        (GET, GET, False),
        (b"get other\r\n", SET, False),
        (SET, INCR, False),
    ],
)
def test_a_write_waits_for_reads_of_its_key(router, earlier, line, waits):
    order = BatchOrder(router)
    assert order.must_wait(request_for(line), [request_for(earlier)]) is waits


def test_a_write_waits_for_a_read_of_several_keys(router):
    order = BatchOrder(router)
    batch = [request_for(b"get a b\r\n", [b"a", b"b"])]
    assert order.must_wait(request_for(b"set b 0 0 1\r\nx\r\n"), batch)
    assert not order.must_wait(request_for(b"set c 0 0 1\r\nx\r\n"), batch)


def test_what_the_batch_has_grown_by_counts(router):
    order = BatchOrder(router)
    batch = []
    assert not order.must_wait(request_for(SET), batch)
    batch.append(request_for(GET))
    assert order.must_wait(request_for(SET), batch)


def test_a_new_batch_begins_without_keys(router):
    order = BatchOrder(router)
    assert order.must_wait(request_for(SET), [request_for(GET)])
    order.finish_batch()
    assert not order.must_wait(request_for(SET), [])


def test_a_read_waits_for_a_request_that_waits_for_its_key_to_be_filled(router):
    order = BatchOrder(router)
    waiting = request_for(INCR)
    assert not order.must_wait(request_for(GET), [waiting])
    router.held.add(waiting)
    assert order.must_wait(request_for(GET), [waiting])
    assert not order.must_wait(request_for(b"get other\r\n"), [waiting])


DELETE = b"delete k\r\n"


@pytest.mark.parametrize("line", [GET, SET, DELETE, INCR])
def test_all_wait_for_a_write_of_their_key_that_is_held(router, line):
    """A delete may be held until the backup has deleted the key."""
    held = request_for(DELETE)
    assert not BatchOrder(router).must_wait(request_for(line), [held])
    router.held.add(held)
    order = BatchOrder(router)
    assert order.must_wait(request_for(line), [held])
    assert not order.must_wait(request_for(line.replace(b" k", b" other")), [held])
    order.finish_batch()
    assert not order.must_wait(request_for(line), [])


@pytest.mark.parametrize("line", [GET, SET])
def test_all_wait_for_a_flush_that_is_held(router, line):
    flush = Request(COMMANDS[b"flush_all"], b"", b"flush_all\r\n")
    router.held.add(flush)
    assert BatchOrder(router).must_wait(request_for(line), [flush])


def test_of_a_write_of_several_keys_any_part_may_be_held(router):
    part, other = request_for(b"gat -1 a\r\n"), request_for(SET)
    router.held.add(part)
    whole = request_for(b"gat -1 a b\r\n", [b"a", b"b"])
    order = BatchOrder(router)
    assert not order.must_wait(request_for(b"get c\r\n"), [other, whole])
    assert order.must_wait(request_for(b"get b\r\n"), [other, whole])


def test_the_writes_of_other_clients_that_are_held_do_not_matter(router):
    router.held.add(request_for(DELETE))
    assert not BatchOrder(router).must_wait(request_for(SET), [request_for(SET)])
