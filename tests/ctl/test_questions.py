"""gmproxyctl stats, hotkeys, slow, tail, and route of a running service."""

import json

from support.service import Load
from support.timing import eventually, milliseconds


def test_stats_are_those_of_the_protocol(service, ask):
    running = service()
    said = dict(line.split(" ", 1) for line in ask(running, "stats").lines)
    assert said["pid"] == str(running.pid) and said["backends"] == "2"
    assert set(said) == set(json.loads(ask(running, "stats", "--json").out))
    assert set(said) <= set(running.stats())  # a client is also told what the servers hold


def test_the_hottest_key_comes_first(service, ask):
    running = service()
    with running.talk() as talk:
        talk.expect(b"set k 0 0 5\r\nhello\r\n", b"STORED\r\n")
    with Load(running.port):
        said = ask(running, "hotkeys", "0.3")
        told = json.loads(ask(running, "hotkeys", "0.3", "--json").out)
    assert said.lines[0].split() == ["REQUESTS", "PART", "COMMAND", "KEY"]
    assert said.lines[1].split()[1:] == ["100.0", "%", "get", "k"] or said.lines[1].split()[-2:] == ["get", "k"]
    assert told[0]["key"] == "k" and told[0]["count"] > 0


def test_a_sample_of_the_requests(service, ask):
    running = service()
    with running.talk() as talk:
        talk.expect(b"set k 0 0 5\r\nhello\r\n", b"STORED\r\n")
    with Load(running.port):
        said = ask(running, "tail", "3", "0.3")
        told = json.loads(ask(running, "tail", "--json", "2", "0.3").out)
    assert len(said.lines) == 1 + 3 and all(line.split()[2] == "get" and line.split()[-1] == "k" for line in said.lines[1:])
    assert [request["key"] for request in told] == ["k", "k"]


def test_nothing_to_tell(service, ask):
    running = service()
    assert ask(running, "hotkeys", "0.1").out == "none\n"
    assert json.loads(ask(running, "tail", "1", "0.1", "--json").out) == []


def test_the_slow_requests(service, ask):
    """They are kept from when somebody first asks."""
    running = service("--slow-threshold", "1", "--timeout", milliseconds(100))
    assert ask(running, "slow").out == "none\n"

    def report():
        return json.loads(ask(running, "status", "--json").out)

    def in_flight(told):
        return any(backend["in_flight"] and not backend["unsent"] for backend in told["pools"]["default"]["backends"])

    for server in running.servers:
        server.pause()
    with running.talk() as talk:
        talk.send(b"get k\r\n")
        asked = eventually(lambda: in_flight(told := report()) and told["time"], what="the request on its way")
        eventually(lambda: report()["time"] > asked + 0.01, what="ten times the threshold")
        for server in running.servers:
            server.resume()
        talk.expect_answer(b"END\r\n")
    eventually(lambda: ask(running, "slow").out != "none\n")
    told = json.loads(ask(running, "slow", "--json").out)
    assert told[0]["key"] == "k" and told[0]["command"] == "get" and told[0]["seconds"] >= 0.001
    assert ask(running, "slow").lines[0].split() == ["TOOK", "STAGE", "COMMAND", "SERVER", "AT", "KEY"]


def test_where_a_key_goes_at_this_moment(service, ask, gmproxyctl):
    running = service("--auto-eject-hosts")
    servers = [word for server in running.servers for word in ("-s", server.address)]
    offline = gmproxyctl("route", *servers, "a", "b").lines
    online = ask(running, "route", "a", "b").lines
    assert [line.split(" state=")[0] for line in online] == offline
    owner = offline[0].split("server=")[1]
    ask(running, "eject", owner)
    other = next(server.address for server in running.servers if server.address != owner)
    line = eventually(lambda: next((line for line in ask(running, "route", "a").lines if "goes_to" in line), None))
    assert line == f"{offline[0]} state=ejected goes_to={other}"
    assert json.loads(ask(running, "route", "a", "--json").out)[0]["goes_to"] == other


def test_options_of_placement_are_the_services_own(service, ask):
    running = service()
    assert "--hash beside --control: the running service has its own" in ask(running, "route", "a", "--hash", "md5").complaint
