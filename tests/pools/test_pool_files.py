"""A nutcracker.yml is accepted as it is, or refused with one clear line.

accepted/*.yml    twemproxy and gmproxy accept them
refused/*.yml     gmproxy refuses them, and with few exceptions twemproxy does too; the first line is gmproxy's error
"""

from pathlib import Path

import pytest
from support.servers import run

from gmproxy.config import configuration, description
from gmproxy.config.settings import SETTINGS
from gmproxy.errors import ConfigError
from gmproxy.placement.hashes import HASHES

HERE = Path(__file__).parent
ACCEPTED = sorted((HERE / "accepted").glob("*.yml"))
REFUSED = sorted((HERE / "refused").glob("*.yml"))


def samples(paths):
    return pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in paths])


def read(path, option="--pools"):
    """{pool name: Config}"""
    configs, _ = configuration.parse([option, str(path)], {})
    return {config.name: config for config in configs}


# -- accepted


@samples(ACCEPTED)
def test_accepted(path):
    assert read(path) == read(path, "-c")
    assert all(config.server for config in read(path).values())


@samples(ACCEPTED)
def test_the_configuration_that_is_printed_gives_the_same(path, tmp_path):
    copy = tmp_path / "copy.yml"
    copy.write_text(description.describe(list(read(path).values())), encoding="utf-8")
    again = read(copy)
    assert list(again) == list(read(path))
    for name, config in read(path).items():
        for setting in SETTINGS:
            assert setting == "pools" or getattr(again[name], setting) == getattr(config, setting), setting


@pytest.mark.parametrize(
    "disguise",
    [
        pytest.param(lambda data: data.replace(b"\n", b"\r\n"), id="crlf"),
        pytest.param(lambda data: b"\xef\xbb\xbf" + data, id="byte-order-mark"),
        pytest.param(lambda data: b"---\n" + data + b"...\n", id="document"),
    ],
)
def test_the_same_in_another_editor(disguise, tmp_path):
    original = HERE / "accepted" / "every-key.yml"
    copy = tmp_path / "copy.yml"
    copy.write_bytes(disguise(original.read_bytes()))
    assert read(copy)["alpha"].server == read(original)["alpha"].server


def test_every_key_means_what_it_says():
    config = read(HERE / "accepted" / "every-key.yml")["alpha"]
    assert (config.listen, config.port, config.unix_socket) == ("0.0.0.0", 22121, "")
    assert config.max_connections == 10000
    assert (config.hash, config.hash_tag, config.distribution) == ("murmur", "{}", "modula")
    assert (config.timeout, config.backlog) == (0.4, 1024)
    assert (config.tcpkeepalive, config.preconnect, config.server_connections) == (True, True, 2)
    assert (config.auto_eject_hosts, config.server_retry_timeout, config.server_failure_limit) == (True, 2, 1)
    assert [(server.label, server.weight, server.name) for server in config.server] == [
        ("127.0.0.1:11212", 1, "server1"),
        ("127.0.0.1:11213", 3, "server2"),
    ]


def test_where_nothing_is_said_twemproxy_decides():
    config = read(HERE / "accepted" / "nothing-said.yml")["alpha"]
    assert (config.hash, config.distribution, config.hash_tag) == ("fnv1a_64", "ketama", "")
    assert (config.backlog, config.max_connections, config.server_connections) == (512, 0, 1)
    assert (config.server_failure_limit, config.server_retry_timeout, config.auto_eject_hosts) == (2, 30, False)
    assert config.preconnect is False
    assert config.timeout == 1  # not unlimited, as in twemproxy


def test_every_hash_and_distribution():
    for config in read(HERE / "accepted" / "hashes.yml").values():
        assert config.name == f"with_{config.hash}" and config.hash in HASHES
    for config in read(HERE / "accepted" / "distributions.yml").values():
        assert config.name == f"with_{config.distribution}"


def test_places_to_listen():
    found = {
        name: (config.listen, config.port, config.unix_socket, config.unix_mode)
        for name, config in read(HERE / "accepted" / "listen.yml").items()
    }
    assert found["everywhere"][:3] == ("0.0.0.0", 22121, "")
    assert found["by_name"][:3] == ("localhost", 22122, "")
    assert found["ipv6"][:3] == ("::1", 22123, "")
    assert found["quoted"][:3] == ("127.0.0.1", 22124, "")
    assert found["socket"][1:] == (0, "/run/nutcracker/socket", "")
    assert found["socket_with_mode"][1:] == (0, "/run/nutcracker/other", "0660")


