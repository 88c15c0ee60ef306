"""gmproxyctl replica: a set of servers is switched off and on in all workers; those that start later have it off, too."""

import json
import os
import re
import signal

import pytest
from support.keys import keys_by_server
from support.servers import free_port
from support.service import order
from support.talk import storage, value
from support.timing import eventually

KEYS, _ = keys_by_server(2, 3)
KEY, OTHER_KEY, DELETED = KEYS
END = b"END\r\n"
workers = pytest.mark.parametrize("workers", ["1", "2"])


def stored(server, key):
    with server.talk() as direct:
        return direct.ask(b"get %b\r\n" % key, END)


def states(ask, running):
    """{name of the replica: on or off}, as all workers report them."""
    return {one["replica"]: one["state"] for one in json.loads(ask(running, "replica", "--json").out)["replicas"]}


def set_key(running, key, data):
    """Set `key`, with a client for each worker at least."""
    with running.talk() as talk:
        talk.expect(storage(b"set", key, data), b"STORED\r\n")


@workers
def test_a_set_that_is_off_is_sent_nothing_and_is_flushed_before_it_is_read(replicated, ask, workers):
    running = replicated("--workers", workers, "--write", "all", "--read", "spread")
    far = running.sets[1][0]
    for key in KEYS:
        set_key(running, key, b"old")
    assert stored(far, KEY) == value(KEY, b"old") + END
    said = ask(running, "replica", "replica1", "off")
    assert said.lines == [f"replica1 (pool default): off: {', '.join(server.address for server in running.sets[1])}"]
    assert states(ask, running) == {"replica1": "off", "replica2": "on"}
    assert "WARNING switched by hand name=replica1 state=off pool=default" in running.log()
    for _ in range(4):
        set_key(running, KEY, b"new")
        with running.talk() as talk:
            talk.ask(b"delete %b\r\n" % DELETED)
            for _ in range(3):
                talk.expect(b"get %b\r\n" % KEY, value(KEY, b"new") + END)
    assert stored(far, KEY) == value(KEY, b"old") + END, "the set has missed the write"
    table = ask(running, "status").out
    assert len(re.findall(r"^off .* replica1 ", table, re.M)) == 2
    assert {one["role"]: one["switched_off"] for one in order(running, "owed")["servers"]} == {"replica1": True}
    assert f"  set      replica1   {far.address}  switched off" in ask(running, "route", KEY.decode()).out
    ask(running, "replica", "replica1", "on")
    for _ in range(4):
        with running.talk() as talk:
            for _ in range(3):
                talk.expect(b"get %b\r\n" % KEY, value(KEY, b"new") + END)
                talk.expect(b"get %b\r\n" % DELETED, END)
    eventually(lambda: order(running, "owed")["servers"] == [], what="the servers of the set are flushed")
    set_key(running, OTHER_KEY, b"newer")
    eventually(lambda: stored(far, OTHER_KEY) == value(OTHER_KEY, b"newer") + END)
    assert states(ask, running) == {"replica1": "on", "replica2": "on"}


def test_a_set_that_is_off_does_not_count_for_write_all(replicated, ask):
    running = replicated("--write", "all", "--timeout", "300", "--server-failure-limit", "1000")
    for server in running.sets[1]:
        server.kill()
    with running.talk() as talk:
        assert talk.ask(storage(b"set", KEY, b"v")).startswith(b"SERVER_ERROR")
        ask(running, "replica", "replica1", "off")
        talk.expect(storage(b"set", KEY, b"v"), b"STORED\r\n")
    said = ask(running, "status")
    assert said.status == 0, "a server of a set that is off is no failure"


def test_with_all_replicas_off_the_main_set_serves_alone(replicated, ask):
    running = replicated()
    for name in ("replica1", "replica2"):
        ask(running, "replica", name, "off")
    set_key(running, KEY, b"v")
    assert stored(running.servers[0], KEY) == value(KEY, b"v") + END
    assert stored(running.sets[1][0], KEY) == stored(running.sets[2][0], KEY) == END
    assert len(ask(running, "replica").lines) == 2


def test_route_has_the_server_of_each_set(replicated, ask):
    running = replicated("--write", "all", "--server-zone", "a", "--timeout", "300", "--server-failure-limit", "1000")
    set_key(running, KEY, b"v")
    running.sets[2][0].kill()
    with running.talk() as talk:
        assert talk.ask(storage(b"set", KEY, b"w")).startswith(b"SERVER_ERROR")
    lines = ask(running, "route", KEY.decode()).lines
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["set", name, servers[0].address] for name, servers in zip(("main", "replica1", "replica2"), running.sets)
    ]
    assert lines[1].endswith("; zone a")
    assert lines[3].endswith("missed a write of the key; it is deleted there before it is read")
    sets = json.loads(ask(running, "route", KEY.decode(), "--json").out)[0]["sets"]
    assert [(one["role"], one["enabled"], one["owed"]) for one in sets] == [
        ("primary", True, False),
        ("replica1", True, False),
        ("replica2", True, True),
    ]


