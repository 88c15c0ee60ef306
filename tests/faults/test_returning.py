"""A server that comes back with its memory, one case at a time: what was changed while it was away must not be found on it.

Every case has many keys, for such a thing may go well by luck.
"""

import pytest
from support.talk import storage
from support.timing import eventually, milliseconds

from faults.stage import Stage

#: As many as one client may have in flight, so that all of them wait for the same timeout.
COUNT = 60
KEYS = [b"key-%d" % number for number in range(COUNT)]

#: Times that a race is run, and that its outcome is looked at.
ROUNDS = 3


@pytest.fixture
def stage():
    """Call it with what Stage wants; it is taken down with the test."""
    stages = []

    def start(*arguments, **options):
        stages.append(Stage(*arguments, **options))
        return stages[-1]

    yield start
    for made in stages:
        with made:
            made.proxy.check_log()


# -- what is done through the proxy. Every answer must be as it would be from a memcached that never failed.


def change(stage, answer, *requests):
    with stage.proxy.talk() as talk:
        talk.expect(b"".join(requests), answer * len(requests))


def answers(talk, requests):
    """What a request for each key is answered."""
    talk.send(requests)
    return [talk.read_line() for _ in KEYS]


def set_all(stage, data):
    change(stage, b"STORED\r\n", *(storage(b"set", key, data) for key in KEYS))


def values_of(talk):
    """key -> value of those KEYS that are there."""
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
    """What the server itself has."""
    with node.server.talk() as talk:
        return values_of(talk)


def expect_none(found, old, what):
    stale = keys_with(found, old)
    assert not stale, f"{what}: {len(stale)} of {COUNT} keys have their old value: {stale[:5]} ..."


def keys_with(found, data):
    return [key for key in KEYS if found.get(key) == data]


# -- faults


def leave_alone(stage, node):
    """`node` fails from now on: ask its keys until the proxy leaves it alone."""

    def left_alone():
        read_all(stage)
        with stage.proxy.talk() as talk:  # a backup is only asked by changes
            talk.ask(b"touch key-0 0\r\n")
        return stage.proxy.stats()["backends_ejected"] == 1

    eventually(left_alone, what=f"{node.name} is left alone")


class Hang:
    """The process is stopped, and goes on later."""

    wires = False

    @staticmethod
    def begin(node):
        node.server.pause()

    @staticmethod
    def end(node):
        node.server.resume()


class Refuse:
    """Nobody can connect, as when a firewall rejects, and later everybody can."""

    wires = True

    @staticmethod
    def begin(node):
        node.relay.refuse()

    @staticmethod
    def end(node):
        node.relay.pass_on()


class Silence:
    """Nothing gets through, and what was on its way arrives when the wire is good again."""

    wires = True

    @staticmethod
    def begin(node):
        node.relay.hold()

    @staticmethod
    def end(node):
        node.relay.pass_on()


def ways(*faults):
    """Run the test for each of these ways to be away, its `fault`."""
    return pytest.mark.parametrize("fault", faults, ids=[fault.__name__.lower() for fault in faults])


class Away:
    """In the `with` the server `node` is away and left alone; then it is back and trusted."""

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
    """Whatever kind of change it was."""

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
    """A server that was late once is not left alone, but what it was asked meanwhile may not have happened yet."""
    pair = stage(primaries=1, backups=1, options=("--server-failure-limit", "100000"))
    primary = pair.primaries[0]
    for _ in range(ROUNDS):
        set_all(pair, b"old")
        primary.server.pause()
        set_all(pair, b"new")  # answered by the backup, for the primary is late
        primary.server.resume()
        for _ in range(ROUNDS):
            expect_none(read_all(pair), b"old", "through the proxy")


# -- without a backup


def unread(server):
    """Bytes that have arrived for a memcached and that it has not read: the kernel tells."""
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


# -- a ring that closes over the gap


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
