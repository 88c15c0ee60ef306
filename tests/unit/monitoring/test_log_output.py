"""A log line is written at once or dropped and counted: nothing waits, nothing raises."""

import logging
import os
import select
import socket
import subprocess
import sys

import pytest
from support.servers import environment
from support.terminals import open_terminal
from support.timing import PATIENCE

from gmproxy.monitoring import log_output


def record(text, level=logging.INFO, *arguments):
    return logging.LogRecord("gmproxy", level, "", 0, text, arguments, None)


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            pass


def read_all(descriptor):
    parts = []
    try:
        while part := os.read(descriptor, 1 << 16):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts)


def fill(handler, line="x" * 1000):
    """Log until a line is dropped."""
    for _ in range(100_000):
        handler.handle(record(line))
        if handler.dropped:
            return
    raise AssertionError("it takes all")


def test_a_full_pipe_and_the_count_of_what_was_dropped(pipe):
    reading, writing = pipe
    handler = log_output.StreamOutput(writing)
    fill(handler)
    for _ in range(10):
        handler.handle(record("lost"))
    assert handler.dropped == 11
    before = read_all(reading)
    assert before.endswith(b"x\n") and b"lost" not in before
    handler.handle(record("here again"))
    assert read_all(reading) == b"log lines dropped count=11\nhere again\n"
    assert handler.dropped == 0
    assert os.get_blocking(writing)  # other processes may write there too


def test_the_count_is_logged_although_nothing_else_is(pipe):
    reading, writing = pipe
    handler = log_output.StreamOutput(writing)
    fill(handler)
    handler.report_dropped()
    read_all(reading)
    handler.report_dropped()
    handler.report_dropped()
    assert read_all(reading) == b"log lines dropped count=1\n"


def test_a_long_line_that_is_cut_does_not_run_into_the_next(pipe):
    reading, writing = pipe
    handler = log_output.StreamOutput(writing)
    handler.handle(record("x" * (1 << 20)))
    assert handler.dropped == 1
    assert set(read_all(reading)) == {ord("x")}
    handler.handle(record("next"))
    assert read_all(reading) == b"\nlog lines dropped count=1\nnext\n"


def test_a_dead_pipe(pipe):
    reading, writing = pipe
    os.close(reading)
    handler = log_output.StreamOutput(writing)
    handler.handle(record("nobody"))
    assert handler.dropped == 1


def test_a_socket():
    one, other = socket.socketpair()
    other.settimeout(PATIENCE)
    with one, other:
        handler = log_output.StreamOutput(one.fileno())
        handler.handle(record("here"))
        assert other.recv(100) == b"here\n"
        fill(handler)
        other.close()
        handler.handle(record("nobody"))
        assert handler.dropped == 2
        assert one.getblocking()


def test_the_journal_has_a_severity_at_each_line(pipe):
    reading, writing = pipe
    handler = log_output.JournalOutput(writing)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        handler.handle(record("line", level))
    handler.handle(record("failed\nTraceback\n  at <3>", logging.ERROR))
    assert read_all(reading) == b"<7>line\n<6>line\n<4>line\n<3>line\n<3>line\n<3>failed\n<3>Traceback\n<3>  at <3>\n"


def test_a_terminal_that_is_gone():
    master, terminal = open_terminal()
    handler = log_output.StreamOutput(terminal)
    handler.handle(record("here"))
    assert os.read(master, 100) == b"here\r\n"
    os.close(master)
    handler.handle(record("nobody"))
    assert handler.dropped == 1
    os.close(terminal)


def test_a_closed_descriptor(pipe):
    _, writing = pipe
    os.close(writing)
    handler = log_output.StreamOutput(writing)
    handler.handle(record("nowhere"))
    assert handler.dropped == 1


@pytest.mark.parametrize("wrong", [record("%d", logging.INFO, "no number"), record("%s %s", logging.INFO, 1)])
def test_a_line_that_cannot_be_formatted(pipe, wrong):
    reading, writing = pipe
    handler = log_output.StreamOutput(writing)
    handler.handle(wrong)
    handler.handle(record("right"))
    assert read_all(reading) == b"log lines dropped count=1\nright\n"


