"""What every magent tutorial shows, with real servers: two primaries and a backup are killed and started again while a client reads."""

import pytest
from support.keys import keys_by_server
from support.service import errors_of
from support.talk import storage, value
from support.timing import TICK, Stopwatch, eventually, milliseconds

MISS = b"END\r\n"
TIMEOUT = 6
OPTIONS = ("--timeout", milliseconds(TIMEOUT), "--connect-timeout", milliseconds(TIMEOUT), "--server-retry-timeout", milliseconds(TIMEOUT))


class Site:
    """A proxy over two primaries and a backup."""

    def __init__(self, memcached, proxy, *options):
        self.primaries = [memcached(), memcached()]
        self.backup = memcached()
        first, second = self.primaries
        self.proxy = proxy("-s", first.address, "-s", second.address, "-b", self.backup.address, *OPTIONS, *options)
        self.talk = self.proxy.talk()

    @property
    def everyone(self):
        return [*self.primaries, self.backup]

    def read(self, key):
        return self.talk.ask(b"get %b\r\n" % key, MISS)

    def write(self, key, data, **item):
        self.talk.expect(storage(b"set", key, data, **item), b"STORED\r\n")


@pytest.fixture(params=[(), ("-k",), ("--backend-protocol", "binary")], ids=["modulo", "ketama", "binary servers"])
def site(request, memcached, proxy):
    site = Site(memcached, proxy, *request.param)
    with site.talk:
        yield site
        site.talk.in_step()


def holds(server, key):
    """The item that the server itself has under `key`: (flags, lifetime, data), or None."""
    with server.talk() as talk:
        line = talk.ask(b"mg %b f t v\r\n" % key)
        if line == b"EN\r\n":
            return None
        _, length, flags, life = line.split()
        return int(flags[1:]), int(life[1:]), talk.read_exactly(int(length) + 2)[:-2]


def test_the_tutorial(site):
    site.write(b"key1", b"hello")
    site.write(b"key2", b"world")

    for key in (b"key1", b"key2"):
        assert sum(holds(primary, key) is not None for primary in site.primaries) == 1
        eventually(lambda key=key: holds(site.backup, key), what="the asynchronous copy")

    for primary in site.primaries:
        primary.kill()
    for _ in range(5):
        assert site.read(b"key1") == value(b"key1", b"hello") + MISS
        assert site.read(b"key2") == value(b"key2", b"world") + MISS

    for primary in site.primaries:
        primary.restart()
    for _ in range(5):
        assert site.read(b"key1") == value(b"key1", b"hello") + MISS
        assert site.read(b"key2") == value(b"key2", b"world") + MISS

    eventually(lambda: site.proxy.stats()["backends_ejected"] == 0)
    for key, data in ((b"key1", b"hello"), (b"key2", b"world")):
        assert site.read(key) == value(key, data) + MISS
        eventually(lambda: any(holds(primary, key) for primary in site.primaries), what="the primary has it again")


@pytest.mark.parametrize("site", [(), ("-k",)], indirect=True)
def test_a_refilled_item_keeps_its_flags_and_the_rest_of_its_life(site):
    site.write(b"short", b"a", flags=5, exptime=1000)
    site.write(b"endless", b"b", flags=2**31)
    for primary in site.primaries:
        primary.restart()

    def refilled(key, data, flags):
        assert site.read(key) == value(key, data, flags) + MISS
        return holds(site.primaries[0], key) or holds(site.primaries[1], key)

    flags, life, data = eventually(lambda: refilled(b"short", b"a", 5))
    assert (flags, data) == (5, b"a")
    assert 900 < life <= 1000
    assert eventually(lambda: refilled(b"endless", b"b", 2**31)) == (2**31, -1, b"b")


def test_no_read_fails_while_servers_die_and_come_back(site):
    """One primary after the other is killed: every read of every key is right."""
    keys = [b"key%d" % number for number in range(100)]
    for key in keys:
        site.write(key, key)

    def all_are_read():
        for key in keys:
            assert site.read(key) == value(key, key) + MISS
        answer = site.talk.ask(b"get %b\r\n" % b" ".join(keys), MISS)
        assert all(value(key, key) in answer for key in keys)
        assert len(answer) == sum(len(value(key, key)) for key in keys) + len(MISS)

    all_are_read()
    for primary in site.primaries:
        primary.kill()
        all_are_read()
        primary.restart()
        all_are_read()
        eventually(lambda: site.proxy.stats()["backends_ejected"] == 0)
        all_are_read()


def test_what_was_written_while_a_primary_was_down_is_read_when_it_is_back(site):
    for primary in site.primaries:
        primary.kill()
    site.write(b"key1", b"new")
    site.talk.expect(storage(b"set", b"count", b"5"), b"STORED\r\n")
    site.talk.expect(b"incr count 3\r\n", b"8\r\n")
    site.write(b"gone", b"x")
    site.talk.expect(b"delete gone\r\n", b"DELETED\r\n")
    for primary in site.primaries:
        primary.restart()
    eventually(lambda: site.proxy.stats()["backends_ejected"] == 0)
    assert site.read(b"key1") == value(b"key1", b"new") + MISS
    assert site.read(b"count") == value(b"count", b"8") + MISS
    assert site.read(b"gone") == MISS


def test_a_backup_that_dies_is_not_noticed(site):
    site.write(b"key1", b"hello")
    site.backup.kill()
    for number in range(20):
        site.write(b"key1", b"%d" % number)
        assert site.read(b"key1") == value(b"key1", b"%d" % number) + MISS
    site.backup.restart()
    eventually(lambda: site.proxy.stats()["backends_ejected"] == 0)
    site.write(b"key1", b"again")
    eventually(lambda: holds(site.backup, b"key1"), what="the backup receives writes again")


def test_a_stopped_primary_costs_one_timeout_and_is_then_left_alone(memcached, proxy, tmp_path):
    """SIGSTOP: the kernel still accepts connections, the process does not reply. magent waits for ever here."""
    site = Site(memcached, proxy, "--server-failure-limit", "1", "--control", tmp_path / "control")
    site.proxy.control = str(tmp_path / "control")
    (key, *_), _ = keys_by_server(2, 1)
    with site.talk:
        site.write(key, b"hello")
        assert site.read(key) == value(key, b"hello") + MISS
        site.primaries[0].pause()
        watch = Stopwatch()
        assert site.read(key) == value(key, b"hello") + MISS
        assert watch.seconds > TIMEOUT * TICK * 0.9
        for _ in range(10):
            assert site.read(key) == value(key, b"hello") + MISS
        assert errors_of(site.proxy)["timeout"] == 1
        site.primaries[0].resume()
        eventually(lambda: site.proxy.stats()["backends_ejected"] == 0)
        assert site.read(key) == value(key, b"hello") + MISS
        site.talk.in_step()


def test_flush_all_empties_everyone(site):
    site.write(b"key1", b"hello")
    site.talk.expect(b"flush_all\r\n", b"OK\r\n")
    assert site.read(b"key1") == MISS
    assert not any(holds(server, b"key1") for server in site.everyone)
