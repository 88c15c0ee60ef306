"""`gutter`: a pool that stands in for servers that cannot be reached, with a life of at most `failover_ttl`."""

from contextlib import ExitStack

import pytest
from support.relay import Relay
from support.talk import storage, value
from support.timing import eventually

from replicas import pools

STORED = b"STORED\r\n"
MISS = b"END\r\n"
FOUND = value(b"k", b"new") + MISS

#: Seconds.
FAILOVER_TTL = 60


class Guttered:
    """A pool with a gutter and `replicas` replicas; the servers of each are one memcached behind a relay."""

    def __init__(self, folder, memcached, stack, replicas=0):
        names = ["main", *(f"copy{number}" for number in range(replicas)), "spare"]
        self.relays = {name: stack.enter_context(Relay(memcached())) for name in names}
        keys = {name: {"servers": pools.servers(relay)} for name, relay in self.relays.items()}
        keys["main"] |= {"gutter": "spare", "failover_ttl": FAILOVER_TTL, "on_miss": "never"}
        if replicas:
            keys["main"]["replicas"] = names[1:-1]
        self.proxy = stack.enter_context(pools.serve(folder, keys))
        self._talks = {name: stack.enter_context(relay.server.talk()) for name, relay in self.relays.items()}
        self.client = stack.enter_context(self.proxy.talk())

    def held(self, name, key=b"k"):
        """What the server itself replies to a get."""
        return self._talks[name].ask(b"get %b\r\n" % key, MISS)

    def life_in_gutter(self, key=b"k"):
        line = self._talks["spare"].ask(b"mg %b t\r\n" % key)
        return int(line[len(b"HD t") :])

    def put(self, name, data, key=b"k"):
        self._talks[name].expect(storage(b"set", key, data), STORED)

    def refuse(self, name):
        """Returns when the server is ejected."""
        relay = self.relays[name]
        relay.refuse()
        before = self.proxy.stats()["backends_ejected"]

        def is_ejected():
            self.client.ask(b"touch none 0\r\n")
            return self.proxy.stats()["backends_ejected"] > before

        eventually(is_ejected, what=f"{name} is ejected")

    def pass_on(self, name):
        self.relays[name].pass_on()

        def is_whole():
            stats = self.proxy.stats()
            return stats["backends_ejected"] == stats["backends_behind"] == 0

        eventually(is_whole, what="every server is restored")


@pytest.fixture
def start(tmp_path, memcached):
    with ExitStack() as stack:
        made = []

        def run(replicas=0):
            made.append(Guttered(tmp_path, memcached, stack, replicas))
            return made[-1]

        yield run
        for one in made:
            one.proxy.check_log()


def test_gutter_receives_nothing_while_all_is_well(start):
    pool = start()
    pool.client.expect(storage(b"set", b"k", b"new"), STORED)
    pool.client.expect(b"get k\r\n", FOUND)
    assert pool.held("spare") == MISS
    assert pool.relays["spare"].server.stats()["cmd_set"] == 0


@pytest.mark.parametrize("life, at_most", [(0, FAILOVER_TTL), (1000, FAILOVER_TTL), (20, 20)])
def test_gutter_stands_in_with_a_short_life(start, life, at_most):
    pool = start()
    pool.refuse("main")
    pool.client.expect(storage(b"set", b"k", b"new", exptime=life), STORED)
    assert pool.held("spare") == FOUND
    assert at_most - 20 < pool.life_in_gutter() <= at_most
    pool.client.expect(b"get k\r\n", FOUND)
    pool.client.expect(b"incr none 1\r\n", b"NOT_FOUND\r\n")


def test_what_the_gutter_has_is_not_read_when_the_server_is_back(start):
    pool = start()
    pool.put("main", b"old")
    pool.refuse("main")
    pool.client.expect(storage(b"set", b"k", b"new"), STORED)
    pool.pass_on("main")
    pool.client.expect(b"get k\r\n", MISS)
    assert pool.held("main") == MISS


@pytest.mark.parametrize(
    "request_, reply, after",
    [(storage(b"set", b"k", b"newer"), STORED, value(b"k", b"newer") + MISS), (b"delete k\r\n", b"NOT_FOUND\r\n", MISS)],
    ids=["set", "delete"],
)
def test_gutter_has_no_stale_value_the_next_time(start, request_, reply, after):
    """A write is deleted in the gutter, for failover_ttl after the gutter stood in."""
    pool = start()
    pool.refuse("main")
    pool.client.expect(storage(b"set", b"k", b"new"), STORED)
    pool.pass_on("main")
    pool.client.expect(request_, reply)
    eventually(lambda: pool.held("spare") == MISS, what="the key is deleted in the gutter")
    assert pool.held("main") == after
    pool.refuse("main")
    pool.client.expect(b"get k\r\n", MISS)


def test_replicas_come_before_the_gutter(start):
    pool = start(replicas=1)
    pool.refuse("main")
    pool.client.expect(storage(b"set", b"k", b"new"), STORED)
    pool.client.expect(b"get k\r\n", FOUND)
    assert pool.held("spare") == MISS
    assert pool.held("copy0") == FOUND
    pool.refuse("copy0")
    pool.client.expect(b"get k\r\n", MISS)
    pool.client.expect(storage(b"set", b"k", b"new"), STORED)
    assert pool.held("spare") == FOUND
    pool.client.expect(b"get k\r\n", FOUND)
    for name in ("main", "copy0"):
        pool.relays[name].pass_on()
    pool.pass_on("main")
    pool.client.expect(b"get k\r\n", MISS)


def test_error_and_miss_when_the_gutter_fails_too(start):
    pool = start()
    pool.refuse("main")
    pool.relays["spare"].refuse()
    pool.client.expect(b"get k\r\n", MISS)
    pool.client.send(storage(b"set", b"k", b"new"))
    assert pool.client.read_line().startswith(b"SERVER_ERROR ")
    pool.client.in_step()
