"""The log of a service is not read: it continues to serve."""

import contextlib
import os
import re
import signal
import subprocess

import pytest
from support.servers import COMMANDS, HOST, PATIENCE, environment, free_port
from support.service import order
from support.talk import Talk
from support.terminals import open_terminal
from support.timing import eventually

workers = pytest.mark.parametrize("workers", [1, 2])


class Service:
    """A service whose stderr is `stderr`, with a control socket and a pid file in `folder`."""

    def __init__(self, folder, server, stderr, *arguments):
        self.port = free_port()
        self.control = str(folder / "control")
        self.pid_file = folder / "pid"
        self.child = subprocess.Popen(
            [
                *COMMANDS["gmproxy"],
                "-l",
                HOST,
                "-p",
                str(self.port),
                "-s",
                server,
                "--control",
                self.control,
                "--pid-file",
                str(self.pid_file),
                *map(str, arguments),
            ],
            env=environment(),
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def serves(self):
        eventually(self._answers, what="the service replies")

    def _answers(self):
        try:
            with Talk(self.port) as talk:
                return talk.ask(b"version\r\n").startswith(b"VERSION")
        except (OSError, AssertionError):
            return False

    def ends(self):
        self.child.send_signal(signal.SIGTERM)
        assert self.child.wait(PATIENCE) == 0

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)  # and its successors
        self.child.wait(PATIENCE)


@pytest.fixture
def service(memcached, tmp_path):
    started = []

    def start(stderr, *arguments):
        started.append(Service(tmp_path, memcached().address, stderr, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def ends():
    """(reading end, writing end) of the pipe that becomes stderr."""
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(descriptor)


@workers
def test_from_the_start(service, ends, workers):
    reading, writing = ends
    os.close(reading)
    process = service(writing, "--workers", workers, "-v")
    process.serves()
    assert order(process, "reload")["changed"] == {}
    process.serves()
    process.ends()


@workers
@pytest.mark.parametrize("make", [os.pipe, open_terminal], ids=["pipe", "terminal"])
def test_from_some_moment_on(service, workers, make):
    """It reloads, reopens its log, and another process takes over."""
    reading, writing = make()
    process = service(writing, "--workers", workers)
    os.close(writing)
    process.serves()
    os.close(reading)
    assert order(process, "reload")["changed"] == {}
    assert order(process, "reopen_logs") == {}
    process.serves()
    successor = order(process, "upgrade")["successor"]
    assert process.child.wait(PATIENCE) == 0
    process.serves()
    assert process.pid_file.read_text() == f"{successor}\n"
    assert order(process, "pids")["pid"] == successor


@workers
def test_a_pipe_that_is_full(service, ends, workers):
    """Each client is logged with -v. When the pipe takes no more, clients are still served."""
    reading, writing = ends
    process = service(writing, "--workers", workers, "-v")
    process.serves()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x")
    os.set_blocking(writing, True)
    for _ in range(20):
        process.serves()
    assert order(process, "reload")["changed"] == {}
    process.serves()
    os.set_blocking(reading, False)
    heard = bytearray()

    def told():
        with contextlib.suppress(BlockingIOError):
            heard.extend(os.read(reading, 1 << 16))
        return re.search(rb"WARNING log lines dropped count=\d+", heard)

    eventually(told, what="how many lines were dropped")
    process.ends()


def test_a_pipe_that_is_full_from_the_start(service, ends):
    _, writing = ends
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x")
    os.set_blocking(writing, True)
    process = service(writing)
    process.serves()
    process.ends()
