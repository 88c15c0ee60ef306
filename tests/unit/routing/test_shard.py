"""Which servers get a request, and how one with several keys is divided among them."""

import pytest
from support.requests import request_for
from support.routes import Client, KeepingServer

from gmproxy.placement.locators import Buckets
from gmproxy.protocol.key_list import KeyList
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.shard import MAX_GAT_KEYS, Shard


@pytest.fixture
def servers():
    return [KeepingServer(port) for port in (1, 2, 3)]


@pytest.fixture
def shard(servers):
    """A key belongs to the server whose number it starts with."""
    return Shard(Buckets([0, 1, 2], lambda key: key[0] - ord("0")), servers, servers, servers, RouteCounters())


def send(shard, line, *keys):
    request = request_for(line)
    if keys:
        request.line, request.keys = line.split(b"%")[0], KeyList(list(keys))
    request.sink = Client()
    client = request.sink
    shard.send(request)
    return client


def lines(servers):
    return [server.lines for server in servers]


def test_a_key_has_one_server(shard, servers):
    send(shard, b"get 1a\r\n")
    send(shard, b"set 2a 0 0 1\r\nx\r\n")
    assert lines(servers) == [[], [b"get 1a\r\n"], [b"set 2a 0 0 1\r\nx\r\n"]]
    assert [shard.server_of(key) for key in (b"0", b"1", b"2")] == servers


def test_reads_and_writes_may_take_different_routes(servers):
    shard = Shard(Buckets([0], lambda key: 0), servers[:1], servers[1:2], servers[2:], RouteCounters())
    send(shard, b"get k\r\n")
    send(shard, b"delete k\r\n")
    assert lines(servers) == [[], [b"get k\r\n"], [b"delete k\r\n"]]


def test_each_server_gets_one_request_for_its_keys_and_the_client_one_reply(shard, servers):
    client = send(shard, b"get %\r\n", b"2a", b"0a", b"2b", b"0b")
    assert lines(servers) == [[b"get 0a 0b\r\n"], [], [b"get 2a 2b\r\n"]]
    servers[2].answer(servers[2].sent[0], b"END\r\n")
    assert client.heard == []
    servers[0].answer(servers[0].sent[0], b"END\r\n")
    assert client.heard == [b"END\r\n"]


def test_keys_that_may_be_stale_are_asked_for_apart(shard, servers):
    """The server refuses that request, and replies to the others."""
    servers[0].missed_key(b"0b")
    send(shard, b"get %\r\n", b"0a", b"0b", b"0c")
    assert lines(servers) == [[b"get 0a 0c\r\n", b"get 0b\r\n"], [], []]


def test_a_gat_has_no_longer_line_than_memcached_reads(shard, servers):
    keys = [b"0" + b"k" * 199 + b"%d" % number for number in range(20)]
    send(shard, b"gat 5 %\r\n", *keys)
    sent = servers[0].lines
    assert len(sent) > 1 and all(len(line) <= len(b"gat 5 ") + MAX_GAT_KEYS + len(b"\r\n") for line in sent)
    assert b" ".join(line[len(b"gat 5 ") : -2] for line in sent).split() == keys


def test_a_key_that_is_asked_for_twice_is_sent_twice(shard, servers):
    send(shard, b"get %\r\n", b"1a", b"1a")
    assert lines(servers) == [[], [b"get 1a 1a\r\n"], []]
