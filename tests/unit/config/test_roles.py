"""Replicas and gutter: the Config of each set of servers, what a worker and a reload make of it, and the error for each mistake."""

import json

import pytest

from gmproxy.config import configuration, description, diff, roles
from gmproxy.config.settings import SETTINGS, option_name
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


# -- mistakes


@pytest.mark.parametrize(
    "text, arguments, error",
    [
        (
            "server = a:1\nreplica = b:2\nreplica = c:3, a:1\n",
            (),
            ":3: replica: a:1 of replica2 is in the main set, too: a set has its own servers",
        ),
        (
            "server = a:1\nreplica = b:2\n\nreplica = b:2\n",
            (),
            ":4: replica: b:2 of replica2 is in replica1, too: a set has its own servers",
        ),
        ("server = a:1\nreplica = b:2, b:2\n", (), ":2: replica b:2 is also on line 2"),
        ("server = a:1\nreplica = b:x\n", (), ":2: replica: bad server 'b:x'"),
        ("server = a:1\nbackup = b:2\nreplica = c:3\n", (), ":3: replica cannot be combined with backup"),
        ("server = a:1\nreplica = c:3\nauto_eject_hosts = yes\n", (), ":2: replica cannot be combined with auto_eject_hosts"),
        ("server = a:1\n\nwrite = all\n", (), ":3: write = all requires at least one replica"),
        ("server = a:1\nread = spread\n", (), ":2: read = spread requires at least one replica"),
        ("server = a:1\nreplica = b:2\nread = near\n", (), ":3: read = near requires the zone of the proxy: set zone (--zone NAME)"),
        ("server = a:1\nwrite = both\n", (), ":2: write: 'both' is unknown: it must be one of main, majority, all"),
        ("server = a:1\nzone = us east\n", (), ":2: zone: 'us east' is not the name of a zone"),
        (
            "server = a:1\nreplica = b:2\nreplica = c:3:0.5, d:4\ndistribution = modula\n",
            (),
            ":3: replica: weight 0.5 of server 'c:3' must be a whole number with this distribution",
        ),
        # the file does not have the value that is wrong
        ("server = a:1\nreplica = b:2\n", ("--read", "near"), " read = near requires the zone of the proxy"),
        ("server = a:1\nreplica = b:2\n", ("--replica", "a:1"), " replica: a:1 of replica1 is in the main set, too"),
    ],
)
def test_mistakes_in_one_file(tmp_path, text, arguments, error):
    with pytest.raises(ConfigError) as caught:
        in_one_file(tmp_path, text, *arguments)
    said = str(caught.value)
    place = f"{tmp_path}/gmproxy.conf" if error.startswith(":") else ""
    assert said.startswith(place + error.lstrip())
    assert "\n" not in said


def test_more_replicas_than_a_cas_number_can_tell_apart():
    arguments = [word for number in range(roles.MAX_REPLICAS) for word in ("--replica", f"b{number}")]
    (config,), _ = configuration.parse(["-s", "a", *arguments], {})
    assert len(config.replicas) == roles.MAX_REPLICAS
    with pytest.raises(ConfigError, match=f"^{roles.MAX_REPLICAS + 1} replicas: the maximum is {roles.MAX_REPLICAS}$"):
        configuration.parse(["-s", "a", *arguments, "--replica", "c"], {})


