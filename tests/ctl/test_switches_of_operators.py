"""gmproxyctl fills and journal: switched in all workers, those that start later too."""

import json
import os
import re
import signal

import pytest
from support.keys import keys_by_server
from support.service import order
from support.talk import storage, value
from support.timing import eventually

(KEY, OTHER_KEY), _ = keys_by_server(2, 2)
workers = pytest.mark.parametrize("workers", ["1", "2"])


def report(ask, running):
    return json.loads(ask(running, "status", "--json").out)


def refills(ask, running):
    return sum(backend["refills"] for backend in report(ask, running)["pools"]["default"]["backends"])


@workers
def test_fills_off_and_on(service, ask, memcached, workers):
    running = service("-b", memcached().address, "--on-miss", "always", "--workers", workers)
    primary = running.servers[0]
    with running.talk() as talk:
        for key in (KEY, OTHER_KEY):
            talk.expect(storage(b"set", key, b"hello"), b"STORED\r\n")
    assert ask(running, "fills").out == "on\n"
    said = ask(running, "fills", "off")
    assert (said.status, said.out) == (0, "off\n")
    assert "fills off" in ask(running, "status").lines[0]
    assert "WARNING switched by hand name=fills state=off" in running.log()
    with running.talk() as talk, primary.talk() as direct:
        direct.expect(b"flush_all\r\n", b"OK\r\n")
        for _ in range(3):
            talk.expect(b"get %b\r\n" % KEY, value(KEY, b"hello") + b"END\r\n")
        direct.expect(b"get %b\r\n" % KEY, b"END\r\n")
        assert refills(ask, running) == 0, "the client gets the backup's value, which is not copied"
        assert "looked up there on a miss; fills are off" in ask(running, "route", KEY.decode()).out
        ask(running, "reload")
        assert ask(running, "fills").out == "off\n"
        assert ask(running, "fills", "on").out == "on\n"
        talk.expect(b"get %b\r\n" % OTHER_KEY, value(OTHER_KEY, b"hello") + b"END\r\n")
        eventually(lambda: direct.ask(b"mn\r\nget %b\r\n" % OTHER_KEY, b"END\r\n") == b"MN\r\n" + value(OTHER_KEY, b"hello") + b"END\r\n")
    eventually(lambda: refills(ask, running) == 1)
    assert "fills off" not in ask(running, "status").lines[0]


def test_a_worker_that_starts_later_has_fills_off_too(service, ask):
    running = service("--workers", "2")

    def ready():
        """The pids of both workers, once they are ready."""
        return eventually(
            lambda: [pids for pids in [[each["pid"] for each in order(running, "ping").get("workers", [])]] if len(pids) == 2]
        )[0]

    before = ready()
    ask(running, "fills", "off")
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: before[0] not in ready())
    assert ask(running, "fills").out == "off\n"
    assert not report(ask, running)["fills_enabled"]
    ask(running, "fills", "on")
    assert report(ask, running)["fills_enabled"]


@workers
def test_without_a_journal(service, ask, workers):
    running = service("--workers", workers)
    assert ask(running, "journal").out == "none\n"
    for state in ("on", "off"):
        assert ask(running, "journal", state).refusal == "gmproxyctl: no journal_dir is set\n"
    assert not re.search("journal|fills", ask(running, "status").lines[0])


def test_another_word(service, ask):
    running = service()
    assert "invalid choice: 'of'" in ask(running, "fills", "of").complaint
    for name in ("fills", "journal"):
        assert order(running, name, "of") == {"error": "'of' is neither on nor off"}


@workers
def test_the_journal_off_and_on(service, ask, memcached, tmp_path, workers):
    running = service("-b", memcached().address, "--journal-dir", tmp_path / "journal", "--workers", workers)
    eventually(lambda: ask(running, "journal").out == "ok\n")
    assert ask(running, "journal", "off").out == "off\n"
    assert "journal off" in ask(running, "status").lines[0]
    ask(running, "reload")
    assert report(ask, running)["journal"] == "off"
    assert ask(running, "journal", "on").out in ("ok\n", "incomplete\n"), "the file is written anew"
    eventually(lambda: report(ask, running)["journal"] == "ok")
    assert report(ask, running)["process"]["journal_errors"] == 0
