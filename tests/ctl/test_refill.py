"""gmproxyctl refill: a server is filled in the background with what the other sets have."""

import json
import re
import threading

import pytest
from support.keys import keys_by_server
from support.service import order
from support.talk import storage
from support.timing import eventually, join

#: Of the first and of the second server of each set.
KEYS, OTHER_KEYS = keys_by_server(2, 60)
END = b"END\r\n"


def store_all(running, *more):
    with running.talk() as talk:
        for number, key in enumerate([*KEYS, *OTHER_KEYS, *more]):
            talk.expect(storage(b"set", key, b"value%d" % number, flags=number), b"STORED\r\n")


def items(server):
    """{key: (flags, data)} of a server."""
    with server.talk() as direct:
        reply = direct.ask(b"get %b\r\n" % b" ".join([*KEYS, *OTHER_KEYS]), END)
    return {key: (int(flags), data) for key, flags, data in re.findall(rb"VALUE (\S+) (\d+) \d+\r\n(\S*)\r\n", reply)}


def refills(ask, running):
    return json.loads(ask(running, "refill", "--json").out)["refills"]


def ended(ask, running):
    """The one refill, once it has ended."""
    return eventually(lambda: [one for one in refills(ask, running) if one["state"] != "running"], what="the refill ends")[0]


def filled(ask, running, server, *words):
    """The refill of `server`, once it has ended. A listing lacks an item that memcached moves: it is tried again."""

    def whole():
        said = ask(running, "refill", server.address, *words)
        assert said.status == 0, said
        one = ended(ask, running)
        return one if set(items(server)) == set(KEYS) else None

    return eventually(whole, what="the server is filled")


@pytest.mark.parametrize("workers, of_set", [("1", 1), ("2", 0)])
def test_a_server_is_filled_from_the_other_sets(replicated, ask, workers, of_set):
    running = replicated("--workers", workers, "--write", "all")
    store_all(running)
    server, whole = running.sets[of_set][0], items(running.sets[2][0])
    assert set(whole) == set(KEYS)
    with server.talk() as direct:
        direct.expect(b"flush_all\r\n", b"OK\r\n")
        direct.expect(storage(b"set", KEYS[0], b"newer"), b"STORED\r\n")
    assert ask(running, "refill").out == "no refills\n"
    role = "primary" if of_set == 0 else "replica1"
    one = filled(ask, running, server)
    assert (one["label"], one["role"], one["state"], one["reason"], one["skipped"]) == (server.address, role, "done", "", [])
    assert (one["pending"], one["failed"], one["missing"]) == (0, 0, 0)
    assert items(server) == whole | {KEYS[0]: (0, b"newer")}, "what it has is not replaced"
    said = ask(running, "refill")
    assert re.search(rf"^{server.address} +{role} +default +done ", said.lines[1])
    log = running.log()
    assert f"INFO refill started server={server.address} rate=1000" in log
    assert re.search(rf"INFO refill ended server={server.address} state=done checked=\d+ present=\d+ pending=0 filled=\d+ ", log)
    report = order(running, "report")["pools"]["default"]["backends"]
    assert sum(backend["refills"] for backend in report if backend["label"] == server.address) >= len(KEYS) - 1


def test_the_primary_of_a_backup(service, ask, memcached):
    backup = memcached()
    running = service("-b", backup.address, "--backup-writes", "sync")
    store_all(running)
    server = running.servers[0]
    with server.talk() as direct:
        direct.expect(b"flush_all\r\n", b"OK\r\n")
    filled(ask, running, server)
    assert ask(running, "refill", backup.address).refusal == f"gmproxyctl: {backup.address} is a backup: backups are not filled\n"


