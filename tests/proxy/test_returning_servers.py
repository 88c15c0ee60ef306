"""A server that missed writes, with real servers: which of its values are read, which keys are deleted there, and when it is restored."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from support.columns import NEVER_EJECT
from support.keys import keys_by_server
from support.relay import Relay
from support.scripted import hang
from support.service import errors_of
from support.talk import storage, value
from support.timing import TICK, Stopwatch, eventually, milliseconds

MISS = b"END\r\n"
STORED = b"STORED\r\n"
GET = b"get k\r\n"
SOON = ("--timeout", milliseconds(4), "--connect-timeout", milliseconds(4), "--server-retry-timeout", milliseconds(4))


def set_(key, data):
    return storage(b"set", key, data)


def values(*pairs):
    return b"".join(value(key, data) for key, data in pairs) + MISS


@pytest.fixture
def relay():
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(Relay(server))


def is_calm(front):
    """No request is in flight, and no invalidation is pending."""
    stats = front.stats()
    return not any(
        stats[name] for name in ("links_lingering", "changes_undecided", "fetches", "backends_behind", "backends_ejected", "journal_keys")
    )


def leave_alone(front, talk, request=b"touch k 0\r\n"):
    eventually(lambda: talk.ask(request) and front.stats()["backends_ejected"] == 1, what="it is ejected")


# -- several keys, one of which the server missed


@pytest.mark.parametrize("backed", [True, False], ids=["with a backup", "without"])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("verb", [b"get", b"gats 60"])
def test_one_key_that_was_missed_does_not_take_others_with_it(scripted, proxy, backed, place, verb):
    """A write of one key failed on the primary, and the key cannot be deleted there: that key is not read there, all others are."""
    keys = [b"a", b"b", b"c"]
    missed = keys[place]
    asked = b"%b %b\r\n" % (verb, b" ".join(key for key in keys if key != missed))
    touches = verb != b"get"
    found = b"".join(b"VALUE %b 0 1%b\r\n1\r\n" % (key, b" 7" if touches else b"") for key in keys if key != missed)
    change = b"incr %b 1\r\n" % missed
    primary = scripted(answer=lambda request: found + MISS if request == asked else hang(), forgets=False)
    backup = scripted(answer=lambda request: {b"i": b"6\r\n", b"t": b"TOUCHED\r\n"}.get(request[:1], MISS))
    where = ("-s", primary.address, *(("-b", backup.address) if backed else ()))
    front = proxy(*where, "--timeout", milliseconds(4), "--on-miss", "never", *NEVER_EJECT)
    with front.talk() as talk:
        answer = talk.ask(change)
        assert answer == b"6\r\n" if backed else answer.startswith(b"SERVER_ERROR timeout ")
        assert front.stats()["journal_keys"] == 1
        talk.expect(b"%b %b\r\n" % (verb, b" ".join(keys)), found + MISS)
        talk.in_step()


def test_the_rule_in_one_piece(memcached, proxy, relay):
    """Keys that were written while the primary was not reachable are read from the backup, the others from the primary, in one reply."""
    primary, backup = memcached(), memcached()
    wire = relay(primary)
    front = proxy("-s", wire.address, "-b", backup.address, *SOON)
    keys = [b"key-%d" % number for number in range(9)]
    with front.talk() as talk:
        talk.expect(b"".join(set_(key, b"old") for key in keys), STORED * 9)
        wire.refuse()
        leave_alone(front, talk)
        talk.expect(b"".join(set_(key, b"new") for key in keys[::2]), STORED * 5)
        wire.pass_on()
        eventually(lambda: is_calm(front), what="it is back")
        talk.expect(b"get %b\r\n" % b" ".join(keys), values(*((key, b"old" if number % 2 else b"new") for number, key in enumerate(keys))))
        talk.in_step()


# -- the journal overflows


def test_more_changes_than_are_remembered(memcached, proxy):
    primary, backup = memcached(), memcached()
    front = proxy("-s", primary.address, "-b", backup.address, *SOON, "--journal-size", "10")
    keys = [b"key-%d" % number for number in range(30)]
    with front.talk() as talk, primary.talk() as there:
        talk.expect(b"".join(set_(key, b"old") for key in keys), STORED * 30)
        primary.pause()
        leave_alone(front, talk)
        talk.expect(b"".join(set_(key, b"new") for key in keys[:20]), STORED * 20)
        primary.resume()
        eventually(lambda: front.stats()["backends_behind"] == front.stats()["backends_ejected"] == 0, what="it has caught up")
        assert b"old" not in there.ask(b"get %b\r\n" % b" ".join(keys), MISS)
        talk.expect(b"get %b\r\n" % b" ".join(keys), values(*((key, b"new" if number < 20 else b"old") for number, key in enumerate(keys))))
        assert front.stats()["journal_flushes"] == 1
        talk.in_step()
    assert f"journal overflowed server={primary.address} keys=10" in front.log()
    assert f"caught up server={primary.address} keys=0 flushes=1" in front.log()


def test_a_flush_for_one_part_of_a_server_is_known_to_the_other(memcached, proxy):
    """Each server is also the other's backup. One of them is flushed as a backup, so as a primary it lacks keys."""
    left, right = memcached(), memcached()
    front = proxy(
        "-s",
        left.address,
        "-s",
        right.address,
        "-b",
        right.address,
        "-b",
        left.address,
        *SOON,
        "--journal-size",
        "0",
        "--server-failure-limit",
        "1000",
        "--warming-time",
        "1",
    )
    (mine, *_), (theirs, *_) = keys_by_server(2, 1)  # the first is on the left, with its copy on the right; the second the other way round
    with front.talk() as talk:
        talk.expect(set_(mine, b"1") + set_(theirs, b"2"), STORED * 2)
        left.pause()
        talk.expect(set_(theirs, b"3"), STORED)  # its copy is lost, so the left one has to be flushed
        eventually(lambda: front.stats()["backup_writes_lost"] == 1, what="the copy is lost")
        left.resume()
        eventually(lambda: front.stats()["journal_flushes"] >= 1 and is_calm(front), what="it was flushed")
        talk.expect(b"get %b\r\n" % mine, values((mine, b"1")))
        talk.in_step()


