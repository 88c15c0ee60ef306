"""gmproxyctl route KEY...: which server has a key, without a running gmproxy."""

import json
import os
import subprocess
import sys

import pytest
from support.servers import environment
from support.timing import PROGRAM_TIMEOUT

from gmproxy.placement.builder import HASHES, build
from gmproxy.placement.server_spec import parse_servers

TWO = ("-s", "10.0.0.1:11211", "-s", "10.0.0.2:11211")

POOLS = """\
alpha:
  listen: 127.0.0.1:22121
  distribution: modula
  hash: md5
  servers:
    - 10.0.0.1:11211:1 one
    - 10.0.0.2:11211:1 two
beta:
  listen: 127.0.0.1:22122
  servers:
    - 10.0.0.3:11211:1
  backups:
    - 10.0.0.4:11211:1
"""

ROLES = """\
main:
  listen: 127.0.0.1:22121
  replicas: [copy]
  gutter: spare
  failover_ttl: 10
  servers:
    - 10.0.0.1:11211:1
copy:
  servers:
    - 10.0.1.1:11211:1
spare:
  servers:
    - 10.0.3.1:11211:1
"""


@pytest.fixture
def pools(tmp_path):
    path = tmp_path / "nutcracker.yml"
    path.write_text(POOLS)
    return path


# -- what it prints


def test_a_key_its_hash_and_its_server(route):
    assert route(*TWO, "key").lines == ["key=key hash=193496974 server=10.0.0.1:11211"]


def test_the_backup_too_where_there_are_some(route):
    said = route(*TWO, "-b", "10.0.0.3,10.0.0.4,10.0.0.5", "key")
    assert said.lines == ["key=key hash=193496974 server=10.0.0.1:11211 backup=10.0.0.4:11211"]


def test_the_servers_of_replicas_and_the_gutter(route, tmp_path):
    said = route(*TWO, "--replica", "10.0.1.1,10.0.1.2", "--replica", "10.0.2.1", "key")
    assert said.lines == ["key=key hash=193496974 server=10.0.0.1:11211 replicas=10.0.1.1:11211,10.0.2.1:11211"]
    path = tmp_path / "roles.yml"
    path.write_text(ROLES)
    said = route("-c", str(path), "key", "--json")
    assert json.loads(said.out) == [
        {
            "key": "key",
            "hash": HASHES["fnv1a_64"](b"key"),
            "server": "10.0.0.1:11211",
            "replicas": ["10.0.1.1:11211"],
            "gutter": "10.0.3.1:11211",
        }
    ]


def test_a_line_for_each_key_in_the_order_asked(route):
    said = route("b", "a", "b", *TWO)
    assert [line.split()[0] for line in said.lines] == ["key=b", "key=a", "key=b"]
    assert (said.status, said.err) == (0, "")


@pytest.mark.parametrize(
    "options, distribution",
    [
        ((), {"distribution": "magent"}),
        (("-k",), {"distribution": "magent-ketama"}),
        (("--distribution", "ketama"), {"distribution": "ketama"}),
        (("--distribution", "modula", "--hash", "crc32a"), {"distribution": "modula", "hash": "crc32a"}),
        (("--profile", "dalli"), {"profile": "dalli"}),
        (("--profile", "php-memcached", "--hash", "fnv1_32"), {"profile": "php-memcached", "hash": "fnv1_32"}),
        (("--hash-tag", "{}"), {"hash_tag": "{}"}),
        (("--unhashed-prefix", "user:"), {"unhashed_prefix": "user:"}),
        (("--distribution", "hashring", "--points", "7"), {"distribution": "hashring", "points": 7}),
        (("--distribution", "ketama", "--label", "full"), {"distribution": "ketama", "label": "full"}),
        (("--profile", "libmemcached", "--server-order", "host"), {"profile": "libmemcached", "server_order": "host"}),
        (("--distribution", "libmemcached-ketama", "--point-hash", "md5"), {"distribution": "libmemcached-ketama", "point_hash": "md5"}),
        (("--profile", "spymemcached-ketama", "--hosts", "cache=10.0.0.9"), {"profile": "spymemcached-ketama", "hosts": "cache=10.0.0.9"}),
    ],
)
def test_every_option_of_placement_counts(options, distribution, route):
    servers = "cache:11211:2,10.0.0.2:11211,10.0.0.3:1"
    placement = build(parse_servers(servers), **distribution)
    keys = ["plain", "user:{17}:name", "user:18"]
    assert route("-s", servers, *options, *keys).lines == [
        f"key={key} hash={placement.hash(key.encode())} server={parse_servers(servers)[placement.locate(key.encode())]}" for key in keys
    ]


def test_a_server_is_shown_with_its_name(route):
    assert route("-s", "unix:/run/a.sock one", "k").lines == [f"key=k hash={HASHES['djb'](b'k')} server=unix:/run/a.sock one"]


@pytest.mark.parametrize(
    "key, shown",
    [
        (b"caf\xc3\xa9", "café"),
        (b"{a}'\"", "{a}'\""),
        (b"two words", "b'two words'"),
        (b"bell\x07", r"b'bell\x07'"),
        (b"\xff\x00"[:1], r"b'\xff'"),
        (b"", ""),
        (b"k" * 300, "k" * 300),
    ],
)
def test_any_key_can_be_asked_and_shown(key, shown, route):
    assert route(*TWO, "--", os.fsdecode(key)).lines[0].startswith(f"key={shown} hash={HASHES['djb'](key)} ")


