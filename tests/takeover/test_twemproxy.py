"""gmproxy with the servers and the file of twemproxy: it finds every key that twemproxy stored, pool by pool."""

import getpass
from contextlib import ExitStack

import pytest
from nutcracker import Nutcracker, free_ports, is_installed, write_pools
from shards import counts, found, keys_of, store
from support.servers import Proxy, has_ipv6
from support.talk import Talk
from support.timing import eventually

pytestmark = pytest.mark.skipif(not is_installed(), reason="nutcracker is not installed")

DISTRIBUTIONS = ("ketama", "modula")

HASHES = (
    "one_at_a_time",
    "md5",
    "crc16",
    "crc32",
    "crc32a",
    "fnv1_64",
    "fnv1a_64",
    "fnv1_32",
    "fnv1a_32",
    "hsieh",
    "murmur",
    "jenkins",
)


def pools_of(servers):
    """All settings of twemproxy that affect the placement, except `random`."""
    plain = [f"{server.address}:1" for server in servers]
    weighted = [f"{server.address}:{weight}" for server, weight in zip(servers, (3, 1, 2))]
    named = [f"{address} {name}" for address, name in zip(weighted, ("cache-10", "cache-2", "blue"))]
    pools = {
        f"{distribution}-{hash_name}": {"distribution": distribution, "hash": hash_name, "servers": plain}
        for distribution in DISTRIBUTIONS
        for hash_name in HASHES
    }
    for distribution in DISTRIBUTIONS:
        told = {"distribution": distribution, "hash": "murmur"}
        pools |= {
            f"{distribution}-weights": {**told, "servers": weighted},
            f"{distribution}-names": {**told, "servers": named},
            f"{distribution}-tag": {**told, "hash_tag": "//", "servers": plain},
            f"{distribution}-reversed": {**told, "servers": plain[::-1]},
        }
    pools["nothing-said"] = {"servers": plain}
    return pools


@pytest.fixture(scope="module")
def pair(servers, tmp_path_factory):
    """nutcracker and gmproxy, with the same pools."""
    directory = tmp_path_factory.mktemp("pair")
    pools = pools_of(servers)
    with ExitStack() as stack:
        nutcracker = stack.enter_context(Nutcracker(pools, directory))
        yield nutcracker, stack.enter_context(started(pools, directory))


def started(pools, directory):
    """gmproxy, serving `pools`. It has their `ports`."""
    ports = free_ports(pools)
    file = write_pools(directory / "ours.yml", pools, ports)
    process = Proxy("--pools", file, port=ports[next(iter(pools))])
    process.ports = ports
    return process


POOLS = sorted(pools_of([]))


@pytest.mark.parametrize("pool", POOLS)
def test_not_one_miss(pool, pair, servers):
    nutcracker, ours = pair
    keys = keys_of(pool, 200)
    with nutcracker.talk(pool) as talk, Talk(ours.ports[pool]) as our_talk:
        assert not store(talk, keys)
        assert found(our_talk, keys) == keys
    held = counts(servers, keys)
    assert sum(held) == len(keys)
    assert all(held) or pool == "ketama-crc32"  # 15 bits: the hashes are below all points


# -- servers that are not plain addresses


def check(listed, distribution, directory):
    """gmproxy finds what nutcracker stored on the servers `listed`."""
    pools = {"alpha": {"distribution": distribution, "hash": "md5", "servers": listed}}
    keys = keys_of("other", 200)
    with Nutcracker(pools, directory) as nutcracker, nutcracker.talk("alpha") as talk:
        assert not store(talk, keys)
    with started(pools, directory) as ours, ours.talk() as talk:
        assert found(talk, keys) == keys


both = pytest.mark.parametrize("distribution", DISTRIBUTIONS)


@both
def test_sockets(distribution, memcached, tmp_path):
    me = getpass.getuser()  # the directory belongs to this user
    first, second = (memcached("-u", me, unix_socket=tmp_path / name) for name in ("one", "two"))
    check([f"{first.path}:1", f"{second.path}:2"], distribution, tmp_path)


@both
def test_names_of_hosts(distribution, servers, tmp_path):
    check([f"localhost:{server.port}:1" for server in servers], distribution, tmp_path)


@both
def test_ipv6(distribution, memcached, tmp_path):
    if not has_ipv6():
        pytest.skip("this machine has no ::1")
    check([f"::1:{memcached(host='::1').port}:1" for _ in range(2)], distribution, tmp_path)


@both
def test_one_address_under_two_names(distribution, servers, tmp_path):
    check([f"{servers[0].address}:1 a", f"{servers[1].address}:1 b", f"{servers[0].address}:1 c"], distribution, tmp_path)


# -- ejection


@both
@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 3)])
def test_an_ejected_servers_keys_go_where_nutcracker_sends_them(distribution, weights, memcached, tmp_path):
    servers = [memcached() for _ in range(3)]
    pools = {
        "alpha": {
            "distribution": distribution,
            "hash": "md5",
            "timeout": 400,
            "auto_eject_hosts": True,
            "server_failure_limit": 2,
            "server_retry_timeout": 600_000,
            "servers": [f"{server.address}:{weight}" for server, weight in zip(servers, weights)],
        }
    }
    victims, keys = keys_of("before", 50), keys_of(f"ejected-{distribution}", 300)
    with Nutcracker(pools, tmp_path) as nutcracker, started(pools, tmp_path) as ours:
        servers[1].kill()
        eventually(lambda: all_stored(nutcracker, victims), what="nutcracker ejects the server")
        assert all_stored(nutcracker, keys)
        with ours.talk() as talk:
            eventually(lambda: found(talk, keys) == keys, what="all that nutcracker stored is found")
        held = counts([servers[0], servers[2]], keys)
        assert sum(held) == len(keys) and all(held)
        ours.check_log()


def all_stored(nutcracker, keys):
    """Store `keys` on a new connection: after an error nutcracker may close the old one."""
    with nutcracker.talk("alpha") as talk:
        try:
            return not store(talk, keys)
        except (AssertionError, OSError):
            return False


def test_a_server_that_comes_back_gets_its_keys_back(memcached, tmp_path):
    servers = [memcached() for _ in range(3)]
    pools = {"alpha": {"hash": "md5", "auto_eject_hosts": True, "servers": [f"{server.address}:1" for server in servers]}}
    keys = keys_of("back", 300)
    with Nutcracker(pools, tmp_path) as nutcracker, nutcracker.talk("alpha") as talk:
        assert not store(talk, keys)
        before = counts(servers, keys)
    with started(pools, tmp_path) as ours, ours.talk() as talk:
        servers[1].kill()
        eventually(lambda: not store(talk, keys), what="the server is ejected")
        servers[1].restart()
        eventually(lambda: ours.stats()["backends_ejected"] == 0, what="the server is back")
        assert not store(talk, keys)
    assert counts(servers[1:2], keys) == before[1:2]
