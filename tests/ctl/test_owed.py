"""gmproxyctl owed: the pending invalidations of a server that does not reply, flushed or dropped by an operator."""

import json
import os
import sys
import time
from types import SimpleNamespace

import pytest
from support.keys import keys_by_server
from support.talk import storage
from support.terminals import open_terminal
from support.timing import eventually, milliseconds

from gmproxy.console import owed

KEYS, _ = keys_by_server(2, 5)


@pytest.fixture
def behind(service, ask):
    """Call it with options for a service whose first server is stopped (SIGSTOP) and missed a write of each of KEYS."""
    stopped = []

    def start(*options):
        running = service("--timeout", milliseconds(3), "--server-retry-timeout", "1", *options)
        server = running.servers[0]
        server.pause()
        stopped.append(server)
        talks = [running.talk() for _ in range(4)]
        for number, key in enumerate(KEYS):
            assert talks[number % 4].ask(storage(b"set", key, b"new")).startswith(b"SERVER_ERROR")
        for talk in talks:
            talk.close()
        running.server = server
        return running

    yield start
    for server in stopped:
        server.resume()


def listed(ask, running, *words):
    return json.loads(ask(running, "owed", "--json", *words).out)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_keys_of_all_workers_until_the_server_replies(behind, ask, workers):
    running = behind("--workers", workers)
    [one] = eventually(lambda: [each for each in listed(ask, running) if each["ejected"]])
    assert (one["pool"], one["role"], one["label"], one["keys"], one["everything"]) == (
        "default", "primary", running.server.address, len(KEYS), False,
    )  # fmt: skip
    assert one["age"] > 0 and one["sample"] == []
    [of_server] = listed(ask, running, running.server.address)
    assert sorted(of_server["sample"]) == sorted(key.decode() for key in KEYS)
    [few] = listed(ask, running, running.server.address, "--keys", "2")
    assert len(few["sample"]) == 2
    head, row, *keys = ask(running, "owed", running.server.address).lines
    assert head.split() == ["SERVER", "ROLE", "POOL", "KEYS", "OLDEST", "STATUS"]
    assert row.startswith(running.server.address) and row.endswith("waiting: the server is ejected")
    assert sorted(keys) == sorted(f"  {key.decode()}" for key in KEYS)
    running.server.resume()
    eventually(lambda: ask(running, "owed").out == "no pending invalidations\n")
    assert listed(ask, running, running.server.address)[0]["keys"] == 0


def test_what_does_not_exist(service, ask):
    running = service()
    assert ask(running, "owed", "10.9.9.9:1").refusal == "gmproxyctl: there is no server '10.9.9.9:1'\n"
    assert "there is no pool 'nowhere'" in ask(running, "owed", "--pool", "nowhere").refusal
    assert "--flush needs a SERVER" in ask(running, "owed", "--flush").complaint
    assert "not allowed with argument" in ask(running, "owed", "x", "--flush", "--drop").complaint
    assert ask(running, "owed", running.servers[0].address, "--drop").out.startswith("no pending invalidations: ")
    assert ask(running, "owed", running.servers[0].address, "--flush").out.startswith("no pending invalidations: ")


def test_flush_waits_for_the_server(behind, ask, monkeypatch):
    running = behind("--workers", "2")
    monkeypatch.setattr(owed, "FLUSH_TIMEOUT", 0.0)
    said = ask(running, "owed", running.server.address, "--flush", "--yes")
    assert said.status == 1 and said.out.startswith(f"not flushed yet: {running.server.address} (primary of pool default): waiting: ")
    [one] = listed(ask, running)
    assert one["everything"]
    assert ask(running, "owed").lines[1].split()[3] == "all"
    running.server.resume()
    eventually(lambda: not listed(ask, running))
    assert int(running.server.stats()["cmd_flush"]) >= 1
    assert f"WARNING flushing by hand server={running.server.address}" in running.log()


def test_flush_of_a_server_that_replies_again(behind, ask, monkeypatch):
    running = behind("--server-failure-limit", "1000")

    def resume_and_wait(seconds):
        running.server.resume()
        time.sleep(seconds)

    monkeypatch.setattr(owed, "time", SimpleNamespace(monotonic=time.monotonic, sleep=resume_and_wait))
    monkeypatch.setattr(owed, "FLUSH_TIMEOUT", 1000.0)
    said = ask(running, "owed", running.server.address, "--flush", "--yes")
    assert (said.status, said.out) == (0, f"flushed: {running.server.address} (primary of pool default)\n")
    with running.server.talk() as talk:
        talk.expect(b"get %b\r\n" % KEYS[0], b"END\r\n")


def test_drop(behind, ask):
    running = behind("--workers", "2")
    said = ask(running, "owed", running.server.address, "--drop", "--yes")
    assert said.status == 0
    assert said.lines == [f"dropped: {len(KEYS)} keys of {running.server.address} (primary of pool default)", owed.DROP_WARNING]
    assert listed(ask, running) == []
    assert f"WARNING missed writes dropped by hand server={running.server.address} keys=" in running.log()


def test_without_a_terminal_nothing_is_done_unless_confirmed(behind, ask):
    running = behind()
    for option, word in (("--flush", "Flush"), ("--drop", "Drop")):
        complaint = ask(running, "owed", running.server.address, option).complaint
        assert complaint.startswith(f"gmproxyctl: not confirmed: {word} ") and "--yes" in complaint
    assert [one["everything"] for one in listed(ask, running)] == [False]


@pytest.mark.parametrize("answer, dropped", [("", False), ("Y", True)])
def test_the_question_at_a_terminal(behind, ask, monkeypatch, answer, dropped):
    running = behind()
    ours, theirs = open_terminal()
    with os.fdopen(theirs, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        os.write(ours, answer.encode() + b"\n")
        said = ask(running, "owed", running.server.address, "--drop")
    os.close(ours)
    assert f"Drop the pending invalidations of {running.server.address} (primary of pool default)? Stale values" in said.err
    assert said.status == (0 if dropped else 1)
    assert ("not confirmed: nothing was done" in said.err) == (not dropped)
    assert bool(listed(ask, running)) == (not dropped)
