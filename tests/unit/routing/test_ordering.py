"""Which request of a client must not be sent before earlier ones of its batch have their replies."""

import pytest
from support.requests import request_for
from support.routes import options_of

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
