"""The log in the systemd journal: a socket at stderr that JOURNAL_STREAM names."""

import os
import re
import socket
import subprocess
import threading

import pytest
from support.servers import COMMANDS, HOST, environment, free_port
from support.talk import Talk
from support.timing import PATIENCE, eventually, join

LINE = re.compile(rb"<[0-7]>\S")


@pytest.fixture
def journal():
    """(stderr of a service, what it has written there so far, the variables that identify it)"""
    stderr, reading = socket.socketpair()
    written = bytearray()

    def read():
        while data := reading.recv(65536):
            written.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    facts = os.fstat(stderr.fileno())
    yield stderr, written, {"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"}
    stderr.shutdown(socket.SHUT_RDWR)
    join(thread)
    stderr.close()
    reading.close()


def run(stderr, variables, *options):
    return subprocess.Popen([*COMMANDS["gmproxy"], *map(str, options)], stderr=stderr, env=environment(**variables))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_lines_have_a_severity_and_no_time(workers, journal):
    stderr, written, variables = journal
    nobody, port = f"{HOST}:{free_port()}", free_port()
    service = run(stderr, variables, "-s", nobody, "-l", HOST, "-p", port, "--workers", workers)
    try:
        eventually(lambda: b"gmproxy: serving on" in written, what="the start")
        with Talk(port) as talk:
            assert talk.ask(b"set k 0 0 1\r\n1\r\n") == f"SERVER_ERROR connecting {nobody}\r\n".encode()
        eventually(lambda: b"backend failed" in written, what="a line of a failure")
    finally:
        service.terminate()
        service.wait(PATIENCE)
    lines = [line for line in bytes(written).splitlines() if not line.startswith(b"gmproxy: serving on ")]
    assert all(map(LINE.match, lines)), lines
    suffix = rb" worker=[12]" if workers == "2" else b""
    assert any(re.fullmatch(rb"<6>serving build=\w+ pools=1 backends=1" + suffix, line) for line in lines)
    assert any(line.startswith(f"<4>backend failed server={nobody} reason=connecting".encode()) for line in lines)


def test_another_stderr_is_not_the_journal(journal):
    """Programs whose stderr was redirected inherit the variable."""
    stderr, written, _ = journal
    service = run(stderr, {"JOURNAL_STREAM": "1:1"}, "-s", "10.0.0.1", "-l", HOST, "-p", free_port())
    try:
        eventually(lambda: b"serving build" in written)
    finally:
        service.terminate()
        service.wait(PATIENCE)
    assert re.search(rb"^\d{4}-\d\d-\d\d \S+ INFO serving build", bytes(written), re.M)


def test_a_start_that_fails(journal):
    stderr, written, variables = journal
    assert run(stderr, variables, "--nonsense").wait(PATIENCE) == 2
    eventually(lambda: written)
    assert written.startswith(b"<3>gmproxy: ") and written.count(b"\n") == 1
