"""gmproxyctl stats, hotkeys, slow, tail, and route of a running service."""

import json

from support.servers import HOST, free_port
from support.service import Load
from support.talk import Talk
from support.timing import eventually, milliseconds


def test_stats_are_those_of_the_protocol(service, ask):
    running = service()
    said = dict(line.split(" ", 1) for line in ask(running, "stats").lines)
    assert said["pid"] == str(running.pid) and said["backends"] == "2"
    assert set(said) == set(json.loads(ask(running, "stats", "--json").out))
    assert set(said) <= set(running.stats())  # the stats of a client also include those of the servers


def test_the_hottest_key_comes_first(service, ask):
    running = service()
    with running.talk() as talk:
        talk.expect(b"set k 0 0 5\r\nhello\r\n", b"STORED\r\n")
    with Load(running.port):
        said = ask(running, "hotkeys", "0.3")
        told = json.loads(ask(running, "hotkeys", "0.3", "--json").out)
    assert said.lines[0].split() == ["REQUESTS", "SHARE", "POOL", "COMMAND", "KEY"]
    assert said.lines[1].split()[-3:] == ["default", "get", "k"]
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


def test_the_servers(service, ask):
    running = service("-b", "10.0.0.9:11211 spare")
    lines = ask(running, "servers").lines
    assert lines[0].split() == ["SERVER", "POOL", "ROLE", "NAME"]
    assert [line.split() for line in lines[1:3]] == [[server.address, "default", "primary"] for server in running.servers]
    assert lines[3].split() == ["10.0.0.9:11211", "default", "backup", "spare"]
    assert json.loads(ask(running, "servers", "--pool", "default", "--json").out)[2]["label"] == "10.0.0.9:11211"
    assert "there is no pool 'other'; known: default" in ask(running, "servers", "--pool", "other").complaint


def test_one_pool_alone(proxy, memcached, ask, tmp_path):
    """The sampled keys and the slow requests of one of two pools."""
    server, ports = memcached(), [free_port(), free_port()]
    pools = tmp_path / "nutcracker.yml"
    pools.write_text(
        "".join(f"{name}:\n  listen: {HOST}:{port}\n  servers:\n    - {server.address}:1\n" for name, port in zip(("alpha", "beta"), ports))
    )
    running = proxy("--pools", pools, "--control", tmp_path / "control", port=ports[0])
    running.control = str(tmp_path / "control")
    with Talk(ports[0]) as talk:  # both pools have the same server
        talk.expect(b"set k 0 0 5\r\nhello\r\n", b"STORED\r\n")
    with Load(ports[0]), Load(ports[1]):
        everything = json.loads(ask(running, "hotkeys", "0.3", "--json").out)
        one = json.loads(ask(running, "hotkeys", "--pool", "beta", "0.3", "--json").out)
        requests = json.loads(ask(running, "tail", "--pool", "alpha", "5", "0.3", "--json").out)
    assert {key["pool"] for key in everything} == {"alpha", "beta"}
    assert [(key["pool"], key["share"]) for key in one] == [("beta", 1.0)]
    assert {request["pool"] for request in requests} == {"alpha"}
    assert ask(running, "slow", "--pool", "alpha").out == "no slow requests\n"
    for command in ("hotkeys", "slow", "tail", "stats"):
        assert "there is no pool 'gamma'; known: alpha, beta" in ask(running, command, "--pool", "gamma").refusal


def test_nothing_to_tell(service, ask):
    running = service()
    assert ask(running, "hotkeys", "0.1").out == "no requests in the sample\n"
    assert json.loads(ask(running, "tail", "1", "0.1", "--json").out) == []


def test_the_slow_requests(service, ask):
    """They are kept from the first `slow` command on."""
    running = service("--slow-threshold", "1", "--timeout", milliseconds(100))
    assert ask(running, "slow").out == "no slow requests\n"

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
    eventually(lambda: ask(running, "slow").out != "no slow requests\n")
    told = json.loads(ask(running, "slow", "--json").out)
    assert told[0]["key"] == "k" and told[0]["command"] == "get" and told[0]["seconds"] >= 0.001
    assert ask(running, "slow").lines[0].split() == ["DURATION", "ROLE", "COMMAND", "POOL", "SERVER", "TIME", "KEY"]
    assert ask(running, "slow", "--pool", "default").out == ask(running, "slow").out


def test_where_a_key_goes_at_this_moment(service, ask, gmproxyctl):
    running = service("--auto-eject-hosts")
    servers = [word for server in running.servers for word in ("-s", server.address)]
    offline = gmproxyctl("route", *servers, "a", "b").lines
    online = ask(running, "route", "a", "b").lines
    assert [line.split(" state=")[0] for line in online] == offline
    owner = offline[0].split("server=")[1]
    ask(running, "eject", owner)
    other = next(server.address for server in running.servers if server.address != owner)
    line, reads, *_ = eventually(lambda: next((lines for lines in [ask(running, "route", "a").lines] if "goes_to" in lines[0]), None))
    assert line == f"{offline[0]} state=ejected goes_to={other}"
    assert reads.split(maxsplit=3) == ["reads", "server", other, f"up; stand-in for {owner}, which is ejected"]
    assert json.loads(ask(running, "route", "a", "--json").out)[0]["goes_to"] == other


def test_the_steps_on_the_way_of_a_key(service, ask, memcached):
    """With the reason, if other servers than its own take part. Otherwise the output is as short as before."""
    backup = memcached().address
    running = service("-b", backup, "--backup-writes", "sync")
    first, *steps = eventually(lambda: next((lines for lines in [ask(running, "route", "a").lines] if "warming" in lines[0]), None))
    owner = first.split("server=")[1].split()[0]
    assert [line.split(maxsplit=3) for line in steps] == [
        ["reads", "server", owner, "warming"],
        ["reads", "fill", backup, f"looked up there on a miss; a hit fills {owner}"],
        ["reads", "failover", backup, "if the primary fails (up)"],
        ["changes", "fill", backup, f"looked up there before a write that depends on the stored value; a hit fills {owner}"],
        ["changes", "server", owner, "warming"],
        ["changes", "replicate", backup, "receives a copy; the client waits for it (up)"],
    ]


def test_reads_of_a_key_whose_server_is_ejected(service, ask, memcached):
    """There is no fill, which starts with a miss of that server. The state of the server shows why the reads go to the backup."""
    backup = memcached().address
    running = service("-b", backup)
    owner = ask(running, "route", "a").lines[0].split("server=")[1].split()[0]
    ask(running, "eject", owner)
    steps = eventually(lambda: next((lines[1:] for lines in [ask(running, "route", "a").lines] if "state=ejected" in lines[0]), None))
    assert [line.split()[1:4] for line in steps if line.split()[0] == "reads"] == [
        ["server", owner, "ejected"],
        ["failover", backup, "if"],
    ]


def test_options_of_placement_are_the_services_own(service, ask):
    running = service()
    assert (
        "--hash cannot be combined with --control: the running service has its own settings"
        in ask(running, "route", "a", "--hash", "md5").complaint
    )
