"""The protocol of the control socket: requests, replies and errors."""

import json
import socket

import pytest
from support.service import order
from support.timing import PATIENCE, eventually

workers = pytest.mark.parametrize("workers", [1, 2])


def raw(process, data):
    """All that the service sends after `data`, until it closes the connection."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(process.control)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(4096), b""))


@workers
def test_queries(service, workers):
    process = service(workers)
    told = order(process, "pids")
    assert told["pid"] == process.pid and len(told["workers"]) == workers
    with process.talk() as talk:
        talk.expect(b"get k\r\n", b"END\r\n")
        assert order(process, "stats")["general"]["cmd_get"] == 1
        assert order(process, "reset") == {}
        assert order(process, "stats", "")["general"]["cmd_get"] == 0
    assert order(process, "reopen_logs") == {}


@workers
@pytest.mark.parametrize(
    "line, error",
    [
        (b"nonsense\n", "Expecting value"),
        (b"{}\n", "expected"),
        (b'{"command": "stats", "arguments": [1]}\n', "expected"),
        (b'{"command": "dance"}\n', "there is no command 'dance'"),
        (b'{"command": "stats", "arguments": ["nowhere"]}\n', "there is no pool 'nowhere'"),
        (b"x" * 70_000, "longer than 65536 bytes"),
    ],
)
def test_what_cannot_be_done(service, workers, line, error):
    process = service(workers)
    assert error in json.loads(raw(process, line))["error"]
    assert order(process, "pids")["pid"] == process.pid


@workers
def test_several_questions_at_once(service, workers):
    process = service(workers)
    answers = raw(process, b'{"command": "pids"}\n{"command": "reload"}\n').splitlines()
    assert [sorted(json.loads(answer)) for answer in answers] == [["pid", "workers"], ["added", "changed", "needs_restart", "removed"]]


@workers
def test_who_does_not_wait_for_the_answer(service, workers):
    process = service(workers)
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(process.control)
            sock.sendall(b'{"command": "reload"}\n{"command": "stats"}\n')
    eventually(lambda: "removed" in order(process, "reload"), what="one that nothing is in the way of")
    assert "internal error" not in process.log()
