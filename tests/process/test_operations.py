"""Control commands to a running service, with one worker and with two."""

import os
import signal
import threading

import pytest
from support.keys import keys_by_server
from support.service import order
from support.talk import storage, value
from support.timing import TICK, eventually, join, milliseconds

KEYS = keys_by_server(2, 3)


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def service(request, memcached, proxy, tmp_path):
    servers = [memcached(), memcached()]
    process = proxy(
        "-s",
        f"{servers[0].address} first",
        "-s",
        servers[1].address,
        "--workers",
        request.param,
        "--control",
        tmp_path / "control",
        "--slow-threshold",
        milliseconds(2),
        "--timeout",
        milliseconds(100),
    )
    process.control = str(tmp_path / "control")
    process.servers = servers
    process.count = request.param
    eventually(lambda: len(order(process, "ping")["workers"]) == request.param, what="all workers serve")
    return process


def states(process):
    return [backend["state"] for backend in order(process, "report")["pools"]["default"]["backends"]]


def test_a_server_that_was_ejected_by_hand_is_left_alone_until_it_is_restored(service):
    key = KEYS[0][0]
    with service.talk() as talk:
        talk.expect(storage(b"set", key, b"hello"), b"STORED\r\n")
        assert order(service, "eject", "first") == {"ejected": [service.servers[0].address]}
        eventually(lambda: states(service) == ["ejected", "up"], what="the server is ejected")
        talk.expect(b"get %b\r\n" % key, b"END\r\n")
        talk.expect(storage(b"set", key, b"there"), b"SERVER_ERROR ejected %b\r\n" % service.servers[0].address.encode())
        probes = service.servers[0].stats()["total_connections"]
        order(service, "reload")
        assert states(service) == ["ejected", "up"]
        assert service.servers[0].stats()["total_connections"] == probes + 1, "our own, and no probe"
        assert order(service, "restore", service.servers[0].address) == {"restored": [service.servers[0].address]}
        eventually(lambda: states(service) == ["up", "up"], what="the server is restored")
        talk.expect(b"get %b\r\n" % key, b"END\r\n")  # it missed a write: the stale value is deleted
        talk.in_step()


def test_a_worker_that_begins_later_knows_what_an_operator_ejected(service):
    if service.count == 1:
        pytest.skip("there is nobody to begin later")
    order(service, "eject", "first")
    before = order(service, "pids")["workers"]
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(set(order(service, "report")["workers"]) - set(before)) == 1, what="another worker serves")

    def ejected_twice():
        with service.talk() as talk:
            talk.in_step()
        return service.log().count("ejecting by hand") == 3  # two at first, then that of the new worker

    eventually(ejected_twice, what="it leaves the server alone, too")


def test_an_unknown_server_is_an_error(service):
    assert order(service, "eject", "nobody:1") == {"error": "there is no server 'nobody:1'"}
    assert states(service) == ["up", "up"]


def test_slow_requests_are_told_and_logged(service):
    order(service, "slow")  # from now on requests are measured
    server = service.servers[1]
    with service.talk() as talk:
        talk.expect(storage(b"set", KEYS[1][0], b"hello"), b"STORED\r\n")
        server.pause()
        talk.send(b"get %b\r\n" % KEYS[1][0])
        threading.Timer(4 * TICK, server.resume).start()
        talk.expect_answer(value(KEYS[1][0], b"hello") + b"END\r\n")
    (slow,) = order(service, "slow")["slow"]
    assert (slow["key"], slow["command"], slow["backend"], slow["stage"]) == (KEYS[1][0].decode(), "get", server.address, "primary")
    assert slow["seconds"] >= 2 * TICK
    eventually(lambda: f"slow requests server={server.address} requests=1" in service.log(), what="the log line")


def test_hot_keys_are_found(service):
    told = {}
    asking = threading.Thread(target=lambda: told.update(order(service, "hotkeys", "1")))
    asking.start()
    with service.talk() as talk:
        while asking.is_alive():
            for key in (KEYS[0][0], KEYS[0][0], KEYS[0][0], KEYS[1][0]):
                talk.expect(b"get %b\r\n" % key, b"END\r\n")
    join(asking)
    assert [(one["key"], one["command"]) for one in told["keys"]] == [(KEYS[0][0].decode(), "get"), (KEYS[1][0].decode(), "get")]
    assert told["keys"][0]["share"] > 0.5
    assert order(service, "hotkeys", "0.1")["keys"] == [], "what is over is forgotten"


def test_two_cannot_sample_at_once(service):
    told = []
    asking = [
        threading.Thread(target=lambda words=words: told.append(order(service, *words))) for words in (("tail", "5", "1"), ("hotkeys", "1"))
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        join(thread)
    first, second = told  # the service refuses the second command at once
    assert first == {"error": "another hotkeys or tail is running: try again when it has ended"}
    assert second["seconds"] == 1 and ("requests" in second or "keys" in second)


@pytest.mark.parametrize("words", [("hotkeys", "x"), ("hotkeys", "1000"), ("tail", "0"), ("tail", "5", "nan")])
def test_what_cannot_be_sampled(service, words):
    assert "is not a number from" in order(service, *words)["error"]


def test_where_a_key_goes(service):
    (first, second) = order(service, "route", KEYS[0][0].decode(), KEYS[1][0].decode())["pools"]["default"]
    assert [first["server"], second["server"]] == [f"{service.servers[0].address} first", service.servers[1].address]
    assert first["goes_to"] == first["server"] and first["backup"] is None and first["state"] == "up"


def test_the_log_level(service):
    assert order(service, "log-level", "debug") == {"level": "debug"}
    service.talk().close()
    eventually(lambda: "DEBUG client connected" in service.log(), what="a debug line")
    assert order(service, "log-level", "loud")["error"].startswith("there is no log level 'loud'")
    assert order(service, "log-level") == {"level": "debug"}


def test_drain_lets_clients_go_and_a_reload_lets_them_in(service):
    with service.talk() as talk:
        talk.in_step()
        assert order(service, "drain")["clients"] == 1
        talk.in_step()
        assert talk.closed()
    with pytest.raises(ConnectionRefusedError):
        service.talk()
    assert order(service, "report")["draining"] is True
    order(service, "reload")
    with service.talk() as talk:
        talk.in_step()
    assert order(service, "report")["draining"] is False


def test_a_client_turned_away_is_logged(service, proxy):
    small = proxy("-s", service.servers[0].address, "-n", "1")
    with small.talk() as talk:
        talk.in_step()
        with small.talk() as other:
            assert other.read_line() == b"SERVER_ERROR too many connections\r\n"
    assert "WARNING client turned away client=127.0.0.1:" in small.log()