def test_servers():
    config = read(HERE / "accepted" / "servers.yml")["alpha"]
    assert [(server.label, server.weight, server.name) for server in config.server] == [
        ("127.0.0.1:11212", 1, None),
        ("cache1.example.org:11211", 2, None),
        ("cache2:11211", 1, "second"),
        ("unix:/run/memcached/socket", 1, None),
        ("unix:/run/memcached/other", 3, "socket"),
        ("127.0.0.1:11213", 1, "127.0.0.1:1"),
    ]


# -- keys that twemproxy does not have


@pytest.mark.parametrize(
    "lines, settings",
    [
        ("on_miss: always", {"on_miss": "always"}),
        ("on_get_error: error", {"on_get_error": "error"}),
        ("connect_timeout: 250", {"connect_timeout": 0.25}),
        ("max_item_size: 2m", {"max_item_size": 2 << 20}),
        ("disable_flush_all: true", {"disable_flush_all": True}),
        ("warming_time: 60", {"warming_time": 60}),
        ("hash_tag: '$$'", {"hash_tag": "$$"}),
        ("unhashed_prefix: 'app:'", {"unhashed_prefix": "app:"}),
        ("server_order: host", {"server_order": "host"}),
        ("distribution: hashring\n  points: 7", {"points": 7, "distribution": "hashring", "hash": ""}),
        ("profile: dalli", {"profile": "dalli", "hash": "", "distribution": ""}),
        ("profile: libmemcached\n  hash: md5", {"profile": "libmemcached", "hash": "md5", "distribution": ""}),
        ("profile: spymemcached-ketama\n  hosts: cache=10.0.0.1", {"hosts": "cache=10.0.0.1"}),
    ],
)
def test_our_own_keys(lines, settings, tmp_path):
    path = tmp_path / "pools.yml"
    path.write_text(f"alpha:\n  listen: 127.0.0.1:22121\n  {lines}\n  servers:\n    - 127.0.0.1:11212:1\n    - 127.0.0.1:11213:1\n")
    config = read(path)["alpha"]
    assert {name: getattr(config, name) for name in settings} == settings


def test_backups(tmp_path):
    path = tmp_path / "pools.yml"
    path.write_text("alpha:\n  listen: 127.0.0.1:22121\n  servers:\n    - a:1:1\n  backups:\n    - b:1:2 one\n    - a:1:1\n")
    config = read(path)["alpha"]
    assert [(str(server), server.weight) for server in config.backup] == [("b:1 one", 2), ("a:1", 1)]


def test_the_rest_of_the_configuration_stands_beside_it(tmp_path):
    file = tmp_path / "gmproxy.conf"
    file.write_text(f"pools = {HERE / 'accepted' / 'typical.yml'}\ngrace = 100\nverbose = yes\n")
    found = read(file, "-c")
    assert list(found) == ["gamma", "delta", "omega"]
    assert {(config.grace, config.verbose) for config in found.values()} == {(0.1, True)}


@pytest.mark.parametrize(
    "beside",
    [
        ("-s", "a:1"),
        ("-b", "a:1"),
        ("-p", "1"),
        ("--timeout", "5"),
        ("-k",),
        ("--profile", "dalli"),
    ],
)
def test_what_a_pool_must_say_itself(beside):
    with pytest.raises(ConfigError, match="cannot be combined with pools: set it in each pool of that file"):
        configuration.parse(["--pools", str(HERE / "accepted" / "typical.yml"), *beside], {})


# -- refused


