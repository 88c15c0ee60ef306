"""A server fails and recovers without losing its memory, one case at a time: it must not return values that were overwritten or deleted meanwhile.

Every case uses many keys, because a single key may be right by chance.
"""

import pytest
from support.talk import storage
from support.timing import eventually, milliseconds

from faults.stage import Stage

#: At most the number of requests of one client in flight, so that all of them wait for the same timeout.
COUNT = 60
KEYS = [b"key-%d" % number for number in range(COUNT)]

#: How often a race is repeated, and how often its outcome is checked.
ROUNDS = 3


@pytest.fixture
def stage():
    """A function that makes a Stage of its arguments. The stage ends with the test."""
    stages = []

    def start(*arguments, **options):
        stages.append(Stage(*arguments, **options))
        return stages[-1]

    yield start
    for made in stages:
        with made:
            made.proxy.check_log()


# -- requests through the proxy. Each reply must be that of a memcached that never failed.


def change(stage, answer, *requests):
    with stage.proxy.talk() as talk:
        talk.expect(b"".join(requests), answer * len(requests))


def answers(talk, requests):
    """The replies to `requests`, which are one for each key."""
    talk.send(requests)
    return [talk.read_line() for _ in KEYS]


def set_all(stage, data):
    change(stage, b"STORED\r\n", *(storage(b"set", key, data) for key in KEYS))


def values_of(talk):
    """{key: value} of those KEYS that are found."""
    found = {}
    talk.send(b"get %b\r\n" % b" ".join(KEYS))
    while (line := talk.read_line()) != b"END\r\n":
        _, key, _, length = line.split()
        found[key] = talk.read_exactly(int(length) + 2)[:-2]
    return found


def read_all(stage):
    with stage.proxy.talk() as talk:
        return values_of(talk)


def held_by(node):
    """{key: value} of those KEYS that the server itself has."""
    with node.server.talk() as talk:
        return values_of(talk)


def expect_none(found, old, what):
    stale = keys_with(found, old)
    assert not stale, f"{what}: {len(stale)} of {COUNT} keys have their old value: {stale[:5]} ..."


def keys_with(found, data):
    return [key for key in KEYS if found.get(key) == data]


# -- faults


def leave_alone(stage, node):
    """`node` has failed: send requests for its keys until the proxy ejects it."""

    def left_alone():
        read_all(stage)
        with stage.proxy.talk() as talk:  # only writes are sent to a backup
            talk.ask(b"touch key-0 0\r\n")
        return stage.proxy.stats()["backends_ejected"] == 1

    eventually(left_alone, what=f"{node.name} is ejected")


class Hang:
    """The process is stopped (SIGSTOP), and continues later."""

    wires = False

    @staticmethod
    def begin(node):
        node.server.pause()

    @staticmethod
    def end(node):
        node.server.resume()


class Refuse:
    """Connections are refused, as by a firewall, and accepted later."""

    wires = True

    @staticmethod
    def begin(node):
        node.relay.refuse()

    @staticmethod
    def end(node):
        node.relay.pass_on()


class Silence:
    """No bytes pass in either direction. They arrive when the network works again."""

    wires = True

    @staticmethod
    def begin(node):
        node.relay.hold()

    @staticmethod
    def end(node):
        node.relay.pass_on()


def ways(*faults):
    """Runs the test with each of these classes as its `fault`."""
    return pytest.mark.parametrize("fault", faults, ids=[fault.__name__.lower() for fault in faults])


class Away:
    """During the `with` block the server `node` has failed and is ejected. At the end it recovers and is restored."""

    def __init__(self, fault, stage, node):
        self.fault = fault
        self.stage = stage
        self.node = node

    def __enter__(self):
        self.fault.begin(self.node)
        leave_alone(self.stage, self.node)

    def __exit__(self, *failure):
        self.fault.end(self.node)
        self.stage.wait_until_whole()


# -- with a backup


class TestPrimaryWithABackup:
    """With each kind of write."""

    @pytest.fixture
    def pair(self, stage):
        return stage(primaries=1, backups=1)

    @pytest.fixture
    def away(self, pair):
        return Away(Hang, pair, pair.primaries[0])

    def test_set(self, pair, away):
        set_all(pair, b"old")
        with away:
            set_all(pair, b"new")
            assert read_all(pair) == dict.fromkeys(KEYS, b"new")
        expect_none(read_all(pair), b"old", "through the proxy")
        eventually(lambda: not keys_with(held_by(away.node), b"old"), what="the server itself has nothing that is old")

    def test_delete(self, pair, away):
        set_all(pair, b"old")
        with away:
            change(pair, b"DELETED\r\n", *(b"delete %b\r\n" % key for key in KEYS))
            assert read_all(pair) == {}
        expect_none(read_all(pair), b"old", "through the proxy")

    def test_incr(self, pair, away):
        change(pair, b"STORED\r\n", *(storage(b"set", key, b"5") for key in KEYS))
        with away:
            change(pair, b"6\r\n", *(b"incr %b 1\r\n" % key for key in KEYS))
        expect_none(read_all(pair), b"5", "through the proxy")

    def test_append(self, pair, away):
        set_all(pair, b"old")
        with away:
            change(pair, b"STORED\r\n", *(storage(b"append", key, b"er") for key in KEYS))
        expect_none(read_all(pair), b"old", "through the proxy")

    def test_change_on_a_condition(self, pair, away):
        set_all(pair, b"old")
        with away:
            change(pair, b"STORED\r\n", *(storage(b"replace", key, b"new") for key in KEYS))
        expect_none(read_all(pair), b"old", "through the proxy")

    def test_what_was_not_changed_is_still_there(self, pair, away):
        set_all(pair, b"old")
        with away:
            change(pair, b"STORED\r\n", *(storage(b"set", key, b"new") for key in KEYS[:30]))
        eventually(lambda: keys_with(held_by(away.node), b"old") == KEYS[30:], what="half of the values are gone, half are there")


