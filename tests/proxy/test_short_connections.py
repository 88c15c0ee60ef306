"""Clients that connect for a few requests, as PHP does for each page: whatever they send, in whatever pieces, and however they disconnect."""

import contextlib
import random
import socket
import threading
import time

import pytest
from support.network import reset
from support.talk import Talk, storage, value
from support.threads import run_in_threads
from support.timing import eventually, join

THREADS = 4
CONNECTIONS = 60  # of each thread

#: Lengths of values in bytes, some longer than what is received at once.
SIZES = (1, 100, 5000, 300_000)

LEAVE = ("close", "quit", "half close", "reset", "early reset")


def conversation(dice, name):
    """(what a client sends, the replies to it): sets and gets of its own keys, in one piece or several."""
    sent, answered = [], []
    for number in range(dice.choice((1, 1, 1, 2, 3, 20, 100))):
        key = b"%s-%d" % (name, number % 7)
        data = dice.randbytes(dice.choice(SIZES[:2] if number > 5 else SIZES))
        sent.append(storage(b"set", key, data))
        answered.append(b"STORED\r\n")
        if dice.random() < 0.7:
            sent.append(b"get %b %b-none\r\n" % (key, key))
            answered.append(value(key, data) + b"END\r\n")
        if dice.random() < 0.2:
            sent.append(b"mn\r\n")
            answered.append(b"MN\r\n")
    return b"".join(sent), b"".join(answered)


def pieces(dice, sent):
    """`sent`, cut at a few places."""
    cuts = sorted(dice.randrange(len(sent) + 1) for _ in range(dice.choice((0, 0, 1, 2, 5))))
    return [sent[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(sent)])]


def connect_once(dice, port, name):
    """One connection, from connecting to disconnecting."""
    sent, answered = conversation(dice, name)
    leave = dice.choice(LEAVE)
    with Talk(port) as talk:
        sender = threading.Thread(target=send, args=(dice.random(), talk, pieces(dice, sent), leave))
        sender.start()
        if leave == "early reset":
            join(sender)
            reset(talk.socket)
            return
        assert talk.read_exactly(len(answered)) == answered
        join(sender)
        if leave == "reset":
            reset(talk.socket)
        elif leave in ("quit", "half close"):
            assert talk.socket.recv(100) == b"", "nothing more, and the end"


def send(seed, talk, parts, leave):
    dice = random.Random(seed)
    with contextlib.suppress(OSError):
        for part in parts:
            talk.send(part)
            if dice.random() < 0.5:
                time.sleep(dice.random() * 0.01)
        if leave == "quit":
            talk.send(b"quit\r\n")
        elif leave == "half close":
            talk.socket.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_whatever_they_send(seed, workers, memcached, proxy):
    process = proxy("-s", memcached().address, "-s", memcached().address, "--workers", workers)

    def run(thread):
        dice = random.Random(f"{seed} {thread}")
        for number in range(CONNECTIONS):
            connect_once(dice, process.port, b"key-%d-%d" % (thread, number))

    run_in_threads(run, THREADS)
    eventually(lambda: process.stats()["curr_connections"] == 1, what="all have left")
    stats = process.stats()
    assert (stats["bytes_held"], stats["internal_errors"]) == (0, 0)
    assert "ERROR" not in process.log()


@pytest.mark.parametrize("hibernate_after", [0, 1])
def test_who_only_connects(hibernate_after, memcached, proxy):
    """As a health check does. And a client that waits for a long time before its first request."""
    process = proxy("-s", memcached().address, "--hibernate-after", hibernate_after)
    with process.talk() as patient:
        for _ in range(200):
            process.talk().close()
        eventually(lambda: process.stats()["curr_connections"] == 2, what="those who checked have left")
        assert process.stats()["sleeping_connections"] == 1
        time.sleep(0.2)
        patient.expect(storage(b"set", b"k", b"v"), b"STORED\r\n")
        patient.expect(b"get k\r\n", value(b"k", b"v") + b"END\r\n")
