"""Replicas and gutter: the Config of each set of servers, what a worker and a reload make of it, and the error for each mistake."""

import json

import pytest

from gmproxy.config import configuration, description, diff, roles
from gmproxy.errors import ConfigError
from gmproxy.placement.server_spec import parse_servers

POOLS = {
    "main": "listen: 127.0.0.1:22121\n  zone: a\n  replicas: [west, east]\n  gutter: spare\n  failover_ttl: 10\n  servers: [a:1:1, b:2:1]",
    "west": "zone: b\n  timeout: 400\n  servers: [c:3:1]",
    "east": "listen: 127.0.0.1:22122\n  distribution: modula\n  servers: [d:4:1, e:5:2]",
    "spare": "servers: [f:6:1]",
}


@pytest.fixture
def read(tmp_path):
    """Call it with {pool: text of its keys} for {name: Config} of the pools that are served."""

    def read(pools=POOLS, *arguments):
        path = tmp_path / "pools.yml"
        path.write_text(as_text(pools))
        return {config.name: config for config in configuration.parse(["-c", str(path), *arguments], {})[0]}

    return read


def as_text(pools):
    """A file of `pools`, with one server in each line, as nutcracker requires."""
    lines = [line for name, keys in pools.items() for line in (f"{name}:", f"  {keys}")]
    return (
        "\n".join(lines).replace("servers: [", "servers:\n    - ").replace(":1, ", ":1\n    - ").replace(":1]", ":1").replace(":2]", ":2")
    )


def mistake(read, pools, *arguments):
    with pytest.raises(ConfigError) as caught:
        read(pools, *arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value).rpartition("pools.yml")[2]


def in_one_file(tmp_path, text, *arguments):
    path = tmp_path / "gmproxy.conf"
    path.write_text(text)
    (config,) = configuration.parse(["-c", str(path), *arguments], {})[0]
    return config


# -- without a file of pools


def test_each_replica_is_the_pool_with_other_servers(tmp_path):
    text = "server = a:1, b:2\nreplica = c:3, d:4\nreplica = e:5, f:6\nwrite = all\nread = spread\ndistribution = ketama\ntimeout = 70\nport = 7\n"
    config = in_one_file(tmp_path, text)
    assert (config.write, config.read) == ("all", "spread")
    assert [(one.name, one.server) for one in config.replicas] == [
        ("replica1", parse_servers("c:3,d:4")),
        ("replica2", parse_servers("e:5,f:6")),
    ]
    for one in config.replicas:
        assert (one.distribution, one.timeout, one.port, one.unix_socket) == ("ketama", 0.07, 0, "")
        assert (one.replicas, one.gutter, one.replica, one.backup, one.write, one.read) == ((), None, [], [], "main", "first")


def test_replicas_on_the_command_line_and_in_the_environment(tmp_path):
    (config,), _ = configuration.parse(["-s", "a:1", "--replica", "b:2,c:3", "--replica=d:4"], {})
    assert config.replica == [parse_servers("b:2,c:3"), parse_servers("d:4")]
    (config,), _ = configuration.parse(["-s", "a:1"], {"GMPROXY_REPLICA": "b:2,c:3", "GMPROXY_WRITE": "majority", "GMPROXY_ZONE": "z"})
    assert (config.replica, config.write, config.zone) == ([parse_servers("b:2,c:3")], "majority", "z")
    config = in_one_file(tmp_path, "server = a:1\nreplica = b:2\n", "--replica", "c:3")
    assert config.replica == [parse_servers("c:3")]


def test_without_replicas_there_are_none():
    (config,), _ = configuration.parse(["-s", "a:1"], {})
    assert (config.replica, config.replicas, config.gutter) == ([], (), None)
    assert (config.write, config.read, config.zone, config.server_zone) == ("main", "first", "", "")


def test_what_is_printed_gives_the_same(tmp_path):
    config = in_one_file(tmp_path, "server = a:1\nreplica = c:3:2, d:4 name\nreplica = e:5\nwrite = all\nserver_zone = z\n")
    assert in_one_file(tmp_path, description.describe([config])) == config


