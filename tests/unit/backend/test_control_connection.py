"""gmproxy's own requests to a server, in the text and the binary protocol: valid replies, and the reason with which each invalid one fails.

The server is the other end of a socket pair: its reply is there before the request is sent, or never comes.
"""

import socket

import gevent
import pytest
from support.connections import PairedServers, received
from support.packets import packet
from support.routes import options_of
from support.timing import PATIENCE, TICK

from gmproxy.backend import control_connection
from gmproxy.backend.control_connection import Identity
from gmproxy.errors import CLOSED, PROTOCOL, TIMEOUT, BackendError

KEYS = [b"one", b"two"]


class Talk:
    """A control connection and the server's end of it.

    server      a non-blocking socket
    connection  the ControlConnection
    """

    def __init__(self, servers, *words, timeout=PATIENCE):
        options = options_of("-s", "127.0.0.1:1", *words)
        self.connection = control_connection.connect(options.server[0], options, PATIENCE, timeout)
        self.server = servers.peers[-1]

    def replies(self, *parts):
        self.server.sendall(b"".join(parts))


@pytest.fixture
def servers(monkeypatch):
    made = PairedServers()
    monkeypatch.setattr(control_connection, "connect_socket", made)
    yield made
    made.close()


@pytest.fixture
def text(servers):
    talk = Talk(servers)
    with talk.connection:
        yield talk


@pytest.fixture
def binary(servers):
    talk = Talk(servers, "--backend-protocol", "binary")
    with talk.connection:
        yield talk


def reply(name, key=b"", value=b"", status=0):
    return packet(name, key, value, magic=0x81, status=status)


def reason_of(call, *arguments):
    """The reason word with which `call` fails."""
    with pytest.raises(BackendError) as caught:
        call(*arguments)
    return caught.value.reason


# -- text


def test_ping_and_flush(text):
    text.replies(b"VERSION 1.6.18\r\n")
    text.connection.ping()
    text.replies(b"OK\r\n")
    text.connection.flush()
    assert received(text.server) == b"version\r\nflush_all\r\n"


def test_deletes_are_sent_together_and_a_key_that_was_not_there_is_deleted(text):
    text.replies(b"DELETED\r\nNOT_FOUND\r\n")
    text.connection.delete(KEYS)
    assert received(text.server) == b"delete one\r\ndelete two\r\n"


def test_identity(text):
    text.replies(b"STAT pid 7\r\nSTAT uptime 60\r\nSTAT version 1.6.18 x\r\nEND\r\n")
    assert text.connection.identify() == Identity(7, 60, "1.6.18 x")


@pytest.mark.parametrize(
    "reply", [b"ERROR\r\n", b"CLIENT_ERROR no\r\n", b"SERVER_ERROR no\r\n", b"END\r\n", b"STAT pid x\r\nSTAT uptime -1\r\nEND\r\n"]
)
def test_a_server_that_does_not_say_who_it_is(text, reply):
    text.replies(reply)
    assert text.connection.identify() == Identity(None, None, "")


@pytest.mark.parametrize(
    "method, arguments, reply",
    [
        ("ping", (), b"ERROR\r\n"),
        ("ping", (), b"VALUE k 0 0\r\n\r\nEND\r\n"),
        ("flush", (), b"ERROR\r\n"),
        ("delete", (KEYS,), b"DELETED\r\nSERVER_ERROR no\r\n"),
        ("delete", (KEYS,), b"DELETED\r\nSTORED\r\n"),
    ],
)
def test_an_invalid_reply(text, method, arguments, reply):
    text.replies(reply)
    assert reason_of(getattr(text.connection, method), *arguments) == PROTOCOL


def test_a_reply_without_an_end(text):
    """It reads no more of it than the longest reply has."""
    sending = gevent.spawn(send_without_end, text.server)
    assert reason_of(text.connection.stats) == PROTOCOL
    sending.kill()


def send_without_end(sock):
    while True:
        try:
            sock.send(b"x" * 4096)
        except BlockingIOError:
            gevent.sleep(0)


def test_the_end_of_the_connection(text):
    text.replies(b"VERS")
    text.server.shutdown(socket.SHUT_WR)
    assert reason_of(text.connection.ping) == CLOSED


@pytest.mark.parametrize("begun", [b"", b"VERSION"])
def test_no_reply_in_time(servers, begun):
    talk = Talk(servers, timeout=2 * TICK)
    with talk.connection:
        talk.replies(begun)
        assert reason_of(talk.connection.ping) == TIMEOUT


def test_it_is_closed_at_the_end(text):
    with text.connection:
        pass
    assert text.server.recv(1) == b""


# -- binary


def test_binary_ping_and_flush(binary):
    binary.replies(reply("version", value=b"1.6.18"))
    binary.connection.ping()
    binary.replies(reply("flush"))
    binary.connection.flush()
    assert received(binary.server) == packet("version", opaque=bytes(4)) + packet("flush", opaque=bytes(4))


def test_binary_deletes(binary):
    binary.replies(reply("delete"), reply("delete", status=1))
    binary.connection.delete(KEYS)
    assert received(binary.server) == b"".join(packet("delete", key, opaque=bytes(4)) for key in KEYS)


def test_binary_identity(binary):
    facts = {b"pid": b"7", b"uptime": b"60", b"version": b"1.6.18"}
    binary.replies(*(reply("stat", key, value) for key, value in facts.items()), reply("stat"))
    assert binary.connection.identify() == Identity(7, 60, "1.6.18")


@pytest.mark.parametrize(
    "method, arguments, parts",
    [
        ("ping", (), [reply("version", value=b"no", status=0x20)]),
        ("delete", (KEYS,), [reply("delete"), reply("delete", value=b"no", status=0x82)]),
        ("ping", (), [b"VERSION 1.6.18\r\n"]),
    ],
)
def test_an_invalid_binary_reply(binary, method, arguments, parts):
    binary.replies(*parts)
    assert reason_of(getattr(binary.connection, method), *arguments) == PROTOCOL


def test_a_backup_that_is_a_gmproxy_says_so(servers):
    options = options_of("-s", "127.0.0.1:1")
    for answer, is_proxy in [(b"STAT version 0.2\r\nEND\r\n", True), (b"CLIENT_ERROR bad\r\n", False), (b"END\r\n", False)]:
        sock = servers()
        servers.peers[-1].sendall(answer)
        assert control_connection.introduce_proxy(sock, options) is is_proxy
        assert received(servers.peers[-1]) == b"stats gmproxy-backup\r\n"
        sock.close()
