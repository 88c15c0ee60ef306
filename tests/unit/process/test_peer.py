"""Peers of the master: whatever one of them does, no other is affected, and the loop never waits."""

import contextlib
import json
import os
import socket

import pytest

from gmproxy.process import control_server
from gmproxy.process.peer import CLOSED, Peer
from gmproxy.system.select_loop import SelectLoop

MAX_UNSENT = 100_000
STALL_TIMEOUT = 0.05


@pytest.fixture
def loop():
    made = SelectLoop()
    yield made
    made.close()


def turn(loop):
    """Run the loop once, without waiting."""
    loop.call_later(0, lambda: None)
    loop.run_once()


class Ends:
    """A Peer and the `other` end of its connection."""

    def __init__(self, loop, **options):
        self.loop = loop
        self.heard = []
        self.lost = []
        ours, self.other = socket.socketpair()
        self.other.setblocking(False)
        self.peer = Peer(
            loop, ours, self.heard.append, self.lost.append, **({"max_unsent": MAX_UNSENT, "stall_timeout": STALL_TIMEOUT} | options)
        )

    def fill(self):
        """Send until some bytes are unsent."""
        while not self.peer.unsent:
            self.peer.send_message({"text": "x" * 10_000})

    def read(self):
        with contextlib.suppress(BlockingIOError):
            return self.other.recv(1 << 20)
        return b""


@pytest.fixture
def ends(loop):
    made = []

    def make(**options):
        made.append(Ends(loop, **options))
        return made[-1]

    yield make
    for each in made:
        each.peer.close()
        each.other.close()


def test_messages_go_and_come(loop, ends):
    one = ends()
    one.peer.send_message({"a": 1})
    assert one.read() == b'{"a": 1}\n'
    one.other.send(b'{"b": 2}\n{"c": 3}\n')
    turn(loop)
    assert one.heard == [{"b": 2}, {"c": 3}]


def test_what_has_to_wait_is_sent_when_it_is_taken(loop, ends):
    sent = []
    one = ends(stall_timeout=60, on_drained=lambda: sent.append(True))
    one.fill()
    one.peer.send_message({"last": True})
    came = b""
    while not came.endswith(b'{"last": true}\n'):
        came += one.read()
        turn(loop)
    assert all(json.loads(line) for line in came.splitlines())
    assert (one.peer.unsent, one.lost, sent) == (0, [], [True])


def test_one_who_takes_nothing_is_lost(loop, ends):
    one = ends()
    one.fill()
    while not one.lost:
        loop.run_once()
    assert one.lost == [f"read nothing for {STALL_TIMEOUT} s"]
    one.peer.send_message({"more": True})
    assert (one.peer.unsent, one.lost) == (0, [f"read nothing for {STALL_TIMEOUT} s"])


def test_one_who_takes_a_little_at_a_time_is_not(loop, ends):
    one = ends()
    one.fill()
    one.peer.send_message({"text": "x" * 50_000})
    timers = 0
    while one.peer.unsent and timers < 100:
        one.other.recv(1 << 16)
        loop.run_once()
        timers += 1
    assert one.lost == []


def test_one_for_whom_too_much_waits_is_lost(ends):
    one = ends(stall_timeout=60)
    for _ in range(1000):
        one.peer.send_message({"text": "x" * 10_000})
        if one.lost:
            break
    assert one.lost == [f"more than {MAX_UNSENT} bytes wait to be sent"]


def test_a_single_message_may_be_as_long_as_it_is(loop, ends):
    one = ends(stall_timeout=60)
    one.peer.send_message({"text": "x" * 10 * MAX_UNSENT})
    came = 0
    while came < 10 * MAX_UNSENT:
        came += len(one.read())
        turn(loop)
    assert one.lost == []


@pytest.mark.parametrize("line", [b"nonsense\n", b"[" * 100_000 + b"\n", b"\xff\n"])
def test_one_who_says_what_is_no_message_is_lost(loop, ends, line):
    one = ends()
    one.other.setblocking(True)
    one.other.sendall(line)
    while not one.lost:
        loop.run_once()
    assert one.lost[0] != CLOSED and one.heard == []


def test_one_who_has_gone(loop, ends):
    one, other = ends(), ends()
    one.other.close()
    turn(loop)
    other.other.close()
    other.peer.send_message({"a": 1})
    assert one.lost == other.lost == [CLOSED]


