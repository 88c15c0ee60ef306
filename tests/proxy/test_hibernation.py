"""Hibernated clients use no memory, and receive the same replies."""

import os
import resource
import signal
from contextlib import ExitStack

import pytest
from support.network import reset
from support.packets import ask, packet, read_answer
from support.service import clients_are, order, reloaded
from support.talk import storage, value
from support.timing import PATIENCE, eventually

AUTHENTICATION_ERROR = 0x20
MISS = b"END\r\n"
STORED = b"STORED\r\n"
TOO_MANY = b"SERVER_ERROR too many connections\r\n"
GET = b"get k\r\n"
FOUND = value(b"k", b"hello") + MISS
SOON = ("--hibernate-after", "1")

pytestmark = pytest.mark.usefixtures("many_descriptors")

#: Seconds for clients to hibernate: they do so one after the other, not all at the same time.
LONG = PATIENCE + 10


@pytest.fixture
def server(memcached):
    server = memcached()
    with server.talk() as talk:
        talk.expect(storage(b"set", b"k", b"hello"), STORED)
    return server


def asleep(process, count):
    eventually(lambda: process.stats()["sleeping_connections"] == count, within=LONG, what=f"{count} clients sleep")


def test_they_are_answered_as_if_nothing_had_been(server, proxy):
    process = proxy("-s", server.address, *SOON)
    with process.talk() as text, process.talk() as meta, process.talk() as binary, process.talk() as mute:
        text.expect(GET, FOUND)
        meta.expect(b"mg k v\r\n", b"VA 5\r\nhello\r\n")
        assert ask(binary, packet("get", b"k"))[0].value == b"hello"
        for _ in range(2):
            asleep(process, 4)
            clients_are(process, 4 + 1)
            text.expect(GET * 100, FOUND * 100)
            meta.expect(b"mg k v\r\nmn\r\n", b"VA 5\r\nhello\r\nMN\r\n")
            assert ask(binary, packet("get", b"k"))[0].value == b"hello"
            text.in_step()
        assert process.stats()["sleeping_connections"] <= 1
        mute.expect(GET, FOUND)


def test_who_is_in_the_middle_of_a_request_does_not_sleep(server, proxy):
    process = proxy("-s", server.address, *SOON)
    begun = [b"get", b"set k 0 0 5\r\nhel", packet("get", b"k")[:10], b"set k 0 0 2000000\r\n" + bytes(1000)]
    with ExitStack() as stack:
        for what in begun:
            stack.enter_context(process.talk()).send(what)
        first, *others = [stack.enter_context(process.talk()) for _ in range(3)]
        asleep(process, 3)
        clients_are(process, len(begun) + 3 + 1)
        first.in_step()
        assert process.stats()["sleeping_connections"] == 2


def clients_of(process):
    """(all clients, hibernated clients), read without a further client."""
    (pool,) = order(process, "report")["pools"].values()
    return pool["clients"]["current"], pool["clients"]["asleep"]


@pytest.fixture
def users(tmp_path):
    path = tmp_path / "users"
    path.write_bytes(b"one:secret\n")
    path.chmod(0o600)
    return str(path)


def test_who_has_logged_in_stays_in_and_who_has_not_stays_out(server, proxy, users):
    process = proxy("-s", server.address, "--auth-file", users, "--control", users + ".control", *SOON)
    process.control = users + ".control"
    with process.talk() as known, process.talk() as stranger, process.talk() as mute, process.talk() as binary, process.talk() as unknown:
        known.expect(storage(b"set", b"any", b"one secret"), STORED)
        assert stranger.ask(GET).startswith(b"CLIENT_ERROR")
        assert ask(binary, packet("auth", b"PLAIN", b"\0one\0secret"))[0].status == 0
        unknown.send(packet("version"))
        assert read_answer(unknown).status == 0
        eventually(lambda: clients_of(process) == (5, 5), within=LONG, what="all sleep")
        known.expect(GET, FOUND)
        assert stranger.ask(GET).startswith(b"CLIENT_ERROR")
        assert mute.ask(GET).startswith(b"CLIENT_ERROR")
        assert ask(binary, packet("get", b"k"))[0].value == b"hello"
        unknown.send(packet("get", b"k"))
        assert read_answer(unknown).status == AUTHENTICATION_ERROR


@pytest.mark.parametrize("hard", [False, True])
def test_who_hangs_up_in_its_sleep_is_gone(server, proxy, hard):
    process = proxy("-s", server.address, *SOON)
    with process.talk() as leaves, process.talk() as stays:
        leaves.expect(GET, FOUND)
        asleep(process, 2)
        reset(leaves.socket) if hard else leaves.close()
        clients_are(process, 2)
        stays.expect(GET, FOUND)