def pids(running):
    """The pids of both workers, once they are ready."""
    return eventually(lambda: [pids for pids in [[each["pid"] for each in order(running, "ping").get("workers", [])]] if len(pids) == 2])[0]


def test_a_worker_that_starts_later_has_it_off_too(replicated, ask):
    running = replicated("--workers", "2")
    before = pids(running)
    ask(running, "replica", "replica2", "off")
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: before[0] not in pids(running))
    assert states(ask, running) == {"replica1": "on", "replica2": "off"}
    ask(running, "reload")
    assert states(ask, running) == {"replica1": "on", "replica2": "off"}
    for _ in range(8):
        set_key(running, KEY, b"v")
    assert stored(running.sets[2][0], KEY) == END


@workers
def test_an_upgrade_keeps_it_off(replicated, ask, workers):
    running = replicated("--workers", workers)
    set_key(running, KEY, b"old")
    eventually(lambda: stored(running.sets[1][0], KEY) == value(KEY, b"old") + END)
    ask(running, "replica", "replica1", "off")
    successor = order(running, "upgrade")["successor"]
    try:
        eventually(lambda: not running.is_running, what="the predecessor has ended")
        assert states(ask, running) == {"replica1": "off", "replica2": "on"}
        set_key(running, KEY, b"new")
        ask(running, "replica", "replica1", "on")
        eventually(lambda: order(running, "owed")["servers"] == [], what="the servers of the set are flushed")
        assert stored(running.sets[1][0], KEY) == END, "the value that was old"
    finally:
        os.kill(successor, signal.SIGTERM)
        eventually(lambda: not os.path.exists(f"/proc/{successor}"), what="the successor has ended")


def test_a_restart_with_a_journal_flushes_it(replicated, ask, proxy, tmp_path):
    running = replicated("--journal-dir", tmp_path / "journal")
    set_key(running, KEY, b"old")
    far = running.sets[1][0]
    eventually(lambda: stored(far, KEY) == value(KEY, b"old") + END)
    ask(running, "replica", "replica1", "off")
    set_key(running, KEY, b"new")
    running.stop()
    words = [word for servers in running.sets[1:] for word in ("--replica", ",".join(server.address for server in servers))]
    words += [word for server in running.servers for word in ("-s", server.address)]
    after = proxy(*words, "--journal-dir", tmp_path / "journal", "--control", running.control)
    after.control = running.control
    assert states(ask, after) == {"replica1": "on", "replica2": "on"}
    eventually(lambda: stored(far, KEY) == END, what="the value that was old is deleted")


def test_what_cannot_be_switched(replicated, ask):
    running = replicated()
    assert ask(running, "replica", "far", "off").refusal == "gmproxyctl: there is no replica 'far'; known: replica1, replica2\n"
    assert "there is no pool 'x'" in ask(running, "replica", "replica1", "off", "--pool", "x").refusal
    assert order(running, "replica", "replica1", "of") == {"error": "'of' is neither on nor off"}
    assert states(ask, running) == {"replica1": "on", "replica2": "on"}


def test_a_backup_is_no_replica(service, ask, memcached):
    running = service("-b", memcached().address)
    assert ask(running, "replica").refusal == "gmproxyctl: no pool has replicas\n"
    assert order(running, "replica", "backup", "off", "default") == {"error": "pool default has no replicas"}


POOLS = """\
alpha:
  listen: 127.0.0.1:%d
  replicas: [backup]
  write: all
  timeout: 300
  servers:
    - %s:1
backup:
  servers:
    - %s:1
"""


def test_a_replica_may_be_named_backup(proxy, memcached, ask, tmp_path):
    main, copy, port = memcached(), memcached(), free_port()
    (tmp_path / "pools.yml").write_text(POOLS % (port, main.address, copy.address))
    running = proxy("--pools", tmp_path / "pools.yml", "--control", tmp_path / "control", port=port)
    running.control = tmp_path / "control"
    assert ask(running, "replica").lines == [f"backup (pool alpha): on: {copy.address}"]
    set_key(running, KEY, b"v")
    copy.kill()
    with running.talk() as talk:
        assert talk.ask(storage(b"set", KEY, b"w")).startswith(b"SERVER_ERROR")
        ask(running, "replica", "backup", "off")
        talk.expect(storage(b"set", KEY, b"w"), b"STORED\r\n")
