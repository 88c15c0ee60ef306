"""What `stats` reports of the servers: gmproxy sends them `stats` too, and never waits long for the replies."""

import pytest
from support.keys import keys_by_server
from support.servers import read_stats
from support.talk import storage
from support.timing import eventually

KEYS = keys_by_server(2, 10)


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def site(request, memcached, proxy):
    """(proxy, servers), with ten items on each server."""
    servers = [memcached(), memcached()]
    process = proxy("-s", servers[0].address, "-s", servers[1].address, "--workers", request.param)
    with process.talk() as talk:
        for key in KEYS[0] + KEYS[1]:
            talk.expect(storage(b"set", key, b"hello"), b"STORED\r\n")
    return process, servers


def items(process):
    return process.stats().get("curr_items")


def test_the_items_of_all_servers_add_up(site):
    process, servers = site
    eventually(lambda: items(process) == 20, what="all items are counted")
    told = process.stats()
    assert told["limit_maxbytes"] == sum(server.stats()["limit_maxbytes"] for server in servers)
    assert told["cmd_set"] == 20
    assert told["bytes_read"] >= sum(len(storage(b"set", key, b"hello")) for key in KEYS[0] + KEYS[1])


def test_a_server_that_hangs_is_left_out(site):
    process, servers = site
    eventually(lambda: items(process) == 20, what="all items are counted")
    servers[0].pause()
    with process.talk() as talk:
        eventually(lambda: read_stats(talk).get("curr_items") == 10, what="only one server is counted")
        talk.in_step()
    servers[0].resume()
    eventually(lambda: items(process) == 20, what="both are counted")


def test_without_any_server_there_are_still_stats(site):
    process, servers = site
    for server in servers:
        server.kill()
    eventually(lambda: process.stats()["curr_items"] == 0, what="the number of items is unknown")
    assert process.stats()["backends"] == 2
    with process.talk() as talk:
        eventually(lambda: talk.ask(b"stats items\r\n", b"END\r\n") == b"END\r\n", what="there are no items to tell of")
        talk.in_step()


def test_slabs_are_told_apart_by_server(site):
    process, servers = site
    with process.talk() as talk:
        lines = talk.ask(b"stats items\r\n", b"END\r\n").split(b"\r\n")
        assert b"STAT items:1001:number 10" in lines and b"STAT items:2001:number 10" in lines
        lines = talk.ask(b"stats slabs\r\n", b"END\r\n").split(b"\r\n")
        assert b"STAT 1001:used_chunks 10" in lines and b"STAT active_slabs 2" in lines
        talk.in_step()


def test_pools_and_backends(site):
    process, servers = site
    with process.talk() as talk:
        pools = talk.ask(b"stats pools\r\n", b"END\r\n").split(b"\r\n")
        assert b"STAT default:backends 2" in pools and b"STAT default:requests 20" in pools
        backends = talk.ask(b"stats backends\r\n", b"END\r\n").split(b"\r\n")
        assert b"STAT 2:address %b" % servers[1].address.encode() in backends and b"STAT 2:requests 10" in backends
        talk.expect(b"stats reset\r\n", b"RESET\r\n")
        assert b"STAT 2:requests 0" in talk.ask(b"stats backends\r\n", b"END\r\n").split(b"\r\n")
        talk.in_step()
