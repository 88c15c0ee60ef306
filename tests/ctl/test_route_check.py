"""gmproxyctl route --check FILE: is the placement that which was observed?"""

import json
from base64 import b64encode

import pytest

from gmproxy.placement.builder import build
from gmproxy.placement.server_spec import parse_servers

SERVERS = ["10.0.0.1:11211", "10.0.0.2:11211", "10.0.0.3:11212"]
KEYS = [f"user:{number}" for number in range(60)]


def owners(keys=KEYS, servers=SERVERS, **options):
    locate = build(parse_servers(",".join(servers)), **options).locate
    return {key: locate(key.encode()) for key in keys}


@pytest.fixture
def check(route, tmp_path):
    """Call it with facts and options. Returns what `route --check` printed about a file with these facts."""

    def run(facts, *options):
        path = tmp_path / "facts.json"
        path.write_text(json.dumps(facts))
        return route("--check", path, *options)

    return run


def facts(**more):
    return {"servers": SERVERS, "keys": owners()} | more


# -- all match


def test_all_match(check):
    assert check(facts()) == (0, "60 of 60 match\n", "")


def test_under_the_options_given(check):
    ketama = facts(keys=owners(distribution="ketama", hash="md5"))
    assert check(ketama, "--distribution", "ketama", "--hash", "md5").status == 0
    assert check(ketama).status == 1


def test_keys_that_are_no_text(check):
    keys = [b"\xff", b"caf\xe9", "café".encode()]
    locate = build(parse_servers(",".join(SERVERS))).locate
    coded = {b64encode(key).decode(): locate(key) for key in keys}
    assert check(facts(keys_b64=coded)) == (0, "63 of 63 match\n", "")
    assert check({"servers": SERVERS, "keys_b64": coded}) == (0, "3 of 3 match\n", "")


def test_weights(check):
    heavy = [f"{server}:{weight}" for server, weight in zip(SERVERS, (3, 1, 2))]
    assert check(facts(weights=[3, 1, 2], keys=owners(servers=heavy))).status == 0


def test_fractional_weights(check):
    heavy = [f"{server}:{weight}" for server, weight in zip(SERVERS, (0.5, 1.5, 1))]
    profile = "perl-cache-memcached-fast"
    placed = owners(servers=heavy, profile=profile)
    assert check(facts(weights=[0.5, 1.5, 1.0], keys=placed), "--profile", profile).status == 0


def test_weights_of_servers_without_a_port(check):
    hosts = ["10.0.0.1", "10.0.0.2"]
    placed = owners(servers=["10.0.0.1:11211:3", "10.0.0.2:11211:2"], distribution="ketama", hash="md5")
    said = check({"servers": hosts, "weights": [3, 2], "keys": placed}, "--distribution", "ketama", "--hash", "md5")
    assert said.status == 0


def test_names(check):
    named = [f"{server} {name}" for server, name in zip(SERVERS, ("c", "b", "a"))]
    placed = owners(servers=named, distribution="modula")
    assert check(facts(names=["c", "b", "a"], keys=placed), "--distribution", "modula").status == 0
    assert check(facts(names=["", "", ""], keys=owners(distribution="modula")), "--distribution", "modula").status == 0


def test_backups(check):
    backups = ["10.0.1.1:11211", "10.0.1.2:11211"]
    more = facts(backups=backups, backup_keys=owners(servers=backups))
    assert check(more) == (0, "120 of 120 match\n", "")
    locate = build(parse_servers(",".join(backups))).locate
    coded = {b64encode(b"\xfe").decode(): locate(b"\xfe")}
    assert check(facts(backups=backups, backup_keys_b64=coded)) == (0, "61 of 61 match\n", "")
    wrong = {key: 1 - index for key, index in owners(servers=backups).items()}
    assert check(facts(backups=backups, backup_keys=wrong)).lines[0] == "60 of 120 match"


# -- some do not


def test_mismatches(check):
    placed = owners()
    first, second = KEYS[:2]
    swapped = placed | {first: (placed[first] + 1) % 3, second: (placed[second] + 1) % 3}
    said = check(facts(keys=swapped))
    assert (said.status, said.err) == (1, "")
    assert said.lines == ["58 of 60 match"] + [
        f"key={key} here={SERVERS[placed[key]]} there={SERVERS[swapped[key]]}" for key in (first, second)
    ]


def test_only_the_first_mismatches_are_shown(check):
    said = check(facts(keys={key: (index + 1) % 3 for key, index in owners().items()}))
    assert said.status == 1
    assert (said.lines[0], len(said.lines), said.lines[-1]) == ("0 of 60 match", 12, "... and 50 more")


