"""The model of memcached replies as memcached does to all requests that gmproxy sends in these tests."""

import re
import socket

import pytest
from support.timing import PATIENCE

from model.clients import CLASSES, INITIAL, KEY, OTHER, script_of
from model.servers import MemcachedModel, split_requests

#: Requests that gmproxy makes itself.
OWN = [b"mg a f t v\r\n", b"add a 0 0 1\r\n7\r\n", b"touch a 60\r\n", b"set a 0 0 1\r\n7\r\n", b"append a 0 0 1\r\n1\r\n"]

#: memcached's reply to an unknown command, which is sent after each request: it marks the end of the request's reply.
MARK = b"ERROR\r\n"

#: Matches cas numbers, which differ between servers.
CAS = re.compile(rb"(?m)^(VALUE \S+ \d+ \d+) \d+\r$|(?<= c)\d+")


def lines_of(name):
    """The command lines of the first step of a class. Later steps depend on cas numbers."""
    return [command.line for command in script_of(name, 1)[0]]


def masked(reply):
    return CAS.sub(lambda match: match[1] + b" CAS\r" if match[1] else b"CAS", reply)


class Real:
    def __init__(self, port):
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)

    def execute(self, request):
        self._sock.sendall(request + b"no-such-command\r\n")
        reply = b""
        while not reply.endswith(MARK):
            reply += self._sock.recv(65536)
        return reply.removesuffix(MARK)

    def close(self):
        self._sock.close()


@pytest.mark.parametrize("has_items", [True, False])
def test_it_replies_as_memcached(memcached, has_items):
    real = Real(memcached().port)
    model = MemcachedModel("A", 0)
    for request in [line for name in CLASSES for line in lines_of(name)] + OWN:
        for server in (real, model):
            server.execute(b"flush_all\r\n")
            if has_items:
                for key in (KEY, OTHER):
                    server.execute(b"set %b 0 0 1\r\n%b\r\n" % (key, INITIAL))
        # the request, and a read of what it left
        for each in (request, b"get a b\r\n"):
            assert masked(model.execute(each)) == masked(real.execute(each)), request
    real.close()


@pytest.mark.parametrize("shift, stored", [(0, True), (1, False)])
def test_it_compares_cas_numbers_as_memcached(memcached, shift, stored):
    real = Real(memcached().port)
    for server in (real, MemcachedModel("A", 0)):
        server.execute(b"set a 0 0 1\r\n7\r\n")
        number = int(server.execute(b"gets a\r\n").split()[4]) + shift
        assert server.execute(b"cas a 0 0 1 %d\r\n8\r\n" % number) == (b"STORED\r\n" if stored else b"EXISTS\r\n")
        number += stored
        assert server.execute(b"ms a 1 C%d\r\n9\r\n" % number)[:2] == (b"HD" if stored else b"EX")
        assert server.execute(b"cas b 0 0 1 1\r\n8\r\n") == b"NOT_FOUND\r\n"
    real.close()


def test_requests_are_split_where_they_end():
    received = bytearray(b"get a\r\nset a 0 0 4\r\nx\r\ny\r\nms a 2\r\nhi\r\nmg a v\r")
    assert list(split_requests(received)) == [b"get a\r\n", b"set a 0 0 4\r\nx\r\ny\r\n", b"ms a 2\r\nhi\r\n"]
    assert received == b"mg a v\r"
    received += b"\n"
    assert list(split_requests(received)) == [b"mg a v\r\n"]
