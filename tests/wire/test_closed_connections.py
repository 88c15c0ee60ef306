"""Requests at which memcached closes the connection without a reply, and so does gmproxy. Nothing that follows them is executed."""

from contextlib import ExitStack, suppress

import pytest
from support.servers import MEMCACHED, OTHER_MEMCACHED, Memcached, Proxy

#: What a browser sends for a malicious form with memcached commands, and what other programs send by mistake.
POST = b"POST / HTTP/1.1\r\nHost: memcached\r\nContent-Length: 29\r\n\r\nset admin 0 0 4\r\nevil\r\n"
HTTP = [
    POST,
    POST.replace(b"\r\n", b"\n"),
    b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/1.0\n",
    b"foo HTTP/\r\n",
    b"PUT /a b  HTTP/1.1 \r\n",
    b"OPTIONS * HTTP/2.0\r\n",
    b"m / HTTP/1.1\r\n",
]
#: memcached 1.6.18 replies ERROR to these.
ONLY_BY_NEW = [b"m / HTTP/1.1\r\n"]

#: Lines that memcached treats as endless: they are too long.
ENDLESS = [b"x" * 2100, b"set " + b"k" * 2100, b"gat 0 " + b"k " * 1050, b"mg " + b"k" * 2100, b"foo " + b"x " * 9000 + b"\r\n"]

#: (line, reply): lines that look similar, but do not close the connection.
ANSWERED = [
    (b"GET / http/1.1\r\n", b"ERROR\r\n"),
    (b"GET / xHTTP/1.1\r\n", b"ERROR\r\n"),
    (b"HTTP/1.1 200 OK\r\n", b"ERROR\r\n"),
    (b"get / HTTP/1.1\r\n", b"END\r\n"),
    (b"Host: HTTP/1.1 x\r\n", b"ERROR\r\n"),
]


class Setting:
    """The proxy over a memcached, and the memcached programs to compare with."""

    def __init__(self, stack):
        self.behind = stack.enter_context(Memcached())
        self.proxy = stack.enter_context(Proxy("-s", self.behind.address))
        self.others = [stack.enter_context(Memcached(program=program)) for program in (MEMCACHED, OTHER_MEMCACHED) if program]


@pytest.fixture(scope="module")
def setting():
    with ExitStack() as stack:
        yield Setting(stack)


def answer_before_the_end(server, *chunks):
    """All replies of `server` until it closes the connection."""
    got = []
    with server.talk() as talk:
        with suppress(OSError):
            for chunk in chunks:
                talk.send(chunk)
        with suppress(ConnectionResetError):
            got.extend(iter(lambda: talk.socket.recv(1000), b""))
    return b"".join(got)


@pytest.mark.parametrize("said", HTTP)
def test_http(setting, said):
    for server in (setting.proxy, *(() if said in ONLY_BY_NEW else setting.others)):
        assert answer_before_the_end(server, said) == b""
        with server.talk() as talk:
            talk.expect(b"get admin\r\n", b"END\r\n")


@pytest.mark.parametrize("said", HTTP)
def test_http_in_pieces(setting, said):
    assert answer_before_the_end(setting.proxy, *(said[at : at + 1] for at in range(len(said)))) == b""
    with setting.proxy.talk() as talk:
        talk.expect(b"get admin\r\n", b"END\r\n")


def test_what_came_before_is_answered(setting):
    """memcached discards these replies."""
    assert answer_before_the_end(setting.proxy, b"get a\r\nget b\r\n" + POST) == b"END\r\nEND\r\n"


@pytest.mark.parametrize("said", ENDLESS)
def test_lines_without_end(setting, said):
    for server in (setting.proxy, *setting.others):
        assert answer_before_the_end(server, said) == b""


@pytest.mark.parametrize("said, answer", ANSWERED)
def test_what_is_answered(setting, said, answer):
    for server in (setting.proxy, *setting.others):
        with server.talk() as talk:
            talk.expect(said + b"mn\r\n", answer + b"MN\r\n")


def test_http_before_the_login(memcached, proxy, tmp_path):
    """memcached -Y replies that the client must log in, and keeps the connection. gmproxy closes it, so that a browser cannot try passwords."""
    users = tmp_path / "users"
    users.write_text("anna:secret\n")
    users.chmod(0o600)
    front = proxy("-s", memcached().address, "--auth-file", users)
    assert answer_before_the_end(front, b"POST / HTTP/1.1\r\nHost: x\r\n\r\nset a 0 0 11\r\nanna secret\r\n") == b""
    with front.talk() as talk:
        talk.expect(b"get a\r\n", b"CLIENT_ERROR unauthenticated\r\n")
