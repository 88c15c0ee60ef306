"""gmproxyctl verify: what differs between a primary and its backup is found, and deleted on the backup."""

import json
import re
import threading

import pytest
from support.service import order
from support.talk import storage, value
from support.timing import eventually, join, milliseconds

KEYS = [b"key%d" % number for number in range(40)]
WRONG, WRONG_FLAGS, ONLY_ON_PRIMARY, ONLY_ON_BACKUP = KEYS[:4]


@pytest.fixture
def with_backup(service, memcached):
    """Call it with options for a service with two primaries and a backup that has a copy of all KEYS."""

    def start(*options):
        backup = memcached()
        running = service("-b", backup.address, *options)
        running.backup = backup
        with running.talk() as talk, backup.talk() as direct:
            for number, key in enumerate(KEYS):
                talk.expect(storage(b"set", key, b"value%d" % number, flags=number), b"STORED\r\n")
            count = b"get %b\r\n" % b" ".join(KEYS)
            eventually(lambda: direct.ask(count, b"END\r\n").count(b"VALUE") == len(KEYS))
        return running

    return start


def damage(running):
    """Change the backup, and one primary, behind the back of the proxy."""
    with running.backup.talk() as talk:
        talk.expect(storage(b"set", WRONG, b"wrong"), b"STORED\r\n")
        talk.expect(storage(b"set", WRONG_FLAGS, b"value1", flags=7), b"STORED\r\n")
        talk.expect(b"delete %b\r\n" % ONLY_ON_PRIMARY, b"DELETED\r\n")
    for server in running.servers:
        with server.talk() as talk:
            talk.ask(b"delete %b\r\n" % ONLY_ON_BACKUP)


def verified(ask, running, *words):
    """(exit status, the counts of the pool)"""
    said = ask(running, "verify", "--json", *words)
    response = json.loads(said.out)
    assert response["complete"]
    return said.status, response["pools"]["default"]


def counted_eventually(ask, running, sample, status, counts, *words):
    """Wait for these counts that are not 0, and return what the pool counted. memcached leaves an item out of a listing while it moves it."""

    def counted():
        found_status, found = verified(ask, running, "--sample", sample, *words)
        numbers = {name: count for name, count in found.items() if count and isinstance(count, int)}
        return found if (found_status, numbers) == (status, counts) else None

    return eventually(counted)


@pytest.mark.parametrize("sample, workers", [("1000", "1"), ("0", "2")])
def test_what_differs_is_deleted_on_the_backup(with_backup, ask, sample, workers):
    running = with_backup("--workers", workers)
    counted_eventually(ask, running, sample, 0, {"compared": 40, "equal": 40})
    damage(running)
    wanted = {"compared": 38, "equal": 36, "different": 2, "only_on_primary": 1, "only_on_backup": 1}
    keys = counted_eventually(ask, running, sample, 1, wanted, "--dry-run")["keys"]
    assert sorted(each["key"] for each in keys) == sorted(key.decode() for key in (WRONG, WRONG_FLAGS))
    assert {each["backup"] for each in keys} == {running.backup.address}
    with running.backup.talk() as direct:
        direct.expect(b"get %b\r\n" % WRONG, value(WRONG, b"wrong") + b"END\r\n")
        eventually(lambda: ask(running, "verify", "--sample", sample) and missing(direct))
    assert re.search(r"WARNING primary and backup compared compared=\d+ different=[12] repaired=[12] ", running.log())
    counted_eventually(ask, running, sample, 0, {"compared": 36, "equal": 36, "only_on_primary": 3, "only_on_backup": 1})
    pool = order(running, "report")["pools"]["default"]
    assert pool["verify_compared"] >= 40 + 38 + 36 and pool["verify_different"] >= 4


def missing(direct):
    """True if the backup has none of the keys that differed."""
    return direct.ask(b"get %b %b\r\n" % (WRONG, WRONG_FLAGS), b"END\r\n") == b"END\r\n"


def test_the_lines_that_are_printed(with_backup, ask):
    running = with_backup()
    damage(running)

    def found():
        said = ask(running, "verify", "--dry-run")
        assert said.status == 1
        return said.lines if f"  different: {WRONG.decode()} on " in said.out and "2 different" in said.lines[0] else None

    first, second, *rest = eventually(found)
    assert re.fullmatch(r"pool default: 3[78] keys compared: 3[56] equal, 2 different, 0 changed meanwhile", first)
    assert re.fullmatch(r"  only on the primary: [01], only on the backup: [01], pending invalidations: 0", second)
    assert len(rest) == 2 and all(re.fullmatch(r"  different: key\d on 127.0.0.1:\d+ and " + running.backup.address, line) for line in rest)


def test_a_sample_has_some_of_the_keys(with_backup, ask):
    running = with_backup()
    status, counts = verified(ask, running, "--sample", "5")
    assert status == 0 and 5 <= counts["compared"] <= 15