# -- nutcracker.yml


def test_a_pool_with_a_role_has_its_own_settings(read):
    config = read()["main"]
    assert [(one.name, one.server_zone, one.timeout, one.distribution) for one in config.replicas] == [
        ("west", "b", 0.4, "ketama"),
        ("east", "", 1, "modula"),
    ]
    assert (config.server_zone, config.gutter.name, config.gutter.server) == ("a", "spare", parse_servers("f:6"))


def test_a_pool_without_listen_is_not_served(read):
    served = read()
    assert list(served) == ["main", "east"]
    assert (served["east"].port, served["main"].replicas[1].port) == (22122, 0)
    assert served["east"].replicas == ()


def test_a_pool_may_have_roles_in_several_pools(read):
    second = {"second": "listen: 127.0.0.1:22123\n  gutter: spare\n  failover_ttl: 10\n  servers: [g:7:1]"}
    served = read(POOLS | second)
    assert served["main"].gutter == served["second"].gutter


def test_what_is_printed_of_pools_gives_the_same(read, tmp_path):
    served = list(read().values())
    (tmp_path / "pools.yml").write_text(description.describe(served))
    again, _ = configuration.parse(["-c", str(tmp_path / "pools.yml")], {})
    assert again == served


def test_a_pool_with_roles_can_be_sent(read):
    config = read()["main"]
    assert configuration.from_plain(json.loads(json.dumps(configuration.as_plain(config)))) == config


def test_the_files_of_a_pool_with_a_role_are_watched(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("user:password\n")
    secret.chmod(0o600)
    path = tmp_path / "pools.yml"
    path.write_text(as_text(POOLS | {"spare": f"server_auth_file: {secret}\n  servers: [f:6:1]"}))
    source = configuration.ConfigSource(["-c", str(path)], {})
    source.load()
    assert str(secret) in source.files


def test_with_roles(read):
    assert [one.name for one in roles.with_roles(read()["main"])] == ["main", "west", "east", "spare"]


# -- reload


@pytest.mark.parametrize(
    "pools, arguments, changed",
    [
        ({"west": "zone: c\n  servers: [c:3:1]"}, (), {"main": ["replicas"]}),
        ({"spare": "servers: [g:7:1]"}, (), {"main": ["gutter"]}),
        ({"east": "listen: 127.0.0.1:22122\n  servers: [d:4:1]"}, (), {"main": ["replicas"], "east": ["server", "distribution"]}),
        ({"main": POOLS["main"].replace("west, east", "east, west")}, (), {"main": ["replicas"]}),
        ({"main": POOLS["main"].replace("replicas", "write: all\n  replicas")}, (), {"main": ["write"]}),
        ({}, ("-v",), {"main": ["verbose"], "east": ["verbose"]}),
        ({}, ("--zone", "z"), {"main": ["zone"], "east": ["zone"]}),
    ],
)
def test_a_reload_reports_pools_that_have_changed_in_their_role(read, pools, arguments, changed):
    before = list(read().values())
    plan = diff.compare(before, list(read(POOLS | pools, *arguments).values()))
    assert {name: sorted(names) for name, names in plan.changed.items()} == {name: sorted(names) for name, names in changed.items()}
    assert (plan.added, plan.removed, plan.refused) == ([], [], [])


def test_a_reload_reports_the_setting_of_a_replica():
    before, _ = configuration.parse(["-s", "a:1", "--replica", "b:2"], {})
    after, _ = configuration.parse(["-s", "a:1", "--replica", "c:3", "--timeout", "70"], {})
    assert diff.compare(before, after).changed == {"": ["timeout", "replica"]}


def test_settings_that_need_a_restart_stay_in_all_sets(read):
    before = list(read(POOLS, "--workers", "2").values())
    plan = diff.compare(before, list(read(POOLS, "--workers", "3").values()))
    assert plan.configs == before
    assert plan.refused == ["workers"]