def test_a_key_may_begin_with_a_dash(route):
    assert route(*TWO, "--", "-k").lines == [f"key=-k hash={HASHES['djb'](b'-k')} server=10.0.0.2:11211"]


def test_settings_come_from_file_and_environment_too(route, tmp_path, monkeypatch):
    file = tmp_path / "gmproxy.conf"
    file.write_text("server = 10.0.0.1, 10.0.0.2\nhash = md5\n")
    monkeypatch.setenv("GMPROXY_DISTRIBUTION", "modula")
    assert route("-c", file, "key").lines == route(*TWO, "--hash", "md5", "--distribution", "modula", "key").lines


def test_it_is_a_command_of_its_own():
    command = [sys.executable, "-m", "gmproxy.ctl", "route", *TWO, b"\xff"]
    done = subprocess.run(command, capture_output=True, env=environment(), check=True, timeout=PROGRAM_TIMEOUT)
    assert done.stdout == rb"key=b'\xff' hash=177572 server=10.0.0.1:11211" + b"\n"


def test_somebody_who_has_read_enough_is_no_accident():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "gmproxy.ctl", "route", *TWO, *map(str, range(10))]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment(), timeout=PROGRAM_TIMEOUT)
    os.close(writer)
    assert b"Traceback" not in done.stderr


# -- pools


@pytest.mark.parametrize("option", ["--pools", "-c"])
def test_a_pool_of_a_file(option, route, pools):
    assert route(option, pools, "--pool", "alpha", "key").lines == ["key=key hash=2316004924 server=10.0.0.1:11211 one"]
    assert route(option, pools, "--pool", "beta", "key").lines == [
        f"key=key hash={HASHES['fnv1a_64'](b'key')} server=10.0.0.3:11211 backup=10.0.0.4:11211"
    ]


def test_the_only_pool_needs_no_name(route, pools):
    pools.write_text(POOLS[: POOLS.index("beta")])
    assert route("--pools", pools, "key").lines == route("--pools", pools, "--pool", "alpha", "key").lines


def test_a_pool_without_a_name_has_the_one_that_the_service_shows(route):
    assert route(*TWO, "--pool", "default", "key").lines == route(*TWO, "key").lines


def test_which_pool(route, pools):
    assert "there are several pools: give --pool with one of alpha, beta" in route("--pools", pools, "key").complaint


def test_no_such_pool(route, pools):
    assert "there is no pool 'gamma'; known: alpha, beta" in route("--pools", pools, "--pool", "gamma", "key").complaint


# -- with a service, or without


def test_servers_in_the_environment_need_no_service(route, monkeypatch):
    monkeypatch.setenv("GMPROXY_SERVER", "10.0.0.1,10.0.0.2")
    assert route("key").lines == route(*TWO, "key").lines


def test_servers_that_were_typed_need_no_service_wherever_one_is(route, monkeypatch):
    monkeypatch.setenv("GMPROXY_CONTROL", "/no/such/socket")
    assert route(*TWO, "key").lines == ["key=key hash=193496974 server=10.0.0.1:11211"]


def test_a_service_that_was_named_is_asked(route, monkeypatch, tmp_path):
    file = tmp_path / "gmproxy.conf"
    file.write_text("server = 10.0.0.1\n")
    assert "no service at /no/such/socket (--control)" in route("--control", "/no/such/socket", "-c", file, "key").refusal
    monkeypatch.setenv("GMPROXY_SERVER", "10.0.0.1")
    monkeypatch.setenv("GMPROXY_CONTROL", "/no/such/socket")
    assert "no service at /no/such/socket (GMPROXY_CONTROL)" in route("key").refusal


# -- what cannot be shown


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("--profile", "dalli", "key"), "no server"),
        (TWO, "no key given"),
        ((*TWO, "--profile", "perl", "key"), "'perl' is unknown: it must be one of magent, "),
        (("-s", "a:b", "key"), "port 'b' is not a number"),
        (("-s", "cache1,cache2", "--profile", "spymemcached-ketama", "key"), "set hosts to cache1=ADDRESS"),
        (("--pools", "/no/such/file.yml", "key"), "cannot read /no/such/file.yml: No such file or directory"),
        (("-c", "/no/such/file.conf", "key"), "/no/such/file.conf"),
        ((*TWO, "--nonsense", "key"), "--nonsense"),
        ((*TWO, "--pool", "other", "key"), "there is no pool 'other'; known: default"),
    ],
)
def test_what_cannot_be_answered(arguments, says, route):
    assert says in route(*arguments).complaint


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("rout", "key"), "there is no command 'rout'"),
        (("--check", "file"), "no command given with --check"),
    ],
)
def test_no_such_command(arguments, says, gmproxyctl):
    assert says in gmproxyctl(*arguments).complaint


@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_help(asked, gmproxyctl):
    said = gmproxyctl(asked)
    assert (said.status, said.err) == (0, "")
    assert "route KEY" in said.out and "route --check" in said.out
    assert gmproxyctl("help") == said


def test_nothing_asked(gmproxyctl):
    said = gmproxyctl()
    assert said.status == 2 and "usage: gmproxyctl COMMAND" in said.out
