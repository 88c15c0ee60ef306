"""The replies to each sample, however its bytes are cut: those of the proxy and those of memcached."""

import random
import socket
import time
from contextlib import ExitStack

import pytest
from support.servers import MEMCACHED, OTHER_MEMCACHED, Memcached, Proxy
from wire.sample import CASES, PREDICTABLE, comparable, ways_to_cut

RECV_SIZE = 64 * 1024


class Setting:
    """The proxy over one memcached, and another memcached of the same `version`, which clients use directly."""

    def __init__(self, stack, program):
        self.behind = stack.enter_context(Memcached(*PREDICTABLE, program=program))
        self.memcached = stack.enter_context(Memcached(*PREDICTABLE, program=program))
        self.version = self.memcached.stats()["version"]
        self.proxy = stack.enter_context(Proxy("-s", self.behind.address, "--server-failure-limit", "1000000"))

    def forget(self):
        for server in (self.behind, self.memcached):
            with server.talk() as talk:
                talk.expect(b"flush_all\r\n", b"OK\r\n")


@pytest.fixture(scope="module")
def setting():
    with ExitStack() as stack:
        yield Setting(stack, MEMCACHED)


@pytest.fixture(scope="module")
def other():
    """The memcached of GMPROXY_TEST_MEMCACHED."""
    if OTHER_MEMCACHED is None:
        pytest.skip("GMPROXY_TEST_MEMCACHED names no other memcached")
    with Memcached(*PREDICTABLE, program=OTHER_MEMCACHED) as memcached:
        yield memcached


def answers(server, chunks):
    """All replies of `server` to `chunks`, each sent in its own packet, until the server closes the connection."""
    with server.talk() as talk:
        for chunk in chunks:
            talk.send(chunk)
            if 1 < len(chunks) < 100:
                time.sleep(0.001)  # otherwise the kernel joins them
        talk.socket.shutdown(socket.SHUT_WR)
        return comparable(b"".join(iter(lambda: talk.socket.recv(RECV_SIZE), b"")))


@pytest.mark.parametrize("sample", CASES)
def test_answers(sample, setting):
    setting.forget()
    assert answers(setting.memcached, [sample.said]) == sample.answers_of(setting.version), "memcached itself: another version?"
    for way, chunks in ways_to_cut(sample.said, random.Random(sample.name)):
        setting.forget()
        assert answers(setting.proxy, chunks) == sample.answered_over(setting.version), way


@pytest.mark.parametrize("sample", CASES)
def test_what_another_memcached_answers(sample, other):
    """Its replies are those that the samples list for its version."""
    with other.talk() as talk:
        talk.expect(b"flush_all\r\n", b"OK\r\n")
    assert answers(other, [sample.said]) == sample.answers_of(other.stats()["version"])


def test_values_come_in_the_order_asked(memcached, proxy):
    """The order is that of memcached and twemproxy: Cache::Memcached::Fast loses values in any other order."""
    servers = [memcached(*PREDICTABLE) for _ in range(3)]
    arguments = [argument for server in servers for argument in ("-s", server.address)]
    keys = [b"key%d" % number for number in range(20)]
    with proxy(*arguments).talk() as talk:
        for key in keys[::2]:
            talk.expect(b"set %b 0 0 1\r\n1\r\n" % key, b"STORED\r\n")
        for verb in (b"get", b"gat 0"):
            asked = keys + keys[::-1]
            found = b"".join(b"VALUE %b 0 1\r\n1\r\n" % key for key in asked if key in keys[::2])
            talk.expect(b"%b %b\r\n" % (verb, b" ".join(asked)), found + b"END\r\n")


def test_a_long_gat_harms_nobody(memcached, proxy):
    """memcached may close a connection at a long line, depending on how it arrives. All clients use the same connection to the server."""
    server = memcached(*PREDICTABLE)
    front = proxy("-s", server.address)
    sets = b"".join(b"set k%d 0 0 100\r\n%b\r\n" % (number, b"v" * 100) for number in range(60))
    long_gat = b"gat 0 " + b" ".join(b"key%06d" % number for number in range(1400)) + b"\r\n"
    assert answers(front, [sets + long_gat]) == b"STORED\r\n" * 60 + b"END\r\n"
    assert front.stats()["backend_failures"] == 0
