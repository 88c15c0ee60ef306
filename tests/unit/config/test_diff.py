"""What a new configuration changes, as a comparison without side effects."""

import json

import pytest

from gmproxy.config import configuration, diff
from gmproxy.placement.server_spec import parse_servers


def configs(*arguments, **variables):
    return configuration.parse(["-s", "a:1,b:2", *arguments], variables)[0]


def pools(tmp_path, **servers):
    """The Configs of a file of pools: name -> server."""
    file = tmp_path / "pools.yml"
    lines = (
        f"{name}:\n  listen: 127.0.0.1:{port}\n  servers:\n   - {server}\n" for port, (name, server) in enumerate(servers.items(), 2000)
    )
    file.write_text("".join(lines))
    return configuration.parse(["-c", str(file)], {})[0]


def test_nothing_changes():
    plan = diff.compare(configs(), configs())
    assert plan == diff.ReloadPlan(configs(), [], [], {}, [])


@pytest.mark.parametrize(
    "arguments, changed",
    [
        (("--timeout", "250"), ["timeout"]),
        (("-s", "c:3"), ["server"]),
        (("-n", "7", "-v"), ["max_connections", "verbose"]),
        (("-p", "12345"), ["port"]),
        (("--grace", "1"), ["grace"]),
    ],
)
def test_settings_of_a_pool_that_stays(arguments, changed):
    plan = diff.compare(configs(), configs(*arguments))
    assert plan.changed == {"": changed}
    assert (plan.added, plan.removed, plan.refused) == ([], [], [])
    assert plan.configs == configs(*arguments)


def test_what_needs_a_restart_stays_as_it_was():
    plan = diff.compare(configs("--workers", "2"), configs("--workers", "3", "-u", "nobody", "--timeout", "250"))
    assert plan.refused == ["user", "workers"]
    assert plan.changed == {"": ["timeout"]}
    assert (plan.configs[0].workers, plan.configs[0].user, plan.configs[0].timeout) == (2, "", 0.25)


def test_pools_come_and_go(tmp_path):
    plan = diff.compare(pools(tmp_path, one="a:1:1", two="b:2:1"), pools(tmp_path, one="a:1:1", three="c:3:1", four="d:4:1"))
    assert (plan.added, plan.removed, plan.changed) == (["three", "four"], ["two"], {})
    assert [config.name for config in plan.configs] == ["one", "three", "four"]


def test_from_one_to_many(tmp_path):
    plan = diff.compare(configs(), pools(tmp_path, one="a:1:1"))
    assert (plan.added, plan.removed) == (["one"], [""])


class Backend:
    def __init__(self, label):
        self.label = label


def matched(present, wanted):
    backends = [Backend(label) for label in present.split()]
    kept, left = diff.match_backends(backends, parse_servers(wanted))
    return [backend and backends.index(backend) for backend in kept], [backends.index(backend) for backend in left]


@pytest.mark.parametrize(
    "present, wanted, kept, left",
    [
        ("a:1 b:2", "a:1,b:2", [0, 1], []),
        ("a:1 b:2", "b:2,a:1", [1, 0], []),
        ("a:1 b:2", "b:2,c:3", [1, None], [0]),
        ("a:1 b:2", "a:1:7 with-a-name,b:2", [0, 1], []),
        ("a:1 a:1", "a:1,b:2,a:1", [0, None, 1], []),
        ("a:1 a:1", "a:1", [0], [1]),
        ("", "a:1", [None], []),
    ],
)
def test_servers_are_known_by_their_address(present, wanted, kept, left):
    assert matched(present, wanted) == (kept, left)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-s", "[::1]:2:3 name,unix:/s:2", "-b", "c", "-k", "-n", "0", "--workers", "auto", "--hosts", "a=1.2.3.4", "-I", "4m"),
        ("--replica", "c:1:2,d:2", "--replica", "unix:/s", "--write", "majority", "--read", "spread", "--zone", "z"),
    ],
)
def test_a_config_can_be_sent(arguments):
    (config,) = configs(*arguments)
    assert configuration.from_plain(json.loads(json.dumps(configuration.as_plain(config)))) == config