def test_writes_in_progress_are_no_difference(with_backup, ask):
    running = with_backup()
    over = threading.Event()

    def write():
        with running.talk() as talk:
            number = 0
            while not over.is_set():
                number += 1
                talk.expect(b"".join(storage(b"set", key, b"%d" % number) for key in KEYS), b"STORED\r\n" * len(KEYS))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            status, counts = verified(ask, running)
            assert (status, counts["different"], counts["skipped"]) == (0, 0, [])
    finally:
        over.set()
        for thread in threads:
            join(thread)


def test_a_server_that_does_not_reply(with_backup, ask):
    """Its listing is waited for until the time is over. Meanwhile there is no other comparison."""
    running = with_backup("--timeout", milliseconds(4), "--server-failure-limit", "1000")
    running.servers[0].pause()
    said = []

    def verify_until_refused():
        while not any("error" in response for response in said):
            said.append(order(running, "verify", "0", "report", "1"))

    threads = [threading.Thread(target=verify_until_refused) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        join(thread)
    running.servers[0].resume()
    assert [response for response in said if "error" in response] == [{"error": "another verify is running: try again when it has ended"}]
    assert not any(response["complete"] for response in said if "error" not in response)


def test_ejected_servers_are_not_compared(with_backup, ask):
    running = with_backup()
    ask(running, "eject", running.backup.address)
    said = ask(running, "verify")
    assert said.status == 1
    assert f"  not compared: {running.backup.address}: ejected" in said.lines


def test_pending_invalidations_are_not_compared(with_backup, ask):
    running = with_backup("--timeout", milliseconds(4), "--server-failure-limit", "1000", "--backup-writes", "sync")
    ask(running, "eject", running.servers[0].address)
    with running.talk() as talk:
        for key in KEYS:
            talk.expect(storage(b"set", key, b"newer"), b"STORED\r\n")
    said = ask(running, "verify", "--json")
    counts = json.loads(said.out)["pools"]["default"]
    assert counts["different"] == 0 and counts["pending"] > 0 and said.status == 1


def test_what_cannot_be_compared(service, ask, memcached):
    running = service()
    assert ask(running, "verify").refusal == "gmproxyctl: no pool has backups or replicas\n"
    assert ask(running, "verify", "--pool", "default").refusal == "gmproxyctl: pool default has no backups or replicas\n"
    assert "there is no pool 'x'" in ask(running, "verify", "--pool", "x").refusal
    assert "arguments of verify" in order(running, "verify", "-1")["error"]


@pytest.mark.parametrize("option, value", [("backup-writes", "off"), ("backend-protocol", "binary")])
def test_pools_whose_servers_cannot_be_compared(service, ask, memcached, option, value):
    running = service("-b", memcached().address, f"--{option}", value)
    assert f"({option.replace('-', '_')} = {value})" in ask(running, "verify").refusal


def test_servers_that_do_not_list_their_keys(service, ask, memcached):
    backup = memcached("-X")
    running = service("-b", backup.address)
    said = ask(running, "verify")
    assert said.status == 1
    assert f"  not compared: {backup.address}: not listed: ERROR metadump not allowed" in said.lines


def test_each_replica_set_is_compared_with_the_main_one(replicated, ask):
    running = replicated("--write", "all")
    with running.talk() as talk:
        for key in KEYS:
            talk.expect(storage(b"set", key, b"v"), b"STORED\r\n")

    def sets():
        """The counts that are not 0 of each set, once nothing moves."""
        response = json.loads(ask(running, "verify", "--json").out)["pools"]["default"]
        return {one["set"]: {name: count for name, count in one.items() if count and isinstance(count, int)} for one in response["sets"]}

    eventually(lambda: sets() == {name: {"compared": 40, "equal": 40} for name in ("replica1", "replica2")})
    for server in running.sets[2]:
        with server.talk() as talk:
            talk.ask(b"delete %b\r\n" % ONLY_ON_PRIMARY)
            if talk.ask(b"get %b\r\n" % WRONG, b"END\r\n") != b"END\r\n":
                talk.expect(storage(b"set", WRONG, b"wrong"), b"STORED\r\n")
                bad = server
    said = eventually(lambda: [said for said in [ask(running, "verify")] if "1 different" in said.out])[0]
    assert said.status == 1
    assert re.match(r"pool default, replica replica1: \d+ keys compared: \d+ equal, 0 different, ", said.lines[0])
    assert re.match(
        r"pool default, replica replica2: \d+ keys compared: \d+ equal, 1 different \(1 deleted on the replica\), ", said.lines[2]
    )
    assert re.match(r"  only on the primary: [01], only on the replica: 0, ", said.lines[3])
    assert re.fullmatch(r"  different: " + WRONG.decode() + r" on 127.0.0.1:\d+ and " + bad.address, said.lines[4])
    assert re.search(r"WARNING primary and backup compared compared=\d+ different=1 repaired=1 .* set=replica2", running.log())
    eventually(lambda: sets()["replica2"] == {"compared": 38, "equal": 38, "only_on_primary": 2})
    ask(running, "replica", "replica2", "off")
    said = ask(running, "verify")
    assert said.status == 1 and len(said.lines) == 4
    assert {line for line in said.lines if "not compared" in line} == {
        f"  not compared: {one.address}: switched off" for one in running.sets[2]
    }
