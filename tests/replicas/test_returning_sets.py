"""A server of a set stops, or comes back empty: what it missed is not read there, and it is filled again."""

import pytest
from faults.scenario import SOON_WARM
from faults.stage import Stage
from faults.test_returning import COUNT, KEYS, Away, Hang, change, expect_none, held_by, keys_with, read_all, set_all
from support.talk import storage
from support.timing import eventually

WRITES = {
    "set": (lambda key: storage(b"set", key, b"new"), b"STORED\r\n"),
    "delete": (lambda key: b"delete %b\r\n" % key, b"DELETED\r\n"),
    "append": (lambda key: storage(b"append", key, b"er"), b"STORED\r\n"),
    "replace": (lambda key: storage(b"replace", key, b"new"), b"STORED\r\n"),
    "touch away": (lambda key: b"touch %b -1\r\n" % key, b"TOUCHED\r\n"),
}


@pytest.fixture(scope="module", params=["first", pytest.param("spread", marks=pytest.mark.long)])
def stage(request):
    with Stage(1, 0, options=("--read", request.param, "--write", "majority", *SOON_WARM), replicas=2) as stage:
        yield stage
        stage.proxy.check_log()


def all_have(stage, data):
    return all(len(keys_with(held_by(node), data)) == COUNT for node in stage.nodes)


@pytest.mark.parametrize("which", [0, 1], ids=["main", "replica"])
@pytest.mark.parametrize("write", ["set", *(pytest.param(write, marks=pytest.mark.long) for write in WRITES if write != "set")])
def test_nothing_old_is_read_of_a_server_that_stopped(stage, which, write):
    request, reply = WRITES[write]
    node = stage.nodes[which]
    set_all(stage, b"old")
    eventually(lambda: all_have(stage, b"old"), what="all sets have the old values")
    with Away(Hang, stage, node):
        change(stage, reply, *(request(key) for key in KEYS))
        expect_none(read_all(stage), b"old", "while it is stopped")
    for _ in range(3):  # with read = spread, each set is read
        expect_none(read_all(stage), b"old", "through the proxy")
    eventually(lambda: not keys_with(held_by(node), b"old"), what="the server itself has nothing that is old")


def test_nothing_old_is_read_when_two_servers_stopped(stage):
    set_all(stage, b"old")
    eventually(lambda: all_have(stage, b"old"), what="all sets have the old values")
    first, second, _ = stage.nodes
    for node in (first, second):
        node.server.pause()
    with stage.proxy.talk() as talk:
        for key in KEYS:  # majority: too few servers acknowledge it
            talk.send(storage(b"set", key, b"new"))
        assert all(talk.read_line().startswith(b"SERVER_ERROR ") for _ in KEYS)
    for node in (first, second):
        node.server.resume()
    stage.wait_until_whole()
    set_all(stage, b"newer")
    for _ in range(3):
        assert read_all(stage) == dict.fromkeys(KEYS, b"newer")


def test_main_server_that_comes_back_empty_is_filled_by_misses(stage):
    node = stage.nodes[0]
    set_all(stage, b"old")
    eventually(lambda: all_have(stage, b"old"), what="all sets have the values")
    node.server.restart()
    stage.wait_until_whole()
    for _ in range(3):
        assert read_all(stage) == dict.fromkeys(KEYS, b"old")

    def is_filled():
        with stage.proxy.talk() as talk:  # gets are for the main set alone
            talk.ask(b"gets %b\r\n" % b" ".join(KEYS), b"END\r\n")
        return len(keys_with(held_by(node), b"old")) == COUNT

    eventually(is_filled, what="it has all values again")


def test_replica_that_comes_back_empty_is_filled_while_it_acts_as_the_main_one(stage):
    main, replica, _ = stage.nodes
    set_all(stage, b"old")
    eventually(lambda: all_have(stage, b"old"), what="all sets have the values")
    replica.server.restart()
    eventually(lambda: "backend warming server=" + replica.address in stage.proxy.log(), what="it is known to be new")
    with Away(Hang, stage, main):
        assert read_all(stage) == dict.fromkeys(KEYS, b"old")
        eventually(lambda: len(keys_with(held_by(replica), b"old")) == COUNT, what="it has all values again")
