"""`read`: which set of servers replies to a read."""

import statistics
from contextlib import ExitStack

import pytest
from faults.stage import Stage
from support.keys import keys_by_server
from support.relay import Relay
from support.servers import Memcached
from support.talk import storage, value
from support.threads import run_in_threads
from support.timing import Stopwatch, eventually

from replicas import pools
from replicas.sets import Sets, wait_until_replied

STORED = b"STORED\r\n"
FOUND = value(b"k", b"7") + b"END\r\n"

#: The servers are new, but their misses are believed.
NOT_WARMING = ("--on-miss", "never")

SPREAD = ("--read", "spread", *NOT_WARMING)

#: Reads of one key, by several clients.
READS, CLIENTS = 900, 3

#: Seconds by which all that passes between gmproxy and a far set is delayed.
FAR = 0.005

#: The maximum distance from an equal share.
TOLERANCE = 0.1


def read_often(proxy, request, reply, times=READS, clients=CLIENTS):
    def one_client(number):
        with proxy.talk() as talk:
            for _ in range(times // clients):
                talk.expect(request, reply)

    run_in_threads(one_client, clients)


def reads_since(sets, before):
    return [now - then for now, then in zip(sets.reads(), before)]


def wait_until_copied(sets, key, data):
    eventually(lambda: all(sets.held(index, key) == data for index in range(len(sets.nodes))), what="all sets have it")


# -- first


@pytest.mark.parametrize(
    "request_, reply", [(b"get k\r\n", FOUND), (b"mg k v\r\n", b"VA 1\r\n7\r\n"), (b"get x k\r\n", FOUND)], ids=["get", "mg", "two"]
)
def test_first_reads_the_main_set_alone(whole, request_, reply):
    whole.ask(storage(b"set", b"k", b"7"))
    wait_until_copied(whole, b"k", b"7")
    before = whole.reads()
    read_often(whole.proxy, request_, reply, 30)
    assert [bool(count) for count in reads_since(whole, before)] == [True, False, False]
    whole.refuse([0])
    read_often(whole.proxy, request_, reply, 30)
    whole.refuse([1])
    read_often(whole.proxy, request_, reply, 30)


@pytest.fixture(scope="module")
def unbroken():
    with Sets(*NOT_WARMING) as sets:
        yield sets


@pytest.fixture
def whole(unbroken):
    yield unbroken
    unbroken.pass_on()


# -- spread


def check_turns(sets, request, reply):
    sets.ask(storage(b"set", b"k", b"7"))
    wait_until_copied(sets, b"k", b"7")
    before = sets.reads()
    read_often(sets.proxy, request, reply)
    share = READS / len(sets.nodes)
    counts = reads_since(sets, before)
    assert all(abs(count - share) <= TOLERANCE * share for count in counts), counts


ONE_KEY = pytest.mark.parametrize("request_, reply", [(b"get k\r\n", FOUND), (b"mg k v\r\n", b"VA 1\r\n7\r\n")], ids=["get", "mg"])


@ONE_KEY
def test_spread_reads_a_hot_key_from_each_server_in_turns(spread, request_, reply):
    check_turns(spread, request_, reply)


@pytest.mark.long
@ONE_KEY
def test_spread_reads_a_hot_key_from_each_server_in_turns_of_two_workers(request_, reply):
    with Sets(*SPREAD, workers=2) as sets:
        check_turns(sets, request_, reply)


def test_spread_leaves_out_a_set_that_cannot_be_reached(spread):
    spread.ask(storage(b"set", b"k", b"7"))
    wait_until_copied(spread, b"k", b"7")
    spread.refuse([1], ejected=True)
    before = spread.reads()
    read_often(spread.proxy, b"get k\r\n", FOUND)
    first, second, third = reads_since(spread, before)
    assert second == 0 and abs(first - third) <= TOLERANCE * READS, (first, second, third)


@pytest.mark.parametrize(
    "request_", [b"gets k\r\n", b"mg k v c\r\n", b"gat 100 k\r\n", b"mg k v T100\r\n", b"mg k v N30\r\n", b"mg k v R30\r\n"]
)
def test_spread_does_not_hold_for_reads_that_need_the_main_set(spread, request_):
    """Each set has another value."""
    for index in range(len(spread.nodes)):
        spread.put(index, b"k", b"%d" % index)
    for _ in range(6):
        assert b"\r\n0\r\n" in spread.ask(request_)


@pytest.fixture(scope="module")
def spreading():
    with Sets(*SPREAD, ejects=True) as sets:
        yield sets


@pytest.fixture
def spread(spreading):
    yield spreading
    spreading.pass_on()


def test_multi_get_picks_one_set():
    """Each set has other values. A reply has those of one set, although the keys are on two servers of it."""
    ours, theirs = keys_by_server(2, 5)
    keys = [key for pair in zip(ours, theirs) for key in pair]
    seen = set()
    with Stage(2, 0, options=SPREAD, replicas=2) as stage:
        sets = [stage.primaries, *(replica.nodes for replica in stage.replicas)]
        for index, nodes in enumerate(sets):
            for node, of_node in zip(nodes, (ours, theirs)):
                with node.server.talk() as talk:
                    talk.expect(b"".join(storage(b"set", key, b"%d" % index) for key in of_node), STORED * len(of_node))
        with stage.proxy.talk() as talk:
            for _ in range(12):
                found = talk.ask(b"get %b\r\n" % b" ".join(keys), b"END\r\n").split(b"\r\n")[1::2][: len(keys)]
                assert len(found) == len(keys) and len(set(found)) == 1, found
                seen.add(found[0])
        stage.proxy.check_log()
    assert seen == {b"0", b"1", b"2"}


# -- near


class Zones:
    """Three sets in three zones, behind relays, and a proxy in the zone of the second one. The other two are far away."""

    NEAR = 1
    NAMES = ("main", "near", "far")

    def __init__(self, folder, stack):
        self.relays = [stack.enter_context(Relay(stack.enter_context(Memcached()))) for _ in self.NAMES]
        keys = {name: {"servers": pools.servers(relay), "zone": name} for name, relay in zip(self.NAMES, self.relays)}
        keys["main"] |= {"replicas": ["near", "far"], "read": "near", "on_miss": "never"}
        self.proxy = stack.enter_context(pools.serve(folder, keys, "--zone", "near"))
        for index, relay in enumerate(self.relays):
            if index != self.NEAR:
                relay.delay(FAR)

    def reads(self):
        return [relay.server.stats()["cmd_get"] for relay in self.relays]


@pytest.fixture(scope="module")
def zones(tmp_path_factory):
    with ExitStack() as stack:
        zones = Zones(tmp_path_factory.mktemp("zones"), stack)
        yield zones
        zones.proxy.check_log()


def test_near_reads_the_set_of_its_zone_alone(zones):
    keys = [b"key-%d" % number for number in range(10)]
    every = b"".join(value(key, b"7") for key in keys) + b"END\r\n"
    with zones.proxy.talk() as talk:
        talk.expect(b"".join(storage(b"set", key, b"7") for key in keys), STORED * len(keys))
        wait_until_replied(talk)
        before = zones.reads()
        for key in keys:
            talk.expect(b"get %b\r\n" % key, value(key, b"7") + b"END\r\n")
            talk.expect(b"mg %b v\r\n" % key, b"VA 1\r\n7\r\n")
        talk.expect(b"get %b\r\n" % b" ".join(keys), every)
        after = zones.reads()
        assert [after[0], after[2]] == [before[0], before[2]], "no read of a far set"
        talk.in_step()


@pytest.mark.long  # compares times
def test_near_takes_as_long_as_its_set(zones):
    with zones.proxy.talk() as talk:
        talk.expect(storage(b"set", b"k", b"7"), STORED)
        wait_until_replied(talk)

        def median_of(request, end):
            return statistics.median(seconds_of(lambda: talk.ask(request, end)) for _ in range(200))

        near, main = median_of(b"get k\r\n", b"END\r\n"), median_of(b"gets k\r\n", b"END\r\n")
    print(f"p50 of get, which reads the near set: {near * 1000:.2f} ms; of gets, which reads the main set: {main * 1000:.2f} ms")
    assert near < FAR < 2 * FAR < main


def seconds_of(action):
    watch = Stopwatch()
    action()
    return watch.seconds


def test_near_reads_another_set_if_its_own_cannot_be_reached(zones):
    with zones.proxy.talk() as talk:
        talk.expect(storage(b"set", b"k", b"7"), STORED)
        wait_until_replied(talk)
        zones.relays[zones.NEAR].refuse()
        for _ in range(5):
            talk.expect(b"get k\r\n", FOUND)
        talk.in_step()
    zones.relays[zones.NEAR].pass_on()