# -- flush_all while a server is not reachable


@pytest.mark.parametrize("victim", ["primary", "backup"])
def test_a_flush_reaches_who_was_away(memcached, proxy, victim):
    servers = {"primary": memcached(), "backup": memcached()}
    front = proxy("-s", servers["primary"].address, "-b", servers["backup"].address, *SOON)
    with front.talk() as talk:
        talk.expect(set_(b"k", b"old"), STORED)
        servers[victim].pause()
        leave_alone(front, talk)
        talk.expect(b"flush_all\r\n", b"SERVER_ERROR ejected %b\r\n" % servers[victim].address.encode())
        talk.expect(GET, MISS)
        talk.expect(set_(b"l", b"new"), STORED)
        servers[victim].resume()
        eventually(lambda: is_calm(front), what="it is back")
        talk.expect(b"get k l\r\n", values((b"l", b"new")))
        with servers[victim].talk() as there:
            assert b"old" not in there.ask(GET, MISS)
        talk.in_step()


def test_a_flush_that_ran_into_the_timeout_takes_nothing_newer_with_it(memcached, proxy):
    """The server may execute it much later: values written until then must not be lost by it."""
    primary, backup = memcached(), memcached()
    front = proxy("-s", primary.address, "-b", backup.address, *SOON, *NEVER_EJECT)
    with front.talk() as talk:
        talk.expect(set_(b"k", b"old"), STORED)
        primary.pause()
        assert talk.ask(b"flush_all\r\n").startswith(b"SERVER_ERROR ")
        talk.expect(set_(b"k", b"new"), STORED)
        primary.resume()
        eventually(lambda: is_calm(front), what="it was flushed")
        talk.expect(GET, values((b"k", b"new")))
        talk.in_step()


