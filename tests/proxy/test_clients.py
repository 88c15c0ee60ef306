"""Clients that are slow, disconnect in the middle of a request, or are very many: no other client is affected, and nothing is left of them."""

import socket

import pytest
from support.columns import Stage
from support.network import reset
from support.scripted import hang
from support.talk import Talk, storage, value
from support.timing import PATIENCE, eventually, milliseconds

MISS = b"END\r\n"
TOO_MANY = b"SERVER_ERROR too many connections\r\n"

pytestmark = pytest.mark.usefixtures("many_descriptors")


# -- slow clients


def ask_for_more_than_can_be_sent(talk, key, size):
    """Send so many requests that the kernel cannot buffer the replies, and read none of them."""
    talk.send(b"get %b\r\n" % key * (32 * 1024 * 1024 // size))


def test_a_client_that_does_not_read_blocks_nobody_else(memcached, proxy):
    process = proxy("-s", memcached().address, "-i", "1")
    with process.talk() as lazy, process.talk() as busy:
        busy.expect(storage(b"set", b"large", b"x" * 500_000) + storage(b"set", b"small", b"x"), b"STORED\r\n" * 2)
        ask_for_more_than_can_be_sent(lazy, b"large", 500_000)
        for _ in range(100):
            busy.expect(b"get small\r\n", value(b"small", b"x") + MISS)
        busy.in_step()
        for _ in range(64):  # and when it finally reads, all replies are there
            lazy.expect_answer(value(b"large", b"x" * 500_000) + MISS)


def test_a_client_that_does_not_read_costs_little_memory(memcached, proxy):
    """It requests 2 GB. The proxy buffers the replies to some requests and reads no further requests."""
    process = proxy("-s", memcached().address)
    with process.talk() as lazy:
        lazy.expect(storage(b"set", b"large", b"x" * 1_000_000), b"STORED\r\n")
        for _ in range(2000):
            lazy.send(b"get large\r\n")
        with process.talk() as other:
            other.expect(b"get large\r\n", value(b"large", b"x" * 1_000_000) + MISS)
        assert memory_peak(process.pid) < 600 * 1024 * 1024


def test_a_client_that_never_reads_is_given_up(memcached, proxy):
    process = proxy("-s", memcached().address, "--client-write-timeout", milliseconds(6))
    with process.talk() as lazy:
        lazy.expect(storage(b"set", b"large", b"x" * 500_000), b"STORED\r\n")
        ask_for_more_than_can_be_sent(lazy, b"large", 500_000)
        eventually(lambda: process.stats()["curr_connections"] == 1, what="only the one who asks for stats is left")


def memory_peak(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


# -- clients that disconnect


CONVERSATION = (
    storage(b"set", b"k", b"hello\r\nworld")
    + b"get k\r\n"
    + b"get k l m n o p q\r\n"
    + b"nonsense\r\n"
    + b"incr k 1\r\n"
    + b"flush_all 100\r\n"
    + storage(b"add", b"l", b"x", more=b" noreply")
    + b"version\r\n"
    + b"delete k\r\n"
    + b"quit\r\n"
)


def leave_quietly(sock):
    sock.close()


def leave_by_halves(sock):
    """Half-close the connection, and read the replies that are left."""
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(4096):
        pass
    sock.close()


def test_nothing_stays_behind_of_clients_cut_anywhere(memcached, proxy):
    """Thousands of conversations, cut after each byte in three ways."""
    servers = [memcached(), memcached()]
    process = proxy("-s", servers[0].address, "-s", servers[1].address, "-b", memcached().address)
    with process.talk() as talk:
        talk.send(CONVERSATION.replace(b"quit\r\n", b""))
        talk.read_until(b"VERSION")
    descriptors, before = settled(process)
    for _ in range(4):
        for cut in range(len(CONVERSATION)):
            for leave in (leave_quietly, leave_by_halves, reset):
                sock = socket.create_connection((process.host, process.port), PATIENCE)
                sock.sendall(CONVERSATION[:cut])
                leave(sock)
    after_descriptors, after = settled(process)
    assert after["total_connections"] - before["total_connections"] > 3 * 4 * len(CONVERSATION)
    assert after_descriptors == descriptors
    assert after["backend_links"] == before["backend_links"]
    assert after["backend_failures"] == 0
    assert after["bytes_held"] == 0
    with process.talk() as talk:
        talk.expect(storage(b"set", b"k", b"x") + b"get k\r\n", b"STORED\r\n" + value(b"k", b"x") + MISS)
        talk.in_step()


def settled(process):
    """(descriptors, stats) of the proxy once the client that requests the stats is the only one."""
    stats = eventually(lambda: (stats := process.stats())["curr_connections"] == 1 and stats, what="all clients are gone")
    seen = []

    def unchanged():
        seen.append(process.descriptors())
        return len(seen) > 10 and len(set(seen[-10:])) == 1

    eventually(unchanged)
    return seen[-1], stats


def test_nothing_stays_behind_of_clients_who_left_before_the_answer():
    with Stage("--timeout", milliseconds(10)) as stage:
        stage.set([[hang()], [hang()]])
        with stage.proxy.talk() as talk:
            talk.expect(b"get k\r\n", MISS)  # a first timeout, so that everything is allocated
        descriptors, _ = settled(stage.proxy)
        for number in range(300):
            talk = stage.proxy.talk()
            talk.send(b"get k\r\nset k 0 0 1\r\nx\r\nget k l")
            (leave_quietly, reset)[number % 2](talk.socket)
        assert settled(stage.proxy)[0] == descriptors
        assert stage.proxy.stats()["backend_links"] == 0


# -- many clients


def test_a_thousand_clients_at_once(memcached, proxy):
    servers = [memcached(), memcached()]
    process = proxy("-s", servers[0].address, "-s", servers[1].address)
    clients = [process.talk() for _ in range(1000)]
    try:
        for number, client in enumerate(clients):
            client.send(storage(b"set", b"key%d" % number, b"value%d" % number) + b"get key%d\r\n" % number)
        for number, client in enumerate(clients):
            client.expect_answer(b"STORED\r\n" + value(b"key%d" % number, b"value%d" % number) + MISS)
        stats = process.stats()
        assert stats["curr_connections"] == 1001
        assert stats["backend_links"] <= 2 * 20
        for client in clients:
            client.in_step()
    finally:
        for client in clients:
            client.close()
    eventually(lambda: process.stats()["curr_connections"] == 1)


def test_one_client_too_many_is_told_so(memcached, proxy):
    process = proxy("-s", memcached().address, "-n", "3")
    eventually(lambda: process.stats()["curr_connections"] == 1)
    clients = [process.talk() for _ in range(3)]
    for client in clients:
        client.in_step()
    with process.talk() as silent, process.talk() as hasty:
        hasty.send(b"get k\r\n" * 1000)
        for client in (silent, hasty):
            client.expect_answer(TOO_MANY)
            assert client.closed()
    for client in clients:
        client.in_step()
    clients.pop().close()
    eventually(lambda: admitted(process), what="there is room again")
    for client in clients:
        client.in_step()
        client.close()
    assert process.stats()["rejected_connections"] >= 2


def admitted(process):
    with process.talk() as talk:
        return talk.ask(b"version\r\n").startswith(b"VERSION")


def test_the_limit_holds_for_a_crowd(memcached, proxy):
    process = proxy("-s", memcached().address, "-n", "50")
    eventually(lambda: process.stats()["curr_connections"] == 1)
    crowd = [Talk(process.port) for _ in range(200)]
    answers = [client.ask(b"version\r\n") for client in crowd]
    for client in crowd:
        client.close()
    assert answers.count(TOO_MANY) >= 149
    assert sum(answer.startswith(b"VERSION") for answer in answers) in (49, 50)
    eventually(lambda: admitted(process) and process.stats()["curr_connections"] == 1)


def test_nothing_is_held_for_a_request_that_came_in_pieces_once_it_is_answered(memcached, proxy):
    server = memcached()
    front = proxy("-s", server.address)
    whole = storage(b"set", b"k", b"v" * 100_000)
    with front.talk() as talk:
        talk.send(whole[:50_000])
        eventually(lambda: front.stats()["bytes_held"] >= 50_000, what="half of it has come")
        talk.expect(whole[50_000:], b"STORED\r\n")
        assert front.stats()["bytes_held"] == 0


def test_long_answers_have_a_link_of_their_own(memcached, proxy):
    """For the client that received one, for some time. All other clients share connections."""
    server = memcached()
    front = proxy("-s", server.address)
    long = value(b"long", b"v" * 500_000)
    with front.talk() as reader, front.talk() as other:
        reader.expect(storage(b"set", b"long", b"v" * 500_000), b"STORED\r\n")
        assert front.stats()["backend_links"] == 1
        for _ in range(3):
            reader.expect(b"get long\r\n", long + MISS)
            other.expect(b"get k\r\n", MISS)
        assert front.stats()["backend_links"] == 2
        reader.expect(b"get k\r\n" + b"get long\r\n" + b"get k\r\n", MISS + long + MISS + MISS)


def test_long_answers_share_the_only_link(memcached, proxy):
    server = memcached()
    front = proxy("-s", server.address, "-i", "1")
    with front.talk() as talk:
        talk.expect(storage(b"set", b"long", b"v" * 500_000), b"STORED\r\n")
        for _ in range(3):
            talk.expect(b"get long\r\n", value(b"long", b"v" * 500_000) + MISS)
        assert front.stats()["backend_links"] == 1