def test_they_count_as_clients(server, proxy):
    process = proxy("-s", server.address, "-n", "3", *SOON)
    with process.talk() as one, process.talk():
        asleep(process, 2)
        with process.talk() as third, process.talk() as late:
            third.expect(GET, FOUND)
            assert late.read_line() == TOO_MANY
            one.expect(GET, FOUND)
    clients_are(process, 1)


def test_hundreds_wake_at_once(server, proxy):
    process = proxy("-s", server.address, *SOON)
    with ExitStack() as stack:
        clients = [stack.enter_context(process.talk()) for _ in range(600)]
        asleep(process, len(clients))
        for client in clients:
            client.send(GET)
        for client in clients:
            client.expect_answer(FOUND)
        for client in clients[:300]:
            client.in_step()
    clients_are(process, 1)


def test_their_memory_goes_back(server, proxy):
    count = 2000
    process = proxy("-s", server.address, *SOON)
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(process.talk()).expect(GET, FOUND)
        asleep(process, 50)
        before = resident(process)
        for _ in range(count):
            stack.enter_context(process.talk()).expect(GET, FOUND)
        asleep(process, 50 + count)
        eventually(lambda: resident(process) - before < count * 1024, what="less than 1 KiB for each: awake it is three times as much")


def resident(process):
    with open(f"/proc/{process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


@pytest.fixture
def configured(server, proxy, tmp_path):
    """(a proxy for `server` whose clients hibernate soon, a function that reloads it with other settings)"""
    settings = tmp_path / "conf"

    def write(server, seconds, more=""):
        settings.write_text(f"server = {server.address}\nhibernate_after = {seconds}\n{more}")

    def reload(*what):
        write(*what)
        process.signal(signal.SIGHUP)
        reloaded(process)

    write(server, 1)
    process = proxy("-c", settings)
    return process, reload


def test_nobody_sleeps_where_nobody_shall(server, configured):
    process, reload = configured
    with process.talk() as one, process.talk() as other:
        one.expect(GET, FOUND)
        asleep(process, 2)
        reload(server, 0)
        one.expect(GET, FOUND)
        with process.talk() as later:
            later.expect(GET, FOUND)
            # A client that hibernates would do so within two seconds; the test waits for three.
            for _ in range(30):
                assert one.silent(0.1)
                assert process.stats()["sleeping_connections"] == 1
            other.expect(GET, FOUND)
            assert process.stats()["sleeping_connections"] == 0


def test_a_reload_holds_for_them_too(memcached, configured):
    other = memcached()
    process, reload = configured
    with process.talk() as talk:
        talk.expect(GET, FOUND)
        asleep(process, 1)
        reload(other, 1, "max_item_size = 1k\n")
        talk.expect(GET, MISS)
        talk.expect(storage(b"set", b"k", bytes(2000)), b"SERVER_ERROR object too large for cache\r\n")


def test_at_the_end_they_are_let_go(server, proxy):
    process = proxy("-s", server.address, *SOON)
    with process.talk() as idle, process.talk() as speaks:
        speaks.expect(GET, FOUND)
        asleep(process, 2)
        os.kill(process.pid, signal.SIGSTOP)
        speaks.send(GET)
        process.signal(signal.SIGTERM)
        os.kill(process.pid, signal.SIGCONT)
        speaks.expect_answer(FOUND)
        assert idle.closed()
        assert speaks.closed()
        assert process.wait() == 0


def test_when_it_is_drained_they_leave_after_the_next_answer(server, proxy, tmp_path):
    process = proxy("-s", server.address, "--control", tmp_path / "control", *SOON)
    process.control = str(tmp_path / "control")
    with process.talk() as one, process.talk() as two, process.talk() as awake:
        one.expect(GET, FOUND)
        two.expect(GET, FOUND)
        eventually(lambda: clients_of(process) == (3, 3), within=LONG, what="all sleep")
        awake.expect(GET, FOUND)
        assert order(process, "drain")["clients"] == 3
        eventually(lambda: clients_of(process) == (3, 3), within=LONG, what="who was awake and is to leave sleeps too")
        for talk in one, awake:
            talk.expect(GET, FOUND)
            assert talk.closed()
        assert clients_of(process) == (1, 1)
        two.expect(b"get k\r\nversi", FOUND)
        two.send(b"on\r\n")
        assert two.read_line().startswith(b"VERSION")
        assert two.closed()


def test_with_workers(server, proxy):
    process = proxy("-s", server.address, "--workers", "2", *SOON)
    with ExitStack() as stack:
        clients = [stack.enter_context(process.talk()) for _ in range(20)]
        for client in clients:
            client.expect(GET, FOUND)
        asleep(process, len(clients))
        clients_are(process, len(clients) + 1)
        for client in clients:
            client.expect(GET, FOUND)