# -- while writes continue


@pytest.mark.parametrize("options", [(), ("--backup-writes", "sync")], ids=["async", "sync"])
def test_a_server_is_trusted_again_though_its_keys_go_on_changing(memcached, proxy, relay, options):
    """On this slow connection its pending invalidations take some time to send, and meanwhile new ones are added."""
    primary, backup = memcached(), memcached()
    wire = relay(primary)
    front = proxy(
        "-s", wire.address, "-b", backup.address, "--timeout", milliseconds(20), "--server-retry-timeout", milliseconds(4), *options
    )
    done = threading.Event()

    def go_on_writing():
        with front.talk() as talk:
            number = 0
            while not done.is_set():
                number += 1
                assert talk.ask(set_(b"key-%d" % (number % 1000), b"%d" % number)) == STORED
            talk.in_step()

    with ThreadPoolExecutor(1) as pool, front.talk() as talk:
        wire.refuse()
        leave_alone(front, talk)
        writing = pool.submit(go_on_writing)
        try:
            wire.pass_on()
            wire.delay(TICK / 2)
            eventually(lambda: front.stats()["backends_ejected"] == 0 or writing.done(), what="it is restored")
        finally:
            done.set()
        writing.result()
        wire.pass_on()
        eventually(lambda: is_calm(front), what="it has caught up")


# -- hanging, and flapping


def ask_in_turn(front, rounds=30):
    """A client sends requests, each when it has the reply to the one before."""
    with front.talk() as talk:
        for number in range(rounds):
            talk.ask(b"get k%d\r\n" % number, MISS)
        talk.in_step()


@pytest.mark.parametrize("clients", [1, 8])
@pytest.mark.parametrize("backed", [True, False], ids=["with a backup", "without"])
def test_a_server_that_hangs_costs_a_client_one_timeout(memcached, proxy, tmp_path, clients, backed):
    ticks = 12
    server, backup = memcached(), memcached()
    where = ("-s", server.address, *(("-b", backup.address) if backed else ()))
    front = proxy(
        *where, "--timeout", milliseconds(ticks), "--server-retry-timeout", milliseconds(ticks), "--control", tmp_path / "control"
    )
    front.control = str(tmp_path / "control")
    ask_in_turn(front, rounds=1)
    assert errors_of(front)["timeout"] == 0
    server.pause()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda _: ask_in_turn(front), range(clients)))
    timeouts = errors_of(front)["timeout"]
    assert 1 <= timeouts <= clients
    ask_in_turn(front)
    assert errors_of(front)["timeout"] == timeouts
    server.resume()


def test_a_server_that_is_suspected_in_vain_stays(scripted, proxy):
    """Only one request hangs: the server replies to the probe, and no other request waits."""
    server = scripted(answer=lambda request: hang() if b"slow" in request else b"VERSION 1.6.18\r\n" if request[:1] == b"v" else MISS)
    front = proxy("-s", server.address, "--timeout", milliseconds(4), "--server-failure-limit", "2")
    with front.talk() as talk:
        for _ in range(3):
            talk.expect(b"get slow\r\n", MISS)
            talk.expect(GET, MISS)
        talk.in_step()
    assert front.stats()["ejections"] == 0


def test_failures_to_catch_up_are_forgiven_by_answers(scripted, proxy):
    """A few failures from time to time, with replies in between, are not consecutive failures."""
    server = scripted(answer=lambda request: hang() if request[:4] == b"incr" else MISS, forgets=False)
    front = proxy("-s", server.address, "--timeout", milliseconds(4))
    with front.talk() as talk:
        assert talk.ask(b"incr k 1\r\n").startswith(b"SERVER_ERROR timeout ")
        watch = Stopwatch()
        while watch.seconds < 40 * TICK:
            talk.expect(b"get x\r\n", MISS)
        talk.in_step()
    assert front.stats()["ejections"] == 0