@ways(Refuse, Silence)
def test_primary_that_could_not_be_reached(stage, fault):
    pair = stage(primaries=1, backups=1, wires=True)
    set_all(pair, b"old")
    with Away(fault, pair, pair.primaries[0]):
        set_all(pair, b"new")
    expect_none(read_all(pair), b"old", "through the proxy")


@ways(Hang, Silence)
def test_backup_that_was_away_does_not_bring_back_old_values(stage, fault):
    pair = stage(primaries=1, backups=1, wires=fault.wires)
    set_all(pair, b"old")
    with Away(fault, pair, pair.backups[0]):
        set_all(pair, b"new")
    pair.primaries[0].server.kill()
    expect_none(read_all(pair), b"old", "from the backup")


@ways(Hang, Silence)
def test_delete_that_the_backup_missed_is_not_undone(stage, fault):
    pair = stage(primaries=1, backups=1, wires=fault.wires)
    set_all(pair, b"old")
    with Away(fault, pair, pair.backups[0]):
        change(pair, b"DELETED\r\n", *(b"delete %b\r\n" % key for key in KEYS))
    pair.primaries[0].server.kill()
    expect_none(read_all(pair), b"old", "from the backup")


def test_change_that_ran_late_without_an_ejection(stage):
    """A server that was late once is not ejected, but it may not have executed yet what was sent to it."""
    pair = stage(primaries=1, backups=1, options=("--server-failure-limit", "100000"))
    primary = pair.primaries[0]
    for _ in range(ROUNDS):
        set_all(pair, b"old")
        primary.server.pause()
        set_all(pair, b"new")  # the backup replies, because the primary is late
        primary.server.resume()
        for _ in range(ROUNDS):
            expect_none(read_all(pair), b"old", "through the proxy")


# -- without a backup


def unread(server):
    """Bytes that have arrived for a memcached and that it has not read, from the kernel's table of connections."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return sum(int(row[4].split(":")[1], 16) for row in rows if int(row[1].split(":")[1], 16) == server.port and row[3] != LISTENS)


LISTENS = "0A"  # the state of a listening socket in /proc/net/tcp


def test_write_that_timed_out_never_overtakes_a_later_one(stage):
    alone = stage(primaries=1, options=("--server-failure-limit", "100000", "--timeout", milliseconds(4)))
    server = alone.primaries[0].server
    before = b"".join(storage(b"set", key, b"before") for key in KEYS)
    early = b"".join(storage(b"set", key, b"early") for key in KEYS)
    late = b"".join(storage(b"set", key, b"late!") for key in KEYS)
    for _ in range(ROUNDS):
        with alone.proxy.talk() as talk:
            eventually(lambda: answers(talk, before) == [b"STORED\r\n"] * COUNT, what="the server takes writes again")
            server.pause()
            talk.send(early)
            assert all(talk.read_line().startswith(b"SERVER_ERROR ") for _ in KEYS)
            waiting = unread(server)
            talk.send(late)
            eventually(lambda: unread(server) > waiting or not talk.silent(0), what="later writes have arrived, or were refused")
            server.resume()
            stored = [key for key in KEYS if talk.read_line() == b"STORED\r\n"]
        for _ in range(ROUNDS):
            found = read_all(alone)
            expect_none({key: found[key] for key in stored if key in found}, b"early", "after a later write was acknowledged")


# -- auto-eject: stand-in servers of the ring


@ways(Hang, Refuse)
class TestEjectedFromTheRing:
    @pytest.fixture
    def ring(self, stage, fault):
        return stage(primaries=2, wires=fault.wires, options=("--auto-eject-hosts",))

    @pytest.fixture
    def away(self, ring, fault):
        return Away(fault, ring, ring.primaries[0])

    def test_what_was_changed_elsewhere_is_not_found_as_it_was(self, ring, away):
        set_all(ring, b"old")
        with away:
            set_all(ring, b"new")
        expect_none(read_all(ring), b"old", "through the proxy")

    def test_what_was_deleted_elsewhere_stays_deleted(self, ring, away):
        set_all(ring, b"old")
        with away, ring.proxy.talk() as talk:
            for key in KEYS:
                assert talk.ask(b"delete %b\r\n" % key) in (b"DELETED\r\n", b"NOT_FOUND\r\n")
        expect_none(read_all(ring), b"old", "through the proxy")

    def test_what_was_written_elsewhere_is_not_found_the_next_time(self, ring, away):
        with away:
            set_all(ring, b"old")
        set_all(ring, b"new")
        with away:
            expect_none(read_all(ring), b"old", "while the server is away again")
