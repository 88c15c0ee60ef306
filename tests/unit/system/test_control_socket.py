"""Messages between processes: complete or in pieces, with sockets, or refused."""

import json
import os
import socket
import struct
import threading

import pytest
from support.timing import PATIENCE, join

from gmproxy.errors import StartError
from gmproxy.system import control_socket

SECONDS_AND_MICROSECONDS = struct.Struct("ll")


@pytest.fixture
def pair():
    ends = [control_socket.Channel(sock, takes_sockets=True) for sock in socket.socketpair()]
    yield ends
    for end in ends:
        end.close()


def test_a_message(pair):
    one, other = pair
    one.send_message({"command": "stats", "arguments": ["a\nb", "ü"]})
    one.send_message({})
    assert other.receive() == [({"command": "stats", "arguments": ["a\nb", "ü"]}, []), ({}, [])]


def test_in_pieces(pair):
    one, other = pair
    for byte in b'{"a": 1}':
        one.sock.sendall(bytes([byte]))
        assert other.receive() == []
    one.sock.sendall(b'\n{"b"')
    assert other.receive() == [({"a": 1}, [])]
    one.sock.sendall(b": 2}\n")
    assert other.receive() == [({"b": 2}, [])]


def test_a_large_one(pair):
    one, other = pair
    message = {"text": "x" * 3_000_000}
    sender = threading.Thread(target=one.send_message, args=(message,))
    sender.start()
    got = []
    while not got:
        got = other.receive()
    join(sender)
    assert got == [(message, [])]


def test_sockets_go_along(pair):
    one, other = pair
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        one.send_message({"number": 1}, [first, second])
        one.send_message({"number": 2})
        one.send_message({"number": 3}, [first])
        got = []
        while len(got) < 3:
            got += other.receive()
        names = [[sock.getsockname() for sock in given] for _, given in got]
        assert names == [[first.getsockname(), second.getsockname()], [], [first.getsockname()]]
        assert [message for message, _ in got] == [{"number": number} for number in (1, 2, 3)]
        for _, given in got:
            for sock in given:
                assert not sock.get_inheritable()
                sock.close()


def test_the_end(pair):
    one, other = pair
    one.close()
    with pytest.raises(EOFError):
        other.receive()


def test_who_takes_nothing_is_given_up(pair):
    one, _ = pair
    timeout = one.sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, SECONDS_AND_MICROSECONDS.size)
    assert SECONDS_AND_MICROSECONDS.unpack(timeout) == (control_socket.SEND_TIMEOUT, 0)
    one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, SECONDS_AND_MICROSECONDS.pack(0, 50_000))  # so that the test does not wait
    with pytest.raises(OSError):
        one.send_message({"text": "x" * 10_000_000})


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n", b"\xff\n", b"{\n"])
def test_what_is_no_message(pair, line):
    one, other = pair
    one.sock.sendall(line)
    with pytest.raises(ValueError):
        other.receive()


def test_a_question_without_end():
    one, other = socket.socketpair()
    other.settimeout(PATIENCE)
    with one, other:
        channel = control_socket.Channel(other, limit=100)
        one.sendall(b"x" * 101)
        with pytest.raises(ValueError, match="longer than 100 bytes"):
            channel.receive()


def test_nobody_outside_sends_sockets():
    one, other = socket.socketpair()
    other.settimeout(PATIENCE)
    with one, other:
        one.sendall(b'{"command": "ping", "sockets": 3}\n')
        assert control_socket.Channel(other, limit=100).receive() == [({"command": "ping", "sockets": 3}, [])]


@pytest.mark.parametrize(
    "message, wanted",
    [
        ({"command": "ping"}, ("ping", [])),
        ({"command": "stats", "arguments": ["alpha"]}, ("stats", ["alpha"])),
    ],
)
def test_a_question(message, wanted):
    assert control_socket.parse_command(message) == wanted


@pytest.mark.parametrize("message", [{}, {"command": 1}, {"command": "x", "arguments": "y"}, {"command": "x", "arguments": [1]}])
def test_what_is_no_question(message):
    with pytest.raises(ValueError, match="expected"):
        control_socket.parse_command(message)


def test_an_operator_asks(tmp_path):
    path = str(tmp_path / "control")
    with control_socket.listen(path, (-1, -1)) as listening:
        assert (tmp_path / "control").stat().st_mode & 0o777 == 0o660

        def answer():
            channel = control_socket.Channel(listening.accept()[0], control_socket.MAX_COMMAND)
            ((message, _),) = channel.receive()
            channel.send_message({"heard": message})
            channel.close()

        thread = threading.Thread(target=answer)
        thread.start()
        assert control_socket.send_command(path, "stats", "alpha") == {"heard": json.loads('{"command": "stats", "arguments": ["alpha"]}')}
        join(thread)


def test_a_place_that_cannot_be(tmp_path):
    with pytest.raises(StartError, match="cannot listen on"):
        control_socket.listen(str(tmp_path / "no" / "control"), (-1, -1))


@pytest.mark.parametrize("line", [b"[" * 60_000, b'{"a":' * 12_000])
def test_what_is_nested_too_deeply_is_no_message(pair, line):
    one, other = pair
    one.sock.sendall(line + b"\n")
    with pytest.raises(ValueError, match="nested"):
        while True:
            other.receive()


def test_half_a_surrogate_pair_is_no_text():
    with pytest.raises(ValueError, match="surrogates"):
        control_socket.parse_command({"command": "route", "arguments": ["\ud800"]})
    control_socket.parse_command({"command": "route", "arguments": ["\udc80"]})  # a byte of the command line that is not valid text


def test_descriptors_are_not_taken_from_anybody_else():
    one, other = socket.socketpair()
    with one, other, open(os.devnull) as file:
        before = descriptors()
        channel = control_socket.Channel(other)
        socket.send_fds(one, [b"{}\n"], [file.fileno()] * 50)
        assert channel.receive() == [({}, [])]
        assert descriptors() == before


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_what_is_passed_and_no_socket_is_closed():
    one, other = socket.socketpair()
    with one, open(os.devnull) as file, socket.socket() as sock:
        before = descriptors()
        channel = control_socket.Channel(other, takes_sockets=True)
        socket.send_fds(one, [b"{}\n"], [sock.fileno(), file.fileno(), sock.fileno(), file.fileno()])
        with pytest.raises(OSError):
            channel.receive()
        channel.close()
        assert descriptors() == before - 1