def test_a_flapping_server_is_held_out_longer(memcached, proxy):
    server = memcached()
    front = proxy("-s", server.address, *SOON[:4], "--server-retry-timeout", milliseconds(400))
    held_out = []
    with front.talk() as talk:
        for _ in range(4):
            server.kill()
            leave_alone(front, talk)
            server.restart()
            eventually(lambda: front.stats()["backends_ejected"] == 0, what="it is back")
            held_out.append(float(front.log().rsplit("down=", 1)[1].split("s")[0]))
            talk.expect(set_(b"k", b"x"), STORED)
        talk.in_step()
    assert held_out[-1] > 2 * held_out[0], held_out


# -- the ring without the ejected server


RING = (*SOON, "--auto-eject-hosts", "--distribution", "ketama", "--hash", "md5", "--server-failure-limit", "2")


def life_left(server, key):
    with server.talk() as talk:
        return int(talk.ask(b"mg %b t\r\n" % key).split(b"t")[1])


def keys_that_move(front, talk, server):
    """The keys that another server has while `server` is ejected."""
    keys = [b"key-%d" % number for number in range(60)]
    talk.expect(b"".join(set_(key, b"old") for key in keys), STORED * 60)
    with server.talk() as there:
        answer = there.ask(b"get %b\r\n" % b" ".join(keys), MISS)
    return [key for key in keys if b"VALUE %b " % key in answer]


def test_an_item_on_another_server_lives_as_long_as_it_may(memcached, proxy):
    servers = memcached(), memcached()
    front = proxy("-s", servers[0].address, "-s", servers[1].address, *RING, "--failover-ttl", "30")
    with front.talk() as talk:
        one, two, three, *_ = keys_that_move(front, talk, servers[0])
        servers[0].kill()
        leave_alone(front, talk, b"touch %b 0\r\n" % one)
        talk.expect(
            storage(b"set", one, b"x", exptime=0) + storage(b"set", two, b"x", exptime=10) + storage(b"add", three, b"x", exptime=100),
            STORED * 3,
        )
        assert 20 < life_left(servers[1], one) <= 30
        assert 0 < life_left(servers[1], two) <= 10
        assert 20 < life_left(servers[1], three) <= 30
        talk.expect(b"touch %b 1000\r\n" % two, b"TOUCHED\r\n")
        assert 20 < life_left(servers[1], two) <= 30
        servers[0].restart()
        eventually(lambda: is_calm(front), what="it is back")
        talk.expect(set_(one, b"y"), STORED)
        assert life_left(servers[0], one) == -1
        talk.in_step()


def test_odd_numbers_while_a_server_is_away(memcached, proxy):
    """The lifetime of an item is changed only on the stand-in server: an invalid number gets the usual error, and the client stays connected."""
    servers = memcached(), memcached()
    front = proxy("-s", servers[0].address, "-s", servers[1].address, *RING, "--failover-ttl", "30")
    with front.talk() as talk:
        key, *_ = keys_that_move(front, talk, servers[0])
        servers[0].kill()
        leave_alone(front, talk, b"touch %b 0\r\n" % key)
        talk.expect(set_(key, b"x"), STORED)
        for number in (b"abc", b"-", b"1e3", b"9" * 30, b"\xd9\xa1"):
            talk.expect(b"touch %b %b\r\n" % (key, number), b"CLIENT_ERROR invalid exptime argument\r\n")
            talk.expect(b"gat %b %b\r\n" % (number, key), b"CLIENT_ERROR invalid exptime argument\r\n")
            talk.expect(b"mg %b T%b\r\n" % (key, number), b"CLIENT_ERROR bad token in command line format\r\n")
        for number in (b"100\x0bx", b"+100", b"\t100", b"00000000000000000100"):
            for asked, answer in (
                (b"touch %b %b\r\n" % (key, number), b"TOUCHED\r\n"),
                (b"gat %b %b\r\n" % (number, key), values((key, b"x"))),
                (b"mg %b T%b\r\n" % (key, number), b"HD\r\n"),
                (b"ms %b 1 T%b\r\nx\r\n" % (key, number), b"HD\r\n"),
                (b"mg %b N%b v\r\n" % (key, number), b"VA 1\r\nx\r\n"),
            ):
                talk.expect(asked, answer)
                assert 20 < life_left(servers[1], key) <= 30
        talk.in_step()
        servers[0].restart()
        eventually(lambda: is_calm(front), what="it is back")