@pytest.mark.parametrize("index", [3, -1])
def test_a_server_that_is_not_in_the_list_does_not_match(index, check):
    said = check({"servers": SERVERS, "keys": {"user:0": index}})
    assert (said.status, said.lines[0]) == (1, "0 of 1 match")
    assert said.lines[1].endswith(f"there=server number {index}")


def test_no_keys_prove_nothing(check):
    assert check({"servers": SERVERS, "keys": {}}) == (1, "0 of 0 match\n", "")
    assert check({"servers": SERVERS}) == (1, "0 of 0 match\n", "")


# -- servers from elsewhere


def test_servers_given_stand_in_for_those_of_the_file(check):
    elsewhere = {"servers": ["a", "b", "c"], "weights": [9, 9, 9], "keys": owners()}
    given = ("-s", ",".join(SERVERS))
    assert check(elsewhere, *given).status == 0
    assert "here=10.0.0.1:11211" in check(elsewhere | {"keys": {"user:0": 9}}, "-s", SERVERS[0]).out


def test_backups_of_the_file_do_not_stand_beside_servers_given(check):
    more = facts(backups=SERVERS, backup_keys=dict.fromkeys(KEYS, 0))
    assert check(more, "-s", ",".join(SERVERS)) == (0, "60 of 60 match\n", "")


def test_servers_from_a_configuration_file(check, tmp_path):
    file = tmp_path / "gmproxy.conf"
    file.write_text(f"server = {', '.join(SERVERS)}\n")
    assert check({"servers": ["a", "b", "c"], "keys": owners()}, "-c", file).status == 0


@pytest.mark.parametrize("option", ["--pools", "-c"])
def test_servers_from_a_pool(option, check, tmp_path):
    """For users who migrate from twemproxy: does this nutcracker.yml place the keys as they are?"""
    pools = tmp_path / "nutcracker.yml"
    listed = "".join(f"    - {server}:1\n" for server in SERVERS)
    pools.write_text(f"alpha:\n  listen: 127.0.0.1:22121\n  hash: md5\n  servers:\n{listed}")
    placed = owners(distribution="ketama", hash="md5")
    assert check(facts(keys=placed), option, pools) == (0, "60 of 60 match\n", "")
    assert check(facts(keys=placed), option, pools, "--pool", "alpha").status == 0


# -- errors


def test_no_such_file(route):
    assert "cannot read /no/such/file: No such file or directory" in route("--check", "/no/such/file").complaint


def test_a_directory(route, tmp_path):
    assert "Is a directory" in route("--check", tmp_path).complaint


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "expected an object with servers (a list) and keys"),
        (b'{"keys": {}}', "expected an object with servers (a list) and keys"),
        (b'{"servers": "a,b"}', "expected an object with servers (a list) and keys"),
        (b'{"servers": [], "keys": {"a": 0}}', "no server"),
        (b'{"servers": ["a:b"], "keys": {"a": 0}}', "bad servers"),
        (b'{"servers": ["a", "b"], "weights": [2], "keys": {"a": 0}}', "bad servers"),
        (b'{"servers": ["a", "b"], "weights": [0, 1], "keys": {"a": 0}}', "bad servers"),
        (b'{"servers": ["a", "b"], "names": ["x"], "keys": {"a": 0}}', "bad servers"),
        (b'{"servers": ["a"], "keys": ["a"]}', "bad keys"),
        (b'{"servers": ["a"], "keys": {"a": "first"}}', "bad keys"),
        (b'{"servers": ["a"], "keys": {"a": null}}', "bad keys"),
        (b'{"servers": ["a"], "keys": {"\\ud800": 0}}', "bad keys"),
        (b'{"servers": ["a"], "keys_b64": {"a": 0}}', "bad keys"),
        (b'{"servers": ["a"], "backups": ["b:c"], "keys": {"a": 0}}', "bad backups"),
    ],
)
def test_a_file_that_cannot_be_used(content, says, route, tmp_path):
    path = tmp_path / "facts.json"
    path.write_bytes(content)
    assert says in route("--check", path).complaint


def test_keys_that_are_no_base64(check):
    assert "bad keys" in check({"servers": SERVERS, "keys_b64": {"!!!!": 0}}).complaint


def test_keys_beside_a_file(check):
    assert "key" in check(facts(), "key").complaint


def test_bad_options(check):
    assert "'ketema' is unknown: did you mean ketama?" in check(facts(), "--distribution", "ketema").complaint
    assert "there is no pool 'alpha'" in check(facts(), "--pool", "alpha").complaint