def test_what_is_no_text(pipe):
    reading, writing = pipe
    log_output.StreamOutput(writing).handle(record("half a pair \ud800"))
    assert read_all(reading) == b"half a pair \\ud800\n"


# -- syslog


@pytest.fixture
def daemon(tmp_path):
    """Call it for a new syslog daemon at `daemon.path`. The one before must have been closed."""
    path = str(tmp_path / "log")

    def start(kind=socket.SOCK_DGRAM):
        if os.path.exists(path):
            os.unlink(path)
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.bind(path)
        sock.settimeout(10)
        started.append(sock)
        return sock

    started = []
    start.path = path
    yield start
    for sock in started:
        sock.close()


@pytest.mark.parametrize(
    "level, priority", [(logging.DEBUG, 31), (logging.INFO, 30), (logging.WARNING, 28), (logging.ERROR, 27), (logging.CRITICAL, 27)]
)
def test_priorities(daemon, level, priority):
    listening = daemon()
    log_output.SyslogOutput(daemon.path, "gmproxy[1]: ").handle(record("line", level))
    assert listening.recv(100) == b"<%d>gmproxy[1]: line\0" % priority


def test_a_daemon_that_does_not_read(daemon):
    listening = daemon()
    handler = log_output.SyslogOutput(daemon.path, "")
    fill(handler)
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            listening.recv(10_000)
    handler.handle(record("here again"))
    assert [listening.recv(1000) for _ in range(2)] == [b"<28>log lines dropped count=1\0", b"<30>here again\0"]


def test_a_daemon_that_is_restarted(daemon):
    first = daemon()
    handler = log_output.SyslogOutput(daemon.path, "")
    first.close()
    handler.handle(record("nobody"))
    second = daemon()
    handler.handle(record("here"))
    assert [second.recv(1000) for _ in range(2)] == [b"<28>log lines dropped count=1\0", b"<30>here\0"]
    handler.close()


def test_a_daemon_of_streams(daemon):
    listening = daemon(socket.SOCK_STREAM)
    listening.listen()
    handler = log_output.SyslogOutput(daemon.path, "")
    handler.handle(record("here"))
    accepted, _ = listening.accept()
    with accepted:
        assert accepted.recv(100) == b"<30>here\0"
        fill(handler)
    handler.close()


def test_a_long_message_is_cut(daemon):
    listening = daemon()
    log_output.SyslogOutput(daemon.path, "").handle(record("x" * 1_000_000))
    assert len(listening.recv(1 << 20)) == log_output.LONGEST_SYSLOG_MESSAGE + len("<30>\0")


# -- in a worker, where sockets are those of gevent

IN_THE_LOOP = """
import logging, sys
from types import SimpleNamespace
from gmproxy.monitoring import logging_setup as logs
from gevent import monkey
monkey.patch_all()
import gevent
logs.SYSLOG_SOCKET = sys.argv[1]
logs.set_up(SimpleNamespace(log_file="", verbose=False, log_level=""), in_background=sys.argv[2] == "syslog")  # as after a reload
trouble = []

def flood():
    try:
        for number in range(2_000):
            logging.getLogger("gmproxy").info("line %d " + str(number) + "x" * 200, number)
    except BaseException as error:
        trouble.append(repr(error))

gevent.get_hub().loop.run_callback(flood)
gevent.sleep(0)
gevent.sleep(0)
print(trouble, logging.getLogger("gmproxy").handlers[0].dropped > 0)
"""


@pytest.mark.parametrize("where", ["syslog", "stderr"])
def test_a_callback_of_the_loop_may_log_where_nobody_reads(daemon, where):
    listening = daemon()
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", IN_THE_LOOP, daemon.path, where],
            stdout=subprocess.PIPE,
            stderr=writing,
            text=True,
            timeout=60,
            env=environment(),
        )
    finally:
        os.close(reading)
        os.close(writing)
        listening.close()
    assert done.stdout == "[] True\n"


def test_pipes_take_what_is_written_at_once_or_not_at_all():
    assert log_output.PIPE_BUF == select.PIPE_BUF >= 512
