"""Several replies become one: of the parts of a multi-get, and of a command that was sent to every server."""

import itertools

import pytest
from support.requests import request_for
from support.routes import Client

from gmproxy.protocol.key_list import KeyList, KeyPartition
from gmproxy.protocol.request import INTERNAL_ERROR
from gmproxy.routing.gather import GATHERER, FanOut

A, B, C = (b"VALUE %b 0 1\r\n%b\r\n" % (key, key) for key in (b"a", b"b", b"c"))
END = b"END\r\n"
OK = b"OK\r\n"


class MultiGet:
    """A get of a, b and c, where one server has a and c, another b. `parts`: the requests to these servers."""

    def __init__(self):
        self.client = Client()
        self.request = request_for(b"get a b c\r\n")
        self.request.keys = KeyList([b"a", b"b", b"c"])
        self.request.sink = self.client
        division = KeyPartition(self.request.keys, [0, 1, 0], [0, 1])
        self.gather = GATHERER.gather(self.request, division)
        for keys in division.parts:
            part = request_for(b"get x\r\n")
            part.keys, part.sink = keys, self.gather
            self.gather.parts.append(part)
        self.parts = list(self.gather.parts)


def complete(request, reply):
    request.reply = reply
    return request.complete()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    "first, second, reply",
    [(A + C, B, A + B + C), (C, B, B + C), (b"", B, B), (A, b"", A), (b"", b"", b"")],
)
def test_values_come_in_the_order_of_the_keys_whichever_reply_comes_first(order, first, second, reply):
    multi = MultiGet()
    for number in order:
        assert multi.client.heard == []
        complete(multi.parts[number], (first, second)[number] + END)
    assert multi.client.heard == [reply + END]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_if_a_part_fails_so_does_the_whole_and_its_reply_has_what_the_other_found(order):
    multi = MultiGet()
    for number in order:
        complete(multi.parts[0], A + C + END) if number == 0 else multi.parts[1].fail("timeout", "b:2")
    assert multi.client.heard == [("timeout", "b:2")] and multi.request.reply == A + C + END


def test_of_several_failures_the_first_part_counts():
    multi = MultiGet()
    multi.parts[1].fail("closed", "b:2")
    multi.parts[0].fail("timeout", "a:1")
    assert multi.client.heard == [("timeout", "a:1")] and multi.request.reply == END


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_after_an_internal_error_the_other_part_changes_nothing(order):
    multi = MultiGet()
    multi.parts[order[0]].abandon()
    complete(multi.parts[order[1]], END)
    assert multi.client.heard == [INTERNAL_ERROR]


# -- a command for every server


def fan_out(outcomes):
    """The Client of a flush_all after these `outcomes` of its parts: replies, or (reason, server)."""
    client = Client()
    request = request_for(b"flush_all \r\n")
    request.sink = client
    join = FanOut(request, len(outcomes))
    for outcome in outcomes:
        assert client.heard == []
        part = request_for(b"flush_all \r\n")
        part.sink = join
        complete(part, outcome) if isinstance(outcome, bytes) else part.fail(*outcome)
    return client


def test_all_servers_said_ok():
    assert fan_out([OK] * 3).heard == [OK]


@pytest.mark.parametrize("outcomes", sorted(set(itertools.permutations([OK, b"ERROR\r\n", OK]))))
def test_what_a_server_said_instead_is_the_reply(outcomes):
    assert fan_out(outcomes).heard == [b"ERROR\r\n"]


def test_the_first_trouble_is_the_reply():
    assert fan_out([OK, ("closed", "a:1"), b"ERROR\r\n"]).heard == [("closed", "a:1")]
    assert fan_out([OK, b"ERROR\r\n", ("closed", "a:1")]).heard == [b"ERROR\r\n"]