def test_a_fault_in_what_hears_it_costs_that_peer_alone(loop, ends, internal_errors_counted):
    one, other = ends(), ends()

    def fail(message):
        raise KeyError("x")

    one.peer._on_message = fail
    one.other.send(b"{}\n")
    other.other.send(b"{}\n")
    turn(loop)
    assert (one.lost, other.lost, other.heard) == (["internal error"], [], [{}])
    assert internal_errors_counted() == 1


def test_last_words(ends):
    one = ends()
    one.other.send(b'{"failed": "why"}\n')
    one.other.close()
    one.peer.send_message({"a": 1})
    assert one.lost == [CLOSED]
    one.peer.read_rest()
    assert one.heard == [{"failed": "why"}]


@pytest.mark.parametrize("end", ["close", "close_in_child"])
def test_sockets_that_were_to_go_along_are_closed(ends, end):
    one = ends(stall_timeout=60)
    one.fill()
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket() as sock:
        one.peer.send_message({}, [sock, sock])
        assert len(os.listdir("/proc/self/fd")) == before + 3
    getattr(one.peer, end)()
    assert len(os.listdir("/proc/self/fd")) == before - 1


# -- operators


class Asked:
    """Operators at a socket, and the commands that they have sent."""

    def __init__(self, loop, path):
        self.questions = []  # (name, arguments, then)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(path)
        self.listening.listen(100)
        self.path = path
        self.server = control_server.ControlServer(loop, lambda *question: self.questions.append(question))
        self.listener = control_server.ControlListener(loop, self.listening, self.server)


@pytest.fixture
def asked(loop, tmp_path):
    made = Asked(loop, str(tmp_path / "control"))
    yield made
    made.server.close_in_child()
    made.listening.close()


@pytest.fixture
def connect(asked, loop):
    with contextlib.ExitStack() as stack:

        def connect():
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(asked.path)
            sock.setblocking(False)
            turn(loop)
            return sock

        yield connect


QUESTION = b'{"command": "ping"}\n'


def test_further_questions_wait_until_some_are_answered(loop, asked, connect):
    sock = connect()
    sock.send(QUESTION * (control_server.MAX_COMMANDS + 5))
    turn(loop)
    assert len(asked.questions) == control_server.MAX_COMMANDS
    asked.questions[0][2]({"first": True})
    assert len(asked.questions) == control_server.MAX_COMMANDS + 1
    asked.questions[0][2]({"again": True})  # the first result of a command counts
    assert len(asked.questions) == control_server.MAX_COMMANDS + 1
    assert sock.recv(1000) == b'{"first": true}\n'
    sock.send(QUESTION)
    for _, _, then in asked.questions:
        then({})
    turn(loop)
    while len(asked.questions) < control_server.MAX_COMMANDS + 6:
        asked.questions[-1][2]({})
        turn(loop)


def test_a_fault_of_ours_is_told_to_the_one_who_asks(loop, asked, connect, internal_errors_counted):
    def fail(*question):
        raise KeyError("x")

    asked.server._run_command = fail
    one, other = connect(), connect()
    one.send(QUESTION * 2)
    turn(loop)
    assert one.recv(1000) == b'{"error": "KeyError(\'x\')"}\n' * 2
    assert internal_errors_counted() == 2
    with pytest.raises(BlockingIOError):
        other.recv(1)


def test_no_descriptor_is_free(loop, asked, connect, monkeypatch):
    """The operator waits, and the loop does not use the CPU."""

    class Refusing:
        def __init__(self, sock):
            self._sock = sock

        def accept(self):
            raise OSError(24, "Too many open files")

        def fileno(self):
            return self._sock.fileno()

    monkeypatch.setattr(asked.listener, "_listening", Refusing(asked.listening))
    sock = connect()
    assert asked.listening not in loop.sources()
    with pytest.raises(BlockingIOError):
        sock.recv(1)


def test_answers_after_the_operator_has_gone(loop, asked, connect):
    sock = connect()
    sock.send(QUESTION * 3)
    turn(loop)
    sock.close()
    for _, _, then in asked.questions:
        then({})
    turn(loop)
    assert not asked.server._operators
