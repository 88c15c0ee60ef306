"""A proxy whose backup is a proxy. Two that name each other would forward a write for ever: that is detected and refused."""

import pytest
from support.servers import HOST, free_port
from support.talk import storage, value
from support.timing import eventually

#: The maximum number of writes that a memcached receives for one request of a client: the write, its copy, and one more until a loop is detected.
MOST_CHANGES = 4

FOUND = value(b"k", b"hello") + b"END\r\n"


def changes_made(servers):
    return sum(server.stats()["cmd_set"] for server in servers)


def comes_to_rest(servers):
    """Wait until no more writes reach the servers. Returns how many did."""
    seen = [changes_made(servers)]

    def rests():
        seen.append(changes_made(servers))
        return len(seen) > REPEATED and len(set(seen[-REPEATED:])) == 1

    eventually(rests, what="no more changes reach the servers")
    return seen[-1]


#: Reads of the counters that must all have the same result.
REPEATED = 10


@pytest.fixture
def pair(memcached, proxy):
    """Call it with options for two proxies, each with its own memcached. Returns [(proxy, memcached), ...]."""

    def start(*options, loop=True):
        ports = free_port(), free_port()
        servers = memcached(), memcached()
        fronts = []
        for number, (port, server) in enumerate(zip(ports, servers)):
            other = f"{HOST}:{ports[1 - number]}"
            backup = ("-b", other) if loop or number == 0 else ()
            fronts.append(proxy("-l", HOST, "-p", port, "-s", server.address, *backup, *options, port=port))
        return list(zip(fronts, servers))

    return start


@pytest.mark.parametrize("options", [(), ("--backup-writes", "sync")], ids=["async", "sync"])
def test_two_proxies_that_are_the_backup_of_each_other(pair, options):
    (one, first), (other, second) = pair(*options)
    with one.talk() as talk, other.talk() as there:
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        assert comes_to_rest([first, second]) <= MOST_CHANGES
        talk.expect(b"get k\r\n", FOUND)
        talk.in_step()
        there.in_step()
    warned = [
        line
        for front, partner in ((one, other), (other, one))
        for line in front.log().splitlines()
        if (" WARNING " in line or " ERROR " in line) and f":{partner.port}" in line
    ]
    assert warned, "the log says which server is a proxy"
    for front in (one, other):
        facts = front.stats()
        assert facts["internal_errors"] == 0


def test_a_proxy_may_be_the_backup_of_another(pair):
    """There is no loop: the copy arrives at the memcached behind the second proxy."""
    (one, _), (other, second) = pair(loop=False)
    with one.talk() as talk, second.talk() as there:
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        eventually(lambda: there.ask(b"get k\r\n", b"END\r\n") == FOUND, what="the copy is there")
        talk.in_step()