@samples(REFUSED)
def test_refused(path):
    comment, expected = path.read_text().splitlines()[0].split(" ", 1)
    assert comment == "#"
    with pytest.raises(ConfigError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}:{expected}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "no pools"),
        (b"# nothing\n", "no pools"),
        (b"- alpha\n", "no pools"),
        (b"alpha\n", "no pools"),
        (b"{}", "no pools"),
        (b"alpha:\n  listen: caf\xe9\n", "not a text file"),
        (b"alpha:\n  listen: a\x00b\n", ""),
        (b'alpha:\n  listen: "/a\\0b"\n', ":2: pool alpha: a control character in '/a\\x00b'"),
        (b'"a\\nb":\n  listen: a:1\n', ":1: a control character in the name of a pool: 'a\\nb'"),
        (b"[" * 1000, "nested too deeply"),
        (b"alpha:\n  timeout: " + b"9" * 5000, ":2: pool alpha: timeout: '999"),
        ("alpha:\n  servers:\n    - a:1:\N{SUPERSCRIPT TWO}\n".encode(), ":3: pool alpha: server: bad server"),
        (b"alpha:\n  servers:\n    - a:1:" + b"9" * 5000, ":3: pool alpha: server: bad server"),
        (b"alpha: &a\n  <<: *a\n", ""),
        pytest.param(b"? [1, 2]\n: x\n", ""),
        pytest.param(b"alpha:\n  ? [1, 2]\n  : x\n", ""),
    ],
)
def test_files_without_sense(content, says, tmp_path):
    path = tmp_path / "pools.yml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read(path)
    assert str(error.value).startswith(str(path)) and says in str(error.value)


def test_no_such_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot read .*none.yml: No such file"):
        read(tmp_path / "none.yml")
    with pytest.raises(ConfigError, match="cannot read .*: Is a directory"):
        read(tmp_path)


# -- the command line


def test_checked_and_fine():
    path = HERE / "accepted" / "typical.yml"
    done = run("-t", "-c", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"gmproxy: configuration file '{path}' syntax is ok: 3 pools\n"


def test_checked_and_wrong():
    path = HERE / "refused" / "redis.yml"
    done = run("-t", "--pools", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"gmproxy: {path}:4: pool alpha: redis: ") and done.stderr.count("\n") == 1


def test_printed_and_read_again(tmp_path):
    printed = run("--print-config", "-c", HERE / "accepted" / "typical.yml").stdout
    copy = tmp_path / "copy.yml"
    copy.write_text(printed)
    assert run("--print-config", "-c", copy).stdout == printed


# -- redis pools

MIXED = """\
cache:
  listen: 127.0.0.1:22121
  servers:
    - 127.0.0.1:11212:1
queue:
  listen: 127.0.0.1:22122
  redis: true
  redis_auth: secret
  servers:
    - 127.0.0.1:6379:1
"""


def test_redis_pools_are_skipped_when_asked(tmp_path):
    path = tmp_path / "pools.yml"
    path.write_text(MIXED)
    with pytest.raises(ConfigError, match="pools.yml:7: pool queue: redis: .*--redis-pools skip"):
        read(path)
    source = configuration.ConfigSource(["-c", str(path), "--redis-pools", "skip"], {})
    assert [config.name for config in source.load()] == ["cache"]
    assert source.warnings == ["pool queue is a redis pool: not served (redis_pools = skip)"]


def test_redis_pools_alone_are_none(tmp_path):
    path = tmp_path / "pools.yml"
    path.write_text(MIXED.partition("queue:")[2].join(("queue:", "")))
    with pytest.raises(ConfigError, match="all pools are redis pools"):
        configuration.parse(["-c", str(path), "--redis-pools", "skip"], {})


@pytest.mark.parametrize("server", ["unix:/run/memcached/socket", "[::1]:11211", "unix:/run/memcached/socket:2 name"])
def test_our_own_forms_of_a_server_need_no_weight(server, tmp_path):
    path = tmp_path / "pools.yml"
    path.write_text(f"alpha:\n  listen: 127.0.0.1:22121\n  servers:\n    - '{server}'\n")
    assert len(read(path)["alpha"].server) == 1


def test_any_name_of_a_file_after_nutcrackers_option():
    """For configuration management, which checks a file before it is installed."""
    path = HERE / "accepted" / "typical.yml"
    done = run("--test-conf", "--conf-file", path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_to_listen_on_is_looked_up_by_the_check(tmp_path):
    path = tmp_path / "pools.yml"
    path.write_text("alpha:\n  listen: no-such-host.invalid:22121\n  servers:\n    - 127.0.0.1:11212:1\n")
    done = run("-t", "-c", path)
    assert (done.returncode, "cannot listen on 'no-such-host.invalid'" in done.stderr) == (1, True)