def test_what_was_refilled_elsewhere_is_not_found_the_next_time(memcached, proxy):
    """With backups: another server was filled by a read, and did not receive the later write on the key's own server."""
    servers, backup = (memcached(), memcached()), memcached()
    front = proxy("-s", servers[0].address, "-s", servers[1].address, "-b", backup.address, *RING)
    with front.talk() as talk:
        keys = keys_that_move(front, talk, servers[0])
        get_all = b"get %b\r\n" % b" ".join(keys)
        for _ in range(2):
            servers[0].pause()
            leave_alone(front, talk, b"touch %b 0\r\n" % keys[0])
            expected = talk.ask(get_all, MISS)
            with servers[1].talk() as there:
                eventually(lambda: there.ask(get_all, MISS) == expected, what="the other server has got them")
            servers[0].resume()
            eventually(lambda: is_calm(front), what="it is back")
            talk.expect(b"".join(set_(key, b"new") for key in keys), STORED * len(keys))
        servers[0].pause()
        leave_alone(front, talk, b"touch %b 0\r\n" % keys[0])
        for key in keys:
            assert talk.ask(b"get %b\r\n" % key, MISS) == values((key, b"new"))
        servers[0].resume()
        eventually(lambda: is_calm(front), what="it is back")
        talk.in_step()


def test_a_change_that_is_under_way_when_the_ring_closes_is_undone(memcached, proxy, relay):
    """It was sent to the stand-in server, which is slow, and was executed when the key belonged to its own server again."""
    servers = memcached(), memcached()
    slow = relay(servers[1])
    front = proxy(
        "-s",
        servers[0].address,
        "-s",
        slow.address,
        "--timeout",
        milliseconds(60),
        "--auto-eject-hosts",
        "--distribution",
        "ketama",
        "--hash",
        "md5",
        "--server-failure-limit",
        "2",
        "--server-retry-timeout",
        milliseconds(4),
    )
    with front.talk() as talk, front.talk() as other:
        key, *_ = keys_that_move(front, talk, servers[0])
        servers[0].kill()
        leave_alone(front, talk, b"touch %b 0\r\n" % key)
        slow.hold()
        other.send(set_(key, b"late"))
        servers[0].restart()
        eventually(lambda: front.stats()["backends_ejected"] == 0, what="it is back")
        talk.expect(set_(key, b"new"), STORED)
        slow.pass_on()
        other.expect_answer(STORED)
        eventually(lambda: is_calm(front), what="nothing is under way")
        with servers[1].talk() as there:
            there.expect(b"get %b\r\n" % key, MISS)
        talk.expect(b"get %b\r\n" % key, values((key, b"new")))
        talk.in_step()


def test_the_log_is_not_flooded_while_others_have_its_keys(memcached, proxy):
    """In the ring of the other servers every key has another server, so each server always has keys to delete."""
    servers = [memcached() for _ in range(3)]
    where = [word for server in servers for word in ("-s", server.address)]
    front = proxy(*where, *SOON, "--auto-eject-hosts")
    with front.talk() as talk:
        servers[0].kill()
        eventually(lambda: [talk.ask(set_(b"key-%d" % number, b"x")) for number in range(20)] and front.stats()["backends_ejected"] == 1)
        watch = Stopwatch()
        while watch.seconds < 40 * TICK:
            for number in range(50):
                talk.expect(set_(b"key-%d" % number, b"x"), STORED)
        assert front.stats()["journal_deleted"] > 0
        talk.in_step()
    assert front.log().count("caught up") <= 4
