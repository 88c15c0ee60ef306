"""Listings of keys through the proxy: complete or visibly not, one at a time for each server, and read from the server at full speed whatever the
client does."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from support.keys import keys_by_server
from support.packets import ask, packet
from support.scripted import Step, close, expect
from support.talk import storage, value
from support.timing import eventually

KEYS = keys_by_server(2, 10)
ALL = sorted(KEYS[0] + KEYS[1])
BUSY = b"BUSY currently processing crawler request\r\n"
METADUMP = b"lru_crawler metadump all\r\n"


def dump(*keys):
    """The reply of memcached 1.6.45 to a metadump."""
    return b"OK\r\n" + b"".join(b"key=%b exp=-1 la=1 cas=1 fetch=no cls=1 size=63 flags=0 \n" % key for key in keys) + b"END\r\n"


def keys_in(listing):
    return sorted(re.findall(rb"^(?:key=|mg |ITEM )([^ \r]+)", listing, re.MULTILINE))


@pytest.fixture
def site(memcached, proxy, program):
    """Call it with arguments for (the proxy, its two servers), each of them with ten items."""

    def start(*arguments):
        servers = [memcached(program=program), memcached(program=program)]
        process = proxy("-s", servers[0].address, "-s", servers[1].address, *arguments)
        with process.talk() as talk:
            for key in ALL:
                talk.expect(storage(b"set", key, b"hello"), b"STORED\r\n")
        return process, servers

    return start


@pytest.mark.parametrize("workers", [1, 2])
def test_a_metadump_has_the_lines_of_all_servers(site, workers):
    process, servers = site("--workers", workers)
    for what in (b"all", b"hash", b"1,2"):
        with process.talk() as talk:
            listing = talk.ask(b"lru_crawler metadump %b\r\n" % what, b"END\r\n")
            talk.in_step()
        assert keys_in(listing) == ALL
    with servers[0].talk() as talk:
        direct = talk.ask(METADUMP, b"END\r\n")
    assert direct.startswith(b"OK\r\n") == listing.startswith(b"OK\r\n")
    lines = [line for line in direct.splitlines(keepends=True) if line.startswith(b"key=")]
    assert all(line in listing for line in lines) and len(lines) == 10


def test_an_mgdump_is_as_of_one_memcached(site):
    process, servers = site()
    with servers[0].talk() as talk:
        direct = talk.ask(b"lru_crawler mgdump hash\r\n", b"\r\n")
    with process.talk() as talk:
        if direct == b"ERROR\r\n":  # memcached 1.6.18
            talk.expect(b"lru_crawler mgdump hash\r\n", direct)
        else:
            listing = talk.ask(b"lru_crawler mgdump hash\r\n", b"\r\nEN\r\n")
            assert keys_in(listing) == ALL
            assert listing.startswith(b"OK\r\n") == (direct == b"OK\r\n"), "memcached 1.6.45 begins with it, 1.6.38 does not"
        talk.in_step()


def test_the_classes_of_stats_items_can_be_listed(site):
    process, _ = site()
    with process.talk() as talk:
        classes = set(re.findall(rb"STAT items:(\d+):number ", talk.ask(b"stats items\r\n", b"END\r\n")))
        assert classes == {b"1001", b"2001"}
        listed = [keys_in(talk.ask(b"lru_crawler metadump %b\r\n" % one, b"END\r\n")) for one in sorted(classes)]
        assert listed == [sorted(KEYS[0]), sorted(KEYS[1])]
        talk.expect(b"lru_crawler metadump 3001\r\n", b"BADCLASS invalid class id\r\n")


def test_cachedump_of_one_class_or_of_all_servers(site):
    """memcached lists cold items only, and items become cold after a moment."""
    process, _ = site()
    with process.talk() as talk:

        def listed(question):
            return keys_in(talk.ask(b"stats cachedump %b\r\n" % question, b"END\r\n"))

        eventually(lambda: len(listed(b"1 0")) > 12, what="more than half of the items are cold")
        of_servers = listed(b"1001 0"), listed(b"2001 0")
        assert set(of_servers[0]) <= set(KEYS[0]) and set(of_servers[1]) <= set(KEYS[1])
        assert set(of_servers[0] + of_servers[1]) <= set(listed(b"1 0")), "items do not become warm by that"
        assert len(listed(b"1 3")) == 3
        assert len(listed(b"1 12")) == 12, "some of the second server"
        talk.expect(b"stats cachedump 64 0\r\n", b"CLIENT_ERROR Illegal slab id\r\n")
        talk.expect(b"stats cachedump 1\r\n", b"CLIENT_ERROR bad command line\r\n")
        talk.in_step()


def test_what_is_pipelined_behind_a_listing_is_answered_behind_it(site):
    process, _ = site()
    with process.talk() as talk:
        talk.send(b"get %b\r\n" % ALL[0] + METADUMP + b"get %b\r\nmn\r\n" % ALL[1])
        answer = talk.read_until(b"MN\r\n")
    before, _, rest = answer.partition(b"END\r\n")
    assert before == value(ALL[0], b"hello")
    listing, _, after = rest.partition(b"END\r\n")
    assert keys_in(listing) == ALL
    assert after == value(ALL[1], b"hello") + b"END\r\nMN\r\n"


def test_backups_are_not_listed(memcached, proxy):
    servers = [memcached() for _ in range(4)]
    process = proxy("-s", servers[0].address, "-s", servers[1].address, "-b", servers[2].address, "-b", servers[3].address)
    with process.talk() as talk:
        for key in ALL:
            talk.expect(storage(b"set", key, b"hello"), b"STORED\r\n")
        assert keys_in(talk.ask(METADUMP, b"END\r\n")) == ALL


# -- what cannot be listed


@pytest.mark.parametrize(
    "arguments, answers",
    [
        (
            ["--disable-dumping"],
            [b"ERROR metadump not allowed\r\n", b"ERROR key dump not allowed\r\n", b"CLIENT_ERROR stats cachedump not allowed\r\n"],
        ),
        (
            ["--backend-protocol", "binary"],
            [b"CLIENT_ERROR the binary protocol of the server does not support lru_crawler\r\n"] * 2
            + [b"CLIENT_ERROR the binary protocol of the server does not support stats cachedump\r\n"],
        ),
    ],
)
def test_listings_that_are_refused(site, arguments, answers):
    process, _ = site(*arguments)
    with process.talk() as talk:
        for question, answer in zip((METADUMP, b"lru_crawler mgdump hash\r\n", b"stats cachedump 1 0\r\n"), answers):
            talk.expect(question, answer)
        talk.in_step()


def test_a_binary_client_is_told_that_there_is_no_such_thing(site):
    process, _ = site()
    with process.talk() as talk:
        assert [answer.status for answer in ask(talk, packet("stat", b"cachedump 1 0"))] == [1]


@pytest.mark.parametrize("question", [b"lru_crawler", b"lru_crawler metadump", b"lru_crawler enable", b"lru_crawler metadump all all"])
def test_what_else_the_crawler_does_is_for_no_client(site, question):
    process, _ = site()
    with process.talk() as talk:
        talk.expect(question + b"\r\n", b"ERROR\r\n")
        talk.expect(question + b" noreply\r\n", b"")
        talk.in_step()


# -- servers that fail


@pytest.mark.parametrize(
    "answer, last",
    [
        ([dump(b"c", b"d")[:-9], close()], b"SERVER_ERROR closed %b\r\n"),
        (BUSY, BUSY),
        (b"ERROR metadump not allowed\r\n", b"SERVER_ERROR %b replied ERROR metadump not allowed\r\n"),
    ],
    ids=["closes", "busy", "refuses"],
)
def test_a_listing_that_ends_early_does_not_look_complete(scripted, proxy, answer, last):
    """What the failing server sent before is not forwarded."""
    first = scripted([expect(METADUMP), dump(b"a", b"b")])
    second = scripted(answer=lambda request: answer)
    process = proxy("-s", first.address, "-s", second.address)
    last = last.replace(b"%b", second.address.encode())
    with process.talk() as talk:
        talk.expect(METADUMP, dump(b"a", b"b").removesuffix(b"END\r\n") + last)
        talk.in_step()


def test_a_listing_needs_all_servers(site):
    process, servers = site("--server-failure-limit", "1", "--server-retry-timeout", "60000")
    servers[1].kill()
    with process.talk() as talk:
        ejected = b"SERVER_ERROR ejected %b\r\n" % servers[1].address.encode()
        eventually(lambda: talk.ask(b"set %b 0 0 1\r\nx\r\n" % KEYS[1][0]) == ejected, what="the server is ejected")
        talk.expect(METADUMP, ejected)
        assert keys_in(talk.ask(b"lru_crawler metadump 1001\r\n", b"END\r\n")) == sorted(KEYS[0]), "of the other server alone"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_is_asked_for_one_listing_at_a_time(scripted, proxy, workers):
    """In all workers together. A client that waits too long for others receives an error."""
    lock = threading.Lock()
    most = running = 0

    def answer(request):
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return dump(b"a")

    server = scripted(answer=answer)
    process = proxy("-s", server.address, "--workers", workers)

    def list_keys(_):
        with process.talk() as talk:
            return _whole(talk)

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(list_keys, range(24)))
    assert set(answers) <= {dump(b"a"), BUSY} and dump(b"a") in answers
    assert most == 1


def _whole(talk):
    """The whole reply to a METADUMP."""
    talk.send(METADUMP + b"mn\r\n")
    return talk.read_until(b"MN\r\n").removesuffix(b"MN\r\n")


def test_a_slow_client_stops_no_server_and_is_cut(scripted, proxy):
    """The server has sent all of it while the client has read nothing, and the proxy does not hold it in memory."""
    big = dump(*(b"%0250d" % number for number in range(100_000)))
    sent = threading.Event()
    server = scripted(answer=lambda request: [big, Step(lambda connection: sent.set())])
    process = proxy("-s", server.address, "--client-write-timeout", "1000")
    with process.talk() as talk:
        talk.in_step()
        before = _resident(process)
        talk.send(METADUMP)
        eventually(sent.is_set, what="the server has sent all of it")
        assert _resident(process) - before < len(big) / 2
        eventually(lambda: "client dropped reason=slow" in process.log(), what="the client is cut")
    with process.talk() as talk:
        assert len(_whole(talk)) == len(big), "and who takes it has it"


def _resident(process):
    """Bytes."""
    with open(f"/proc/{process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def test_a_listing_for_which_the_disk_has_no_room_is_refused(scripted, proxy, tmp_path):
    big = dump(*(b"%0250d" % number for number in range(10_000)))
    server = scripted(answer=lambda request: big)
    process = proxy("-s", server.address, variables={"TMPDIR": str(tmp_path / "missing")})
    for _ in range(2):
        with process.talk() as talk:
            talk.expect(METADUMP, b"SERVER_ERROR no room for the keys of %b\r\n" % server.address.encode())
            talk.in_step()
    assert process.log().count("WARNING keys not listed server=") == 2
    assert "Traceback" not in process.log()


@pytest.mark.long
def test_a_server_that_says_nothing_is_left_alone_by_listings(memcached, proxy):
    """A further listing could stop the server for ever."""
    server = memcached()
    process = proxy("-s", server.address, "--workers", "2")
    server.pause()
    with process.talk() as talk:
        assert talk.ask(METADUMP) == b"SERVER_ERROR timeout %b\r\n" % server.address.encode()
    server.resume()
    with ExitStack() as stack:
        talks = [stack.enter_context(process.talk()) for _ in range(4)]
        for talk in talks:
            talk.send(METADUMP)
        for talk in talks:
            talk.expect_answer(BUSY)