@pytest.mark.parametrize(
    "changes, error",
    [
        ({"main": "replicas: [wset, east]"}, ":2: pool main: replicas: there is no pool 'wset' in this file: did you mean west?"),
        ({"main": "replicas: [west, west]"}, ":2: pool main: replicas: west is listed twice"),
        ({"main": "replicas: [main]"}, ":2: pool main: replicas: main is this pool itself"),
        ({"main": "replicas: []"}, ":2: pool main: replicas: expected a list of pools, such as [west, east]"),
        ({"main": "replicas: west"}, ":2: pool main: replicas: expected a list of pools"),
        ({"main": "replicas: [[west]]"}, ":2: pool main: expected a single value"),
        ({"main": "replicas:\n    - west\n    - nobody"}, ":4: pool main: replicas: there is no pool 'nobody' in this file"),
        ({"main": "gutter: [spare]\n  failover_ttl: 10"}, ":2: pool main: expected a single value"),
        ({"main": "gutter: spare"}, ":2: pool main: gutter requires failover_ttl"),
        ({"main": "gutter: spare\n  failover_ttl: 0"}, ":2: pool main: gutter requires failover_ttl"),
        (
            {"main": "gutter: spare\n  failover_ttl: 9\n  auto_eject_hosts: true"},
            ":2: pool main: gutter cannot be combined with auto_eject_hosts",
        ),
        ({"main": "auto_eject_hosts: true\n  replicas: [west]"}, ":3: pool main: replicas cannot be combined with auto_eject_hosts"),
        ({"main": "replicas: [west]\n  backups:\n    - z:1:1"}, ":2: pool main: replicas cannot be combined with backups"),
        ({"main": "write: all"}, ":2: pool main: write = all requires at least one replica"),
        ({"main": "replicas: [west]\n  read: near"}, ":3: pool main: read = near requires the zone of the proxy: set zone (--zone NAME)"),
        ({"main": "replicas: [west, east]", "east": "servers: [a:1:1]"}, ":2: pool main: replicas: a:1 of east is in the main set, too"),
        ({"main": "replicas: [west, east]", "east": "servers: [c:3:1]"}, ":2: pool main: replicas: c:3 of east is in west, too"),
        ({"main": "replicas: [west]\n  gutter: west\n  failover_ttl: 9"}, ":3: pool main: gutter: c:3 of west is in west, too"),
        (
            {"main": "replicas: [west]", "west": "gutter: spare\n  servers: [c:3:1]"},
            ":2: pool main: replicas: pool west has gutter, which a pool",
        ),
        (
            {"main": "replicas: [west]", "west": "backups:\n    - z:1:1\n  servers: [c:3:1]"},
            ":2: pool main: replicas: pool west has backups, which",
        ),
        (
            {"main": "replicas: [west]", "west": "auto_eject_hosts: true\n  servers: [c:3:1]"},
            ":2: pool main: replicas: pool west has auto_eject_hosts",
        ),
        (
            {"main": "replicas: [west]", "west": "write: all\n  servers: [c:3:1]"},
            ":8: pool west: write = all requires at least one replica",
        ),
        (
            {"main": "replicas: [west]", "west": "redis: true\n  servers: [c:3:1]"},
            ":8: pool west: redis: gmproxy serves memcached pools only",
        ),
        ({"main": "replica: west"}, ":2: pool main: there is no key 'replica': did you mean replicas?"),
        ({"main": "server_zone: a"}, ":2: pool main: there is no key 'server_zone'"),
        ({"main": "on_miss: always", "west": "servers: [c:3:1]"}, ":8: pool west: listen is missing"),
    ],
)
def test_mistakes_in_a_file_of_pools(read, changes, error):
    others = {"west": "c:3:1", "east": "d:4:1", "spare": "f:6:1"}.items()
    pools = {"main": ""} | {name: f"listen: 127.0.0.1:{port}\n  servers: [{server}]" for port, (name, server) in enumerate(others, 22122)}
    pools |= changes | {"main": changes["main"] + "\n  listen: 127.0.0.1:22121\n  servers: [a:1:1, b:2:1]"}
    assert mistake(read, pools).startswith(error)


def test_a_redis_pool_has_no_role(read):
    pools = {"main": POOLS["main"], "west": "redis: true", "east": POOLS["east"], "spare": POOLS["spare"]}
    assert mistake(read, pools, "--redis-pools", "skip").startswith(":4: pool main: replicas: west is a redis pool")


@pytest.mark.parametrize("name", ["replica", "write", "read", "server_zone"])
def test_the_settings_of_a_pool_are_set_in_the_file_of_pools(read, name):
    value = {"replica": "z:1", "write": "all", "read": "spread", "server_zone": "z"}[name]
    with pytest.raises(ConfigError, match=f"^{name} cannot be combined with pools"):
        read(POOLS, option_name(SETTINGS[name]), value)


def test_a_proxy_in_a_zone_without_servers_is_warned_of(read, tmp_path):
    (tmp_path / "pools.yml").write_text(as_text(POOLS | {"main": POOLS["main"].replace("gutter", "read: near\n  gutter")}))
    warnings = {}
    for zone in "abc":
        source = configuration.ConfigSource(["-c", str(tmp_path / "pools.yml"), "--zone", zone], {})
        source.load()
        warnings[zone] = source.warnings
    assert warnings == {
        "a": [],
        "b": [],
        "c": ["pool main: read = near: no set of servers is in the zone c of the proxy: reads use the first set"],
    }