@pytest.mark.parametrize("program", ["several", "one"])
def test_writes_meanwhile_are_not_undone(replicated, ask, program):
    """While clients write, the server is emptied and filled again and again: no set has another value than the main one in the end."""
    running = replicated("--write", "all", "--workers", "2", "--proxies", program)
    store_all(running)
    over = threading.Event()

    def write():
        with running.talk() as talk:
            number = 0
            while not over.is_set():
                number += 1
                for key in KEYS[:20]:
                    talk.expect(storage(b"set", key, b"%d" % number), b"STORED\r\n")
                    talk.ask(b"delete %b\r\n" % KEYS[20])
                    talk.expect(storage(b"set", KEYS[20], b"%d" % number), b"STORED\r\n")

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    server = running.sets[1][0]
    try:
        for _ in range(4):
            with server.talk() as direct:
                direct.expect(b"flush_all\r\n", b"OK\r\n")
            ask(running, "refill", server.address, "--rate", "100000")
            assert ended(ask, running)["state"] == "done"
    finally:
        over.set()
        for thread in threads:
            join(thread)
    eventually(lambda: order(running, "owed")["servers"] == [], what="nothing is pending")
    main = items(running.sets[0][0])
    assert all(main[key] == item for key, item in items(server).items())


def test_it_can_be_stopped_and_its_rate_is_bounded(replicated, ask):
    running = replicated("--write", "all")
    store_all(running)
    server = running.sets[1][0]
    with server.talk() as direct:
        direct.expect(b"flush_all\r\n", b"OK\r\n")
    said = ask(running, "refill", server.address, "--rate", "1")
    assert said.lines == [f"refilling: {server.address} (replica1 of pool default), at most 1 keys per second"]
    again = ask(running, "refill", server.address).refusal
    assert again == f"gmproxyctl: {server.address} is being refilled: see gmproxyctl refill\n"
    assert [one["state"] for one in refills(ask, running)] == ["running"]
    assert ask(running, "refill", server.address, "--stop").lines == [f"stopped: {server.address} (replica1 of pool default)"]
    assert [one["state"] for one in refills(ask, running)] == ["stopped"]
    assert len(items(server)) < len(KEYS)
    assert ask(running, "refill", server.address, "--stop").lines == [f"not being refilled: {server.address}"]
    filled(ask, running, server)


def test_what_ends_a_refill(replicated, ask):
    running = replicated("--write", "all")
    store_all(running)
    server = running.sets[1][0]
    with server.talk() as direct:
        direct.expect(b"flush_all\r\n", b"OK\r\n")
    ask(running, "refill", server.address, "--rate", "2")
    ask(running, "fills", "off")
    one = ended(ask, running)
    assert (one["state"], one["reason"]) == ("failed", "fills are off")
    assert "fills are off" in ask(running, "refill", server.address).refusal
    ask(running, "fills", "on")
    ask(running, "refill", server.address, "--rate", "2")
    ask(running, "replica", "replica1", "off")
    one = ended(ask, running)
    assert (one["state"], one["reason"]) == ("failed", "replica1 is switched off")
    assert "has no other set to be filled from" in ask(running, "refill", server.address).refusal


def test_a_set_that_was_off_is_filled_when_it_is_on_again(replicated, ask):
    running = replicated("--write", "all")
    store_all(running)
    ask(running, "replica", "replica1", "off")
    with running.talk() as talk:
        talk.expect(storage(b"set", KEYS[0], b"newer"), b"STORED\r\n")
    ask(running, "replica", "replica1", "on")
    server = running.sets[1][0]
    filled(ask, running, server)
    assert items(server)[KEYS[0]] == (0, b"newer")


def test_a_source_that_is_ejected_is_left_out(replicated, ask):
    running = replicated("--write", "all")
    store_all(running)
    server, away = running.sets[1][0], running.sets[0][0]
    ask(running, "eject", away.address)
    with server.talk() as direct:
        direct.expect(b"flush_all\r\n", b"OK\r\n")
    one = filled(ask, running, server)
    assert one["skipped"] == [{"server": away.address, "reason": "ejected"}]
    assert f"  {server.address}: {away.address} was not read: ejected" in ask(running, "refill").lines


def test_what_cannot_be_refilled(service, ask):
    running = service()
    server = running.servers[0]
    assert ask(running, "refill", server.address).refusal == "gmproxyctl: pool default has no replicas or backups\n"
    assert "there is no server 'x'" in ask(running, "refill", "x").refusal
    assert "needs a SERVER" in ask(running, "refill", "--stop").complaint
    assert order(running, "refill-begin") == {"error": "no server given"}
    assert "is not a number of keys per second" in order(running, "refill-begin", server.address, "0")["error"]
