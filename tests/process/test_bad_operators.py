"""No client of the control socket can end the service or block it."""

import contextlib
import json
import os
import signal
import socket

import pytest
from support.service import order
from support.timing import eventually

from gmproxy.process.control_server import MAX_COMMANDS, MAX_OPERATORS

workers = pytest.mark.parametrize("workers", [1, 2])

REPORT = b'{"command": "report"}\n'


@pytest.fixture
def operator():
    """Call it with a process for a connection to its control socket."""
    with contextlib.ExitStack() as stack:

        def connect(process):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(process.control)  # blocks while too many connections wait to be accepted
            sock.settimeout(10)
            return sock

        yield connect


def rest(sock):
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


@workers
@pytest.mark.parametrize(
    "line",
    [
        b"[" * 60_000,
        b'{"command":' * 5_000,
        b'{"command": "route", "arguments": ["\\ud800"]}',
        b'{"command": "\\udfff\\ud800"}',
        b'{"command": "ping", "arguments": [' + b"9" * 5000 + b"]}",
        b"\xff\xfe{\x00}\x00",
        b"\x00",
        b'{"command": ["ping"]}',
        b'{"call": 1, "command": "ping", "arguments": {}}',
        b"NaN",
        b"",
    ],
    ids=["nested", "nested_objects", "half_a_pair", "half_pairs", "long_number", "utf_16", "zero", "list", "of_a_worker", "nan", "empty"],
)
def test_what_is_no_question_is_answered_as_an_error(service, operator, workers, line):
    process = service(workers)
    before = order(process, "pids")
    sock = operator(process)
    sock.sendall(line + b"\n")
    assert list(json.loads(rest(sock))) == ["error"]
    assert order(process, "pids") == before
    with process.talk() as talk:
        talk.expect(b"get k\r\n", b"END\r\n")


@workers
@pytest.mark.parametrize(
    "words",
    [
        ["tail", "x"],
        ["hotkeys", "nan"],
        ["hotkeys", "1e999"],
        ["log-level", "\n"],
        ["eject", "\udc80"],
        ["stats", "\0"],
        ["sample", "x"],
        ["sampled"],
        ["serve", "x"],
        ["end"],
    ],
)
def test_arguments_that_make_no_sense(service, workers, words):
    process = service(workers)
    assert "error" in order(process, *words)
    assert order(process, "pids")["pid"] == process.pid


@workers
def test_operators_who_do_not_read(service, operator, workers):
    """SIGTERM ends the service, and a dead worker is replaced."""
    process = service(workers)
    eventually(lambda: process.stats()["threads"] == workers, what="all workers serve")
    deaf = [operator(process) for _ in range(5)]
    for sock in deaf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(REPORT * 100)
    assert len(order(process, "pids")["workers"]) == workers
    if workers > 1:
        victim = order(process, "pids")["workers"][0]
        os.kill(victim, signal.SIGKILL)
        eventually(
            lambda: set(order(process, "pids")["workers"]) - {victim} and len(order(process, "pids")["workers"]) == workers,
            what="another worker",
        )
    with process.talk() as talk:
        talk.expect(b"get k\r\n", b"END\r\n")
    assert process.stop() == 0


@workers
def test_many_questions_at_once_are_all_answered(service, operator, workers):
    """The operator reads them late, but reads all of them."""
    process = service(workers)
    sock = operator(process)
    count = 10 * MAX_COMMANDS
    sock.sendall(REPORT * count)
    sock.shutdown(socket.SHUT_WR)
    answers = rest(sock).splitlines()
    assert len(answers) == count
    assert all("pools" in json.loads(answer) for answer in answers)


@workers
def test_connections_that_were_forgotten(service, operator, workers):
    """The connection that was idle longest is closed."""
    process = service(workers)
    before = process.descriptors()
    forgotten = [operator(process) for _ in range(MAX_OPERATORS + 5)]
    assert order(process, "pids")["pid"] == process.pid
    eventually(lambda: process.descriptors() <= before + MAX_OPERATORS + 1, what="there is a limit")
    assert forgotten[0].recv(1) == b""
    assert "WARNING too many operators limit=64" in process.log()
    for sock in forgotten:
        sock.close()
    eventually(lambda: process.descriptors() <= before, what="all are gone")  # a probe of the server may have been open


@workers
def test_descriptors_that_are_passed_are_closed(service, operator, workers):
    process = service(workers)
    before = process.descriptors()
    sock = operator(process)
    reading, writing = os.pipe()
    with open(os.devnull) as file, socket.socket() as other:
        for passed in ([file.fileno()] * 150, [other.fileno()] * 50, [reading, other.fileno(), writing]):
            socket.send_fds(sock, [b'{"command": "ping", "sockets": %d}\n' % len(passed)], passed)
            assert "workers" in json.loads(sock.makefile().readline())
        socket.send_fds(sock, [b'{"command'], [file.fileno()] * 50)
        assert process.descriptors() <= before + 1
    os.close(writing)
    assert os.read(reading, 1) == b""  # no other process has it open
    os.close(reading)
    sock.close()
    eventually(lambda: process.descriptors() <= before, what="nothing is left open")
