"""`gutter`: a pool that stands in for servers that cannot be reached, with a life of at most `failover_ttl`."""

from contextlib import ExitStack

import pytest
from support.relay import Relay
from support.servers import Memcached
from support.talk import storage, value
from support.timing import eventually

from replicas import pools

STORED = b"STORED\r\n"
MISS = b"END\r\n"

#: Seconds.
FAILOVER_TTL = 60

LONG = pytest.mark.long


def found(key, data=b"new"):
    return value(key, data) + MISS


class Guttered:
    """A pool with a gutter and `replicas` replicas; the servers of each are one memcached behind a relay."""

    def __init__(self, folder, stack, replicas=0, **of_pool):
        self.replicas = [f"copy{number}" for number in range(replicas)]
        names = ["main", *self.replicas, "spare"]
        self.relays = {name: stack.enter_context(Relay(stack.enter_context(Memcached()))) for name in names}
        keys = {name: {"servers": pools.servers(relay)} for name, relay in self.relays.items()}
        keys["main"] |= {**of_pool, "gutter": "spare", "failover_ttl": FAILOVER_TTL, "on_miss": "never"}
        if replicas:
            keys["main"]["replicas"] = self.replicas
        self.proxy = stack.enter_context(pools.serve(folder, keys))
        self._talks = {name: stack.enter_context(relay.server.talk()) for name, relay in self.relays.items()}
        self.client = stack.enter_context(self.proxy.talk())

    def held(self, name, key):
        """What the server itself replies to a get."""
        return self._talks[name].ask(b"get %b\r\n" % key, MISS)

    def life_in_gutter(self, key):
        line = self._talks["spare"].ask(b"mg %b t\r\n" % key)
        return int(line[len(b"HD t") :])

    def put(self, name, key, data):
        self._talks[name].expect(storage(b"set", key, data), STORED)

    def refuse(self, name):
        """Returns when the server is ejected."""
        self.relays[name].refuse()
        before = self.proxy.stats()["backends_ejected"]

        def is_ejected():
            self.client.ask(b"touch none 0\r\n")
            return self.proxy.stats()["backends_ejected"] > before

        eventually(is_ejected, what=f"{name} is ejected")

    def pass_on(self):
        """Returns when every server is restored."""
        for relay in self.relays.values():
            relay.pass_on()

        def is_whole():
            stats = self.proxy.stats()
            return stats["backends_ejected"] == stats["backends_behind"] == 0

        eventually(is_whole, what="every server is restored")


@pytest.fixture(scope="module", params=[1, pytest.param(0, marks=LONG)], ids=["with a replica", "without replicas"])
def started(request, tmp_path_factory):
    with ExitStack() as stack:
        pool = Guttered(tmp_path_factory.mktemp("pools"), stack, request.param)
        yield pool
        pool.proxy.check_log()


@pytest.fixture
def pool(started):
    """All its servers are up before and after the test."""
    yield started
    started.pass_on()


@pytest.fixture
def down(pool):
    """Call it to refuse connections to all servers but those of the gutter."""

    def refuse():
        for name in ("main", *pool.replicas):
            pool.refuse(name)

    return refuse


@pytest.fixture
def key(request):
    """A key that no other test uses."""
    return request.node.name.replace(" ", "_").encode()


def test_gutter_receives_nothing_while_all_is_well(pool, key):
    before = pool.relays["spare"].server.stats()
    pool.client.expect(storage(b"set", key, b"new"), STORED)
    pool.client.expect(b"get %b\r\n" % key, found(key))
    after = pool.relays["spare"].server.stats()
    assert [after[name] for name in ("cmd_set", "cmd_get")] == [before[name] for name in ("cmd_set", "cmd_get")]


@pytest.mark.parametrize(
    "life, at_most", [(0, FAILOVER_TTL), pytest.param(1000, FAILOVER_TTL, marks=LONG), pytest.param(20, 20, marks=LONG)]
)
def test_gutter_stands_in_with_a_short_life(pool, key, down, life, at_most):
    down()
    pool.client.expect(storage(b"set", key, b"new", exptime=life), STORED)
    assert pool.held("spare", key) == found(key)
    assert at_most - 20 < pool.life_in_gutter(key) <= at_most
    pool.client.expect(b"get %b\r\n" % key, found(key))
    pool.client.expect(b"incr none-%b 1\r\n" % key, b"NOT_FOUND\r\n")


def test_what_the_gutter_has_is_not_read_when_the_server_is_back(pool, key, down):
    pool.put("main", key, b"old")
    down()
    pool.client.expect(storage(b"set", key, b"new"), STORED)
    pool.pass_on()
    pool.client.expect(b"get %b\r\n" % key, MISS)
    assert pool.held("main", key) == MISS


@pytest.mark.parametrize("verb", ["set", pytest.param("delete", marks=LONG)])
def test_gutter_has_no_stale_value_the_next_time(pool, key, down, verb):
    """A write is deleted in the gutter, for failover_ttl after the gutter stood in."""
    down()
    pool.client.expect(storage(b"set", key, b"new"), STORED)
    pool.pass_on()
    if verb == "set":
        pool.client.expect(storage(b"set", key, b"newer"), STORED)
    else:
        pool.client.expect(b"delete %b\r\n" % key, b"NOT_FOUND\r\n")
    eventually(lambda: pool.held("spare", key) == MISS, what="the key is deleted in the gutter")
    assert pool.held("main", key) == (found(key, b"newer") if verb == "set" else MISS)
    down()
    pool.client.expect(b"get %b\r\n" % key, MISS)


def test_sets_come_before_the_gutter(pool, key):
    *others, last = ["main", *pool.replicas]
    for name in others:
        pool.refuse(name)
    pool.client.expect(storage(b"set", key, b"new"), STORED)
    pool.client.expect(b"get %b\r\n" % key, found(key))
    assert pool.held("spare", key) == MISS
    assert pool.held(last, key) == found(key)


def test_error_and_miss_when_the_gutter_fails_too(pool, key, down):
    down()
    pool.relays["spare"].refuse()
    pool.client.expect(b"get %b\r\n" % key, MISS)
    pool.client.send(storage(b"set", key, b"new"))
    assert pool.client.read_line().startswith(b"SERVER_ERROR ")
    pool.client.in_step()


@pytest.mark.parametrize("asks", [storage(b"set", b"k", b"new"), b"incr k 1\r\n", storage(b"add", b"other", b"new"), b"delete k\r\n"])
def test_no_write_is_stored_in_the_gutter_that_too_few_sets_have_made(tmp_path, asks):
    """The client receives an error, although one set has made the write."""
    with ExitStack() as stack:
        pool = Guttered(tmp_path, stack, 2, write="majority")
        pool.client.expect(storage(b"set", b"k", b"5"), STORED)
        for name in ("main", "copy0"):
            pool.refuse(name)
        for _ in range(2):
            pool.client.send(asks)
            assert pool.client.read_line().startswith(b"SERVER_ERROR ")
        pool.client.in_step()
        for key in (b"k", b"other"):
            assert pool.held("spare", key) == MISS
