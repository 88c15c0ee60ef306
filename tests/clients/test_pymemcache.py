"""pymemcache: Client, PooledClient, and HashClient with the proxy as its only server."""

from contextlib import closing

import pytest
from support.threads import run_in_threads

pymemcache = pytest.importorskip("pymemcache")

from pymemcache.client.base import Client, PooledClient  # noqa: E402
from pymemcache.client.hash import HashClient  # noqa: E402
from pymemcache.exceptions import MemcacheClientError, MemcacheError, MemcacheServerError, MemcacheUnknownCommandError  # noqa: E402

THREADS = 16
ROUNDS = 60


def address(shop):
    return shop.proxy.host, shop.proxy.port


@pytest.fixture(params=["plain", "pooled", "hashing"])
def client(shop, request):
    options = {"timeout": 10, "connect_timeout": 10, "default_noreply": False, "allow_unicode_keys": True}
    made = {
        "plain": lambda: Client(address(shop), **options),
        "pooled": lambda: PooledClient(address(shop), max_pool_size=4, **options),
        "hashing": lambda: HashClient([address(shop)], use_pooling=True, **options),
    }[request.param]()
    yield made
    made.close()


@pytest.fixture
def plain(shop):
    with closing(Client(address(shop), timeout=10, default_noreply=False)) as made:
        yield made


VALUES = [b"", b"text", b"END\r\n", b"\r\n\r\n", b"\0\xff\x80", b"VALUE a 0 1\r\n1\r\nEND\r\n", b"x" * 300_000]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_every_kind_of_value(client, key, value):
    assert client.set(key, value)
    assert client.get(key) == value


def test_unicode_keys(client):
    assert client.set("käse\N{SNOWMAN}", b"value")
    assert client.get("käse\N{SNOWMAN}") == b"value"


def test_storage(client, key):
    assert client.replace(key, b"1") is False
    assert client.append(key, b"1") is False
    assert client.add(key, b"b") is True
    assert client.add(key, b"x") is False
    assert client.append(key, b"c") is True
    assert client.prepend(key, b"a") is True
    assert client.get(key) == b"abc"
    assert client.replace(key, b"new") is True
    assert client.get(key, default=b"none") == b"new"
    assert client.get(key + "none", default=b"none") == b"none"


def test_delete_and_touch(client, key):
    assert client.delete(key) is False
    assert client.touch(key) is False
    client.set(key, b"1")
    assert client.touch(key, 100) is True
    assert client.delete(key) is True
    assert client.get(key) is None


def test_counters(client, key):
    assert client.incr(key, 1) is None
    client.set(key, b"10")
    assert client.incr(key, 5) == 15
    assert client.decr(key, 20) == 0
    with pytest.raises(MemcacheError):
        client.incr(key, "abc")
    client.set(key, b"abc")
    with pytest.raises(MemcacheClientError):
        client.incr(key, 1)
    assert client.get(key) == b"abc"


def test_cas(client, key):
    client.set(key, b"1")
    value, unique = client.gets(key)
    assert value == b"1"
    assert client.cas(key, b"2", unique) is True
    assert client.cas(key, b"3", unique) is False
    assert client.cas(key + "none", b"3", unique) is None
    assert client.get(key) == b"2"


def test_many(client, key):
    mapping = {f"{key}-{number}": b"value %d" % number for number in range(300)}
    assert client.set_many(mapping) == []
    assert client.get_many([*mapping, key + "none"]) == mapping
    found = client.gets_many(list(mapping)[:10])
    assert {name: value for name, (value, _) in found.items()} == dict(list(mapping.items())[:10])
    assert client.delete_many(mapping)
    assert client.get_many(mapping) == {}


def test_gat(plain, key):
    """The client has no gat method, so the test sends the commands itself."""
    plain.set(key, b"1")
    assert plain.raw_command(f"gat 100 {key}", end_tokens=b"END\r\n") == f"VALUE {key} 0 1\r\n1\r\n".encode()
    assert plain.raw_command(f"gats -1 {key} {key}none", end_tokens=b"END\r\n").startswith(f"VALUE {key} 0 1 ".encode())
    assert plain.get(key) is None


def test_noreply(client, key):
    client.set(key, b"1", noreply=True)
    client.add(key, b"2", noreply=True)
    client.append(key, b"0", noreply=True)
    client.incr(key, 5, noreply=True)
    client.touch(key, 100, noreply=True)
    client.set_many({f"{key}{number}": b"x" for number in range(100)}, noreply=True)
    client.delete(key + "1", noreply=True)
    assert client.get(key) == b"15"
    assert len(client.get_many([f"{key}{number}" for number in range(100)])) == 99


def test_large_and_too_large(client, key):
    assert client.set(key, b"x" * 1_000_000)
    assert len(client.get(key)) == 1_000_000
    with pytest.raises(MemcacheServerError, match="object too large for cache"):
        client.set(key, b"x" * 1_500_000)
    assert client.get(key) is None
    assert client.set(key, b"small again")


def test_expired_at_once(client, key):
    assert client.set(key, b"1", expire=-1)
    assert client.get(key) is None


def test_version_and_stats(plain):
    assert plain.version().startswith(b"1.6.")
    stats = plain.stats()
    assert stats[b"curr_connections"] >= 1
    assert plain.stats("settings")[b"max_connections"] == 4096


def test_what_is_not_for_a_proxy(plain, key):
    with pytest.raises(MemcacheUnknownCommandError):
        plain.cache_memlimit(100)
    assert plain.set(key, b"1")


def test_raw_command(plain, key):
    assert plain.raw_command(f"set {key} 0 0 2\r\nhi") == b"STORED"
    assert plain.raw_command(f"get {key}", end_tokens=b"END\r\n") == f"VALUE {key} 0 2\r\nhi\r\n".encode()


def test_flush_all(plain, shop, key):
    keys = [f"{key}{number}" for number in range(20)]
    plain.set_many(dict.fromkeys(keys, b"1"))
    assert plain.flush_all(1000)
    assert len(plain.get_many(keys)) == 20
    assert plain.flush_all()
    assert plain.get_many(keys) == {}


def test_quit(plain, key):
    plain.set(key, b"1")
    plain.quit()
    assert plain.get(key) == b"1"


def test_many_threads(shop):
    client = PooledClient(address(shop), max_pool_size=THREADS, timeout=20, default_noreply=False)
    troubles = []

    def work(number):
        for turn in range(ROUNDS):
            mine = {f"pool{number}-{turn}-{part}": b"%d %d %d" % (number, turn, part) * (1 + part * 100) for part in range(5)}
            client.set_many(mine)  # with noreply, a get on another connection of the pool might be executed first
            if client.get_many(mine) != mine:
                troubles.append((number, turn))

    run_in_threads(work, THREADS)
    client.close()
    assert not troubles


def test_one_counter_for_many(shop, key):
    """No increment is lost or executed twice."""
    seen = []

    def work(number):
        with closing(Client(address(shop), timeout=20)) as client:
            seen.extend(client.incr(key, 1) for _ in range(ROUNDS))

    with closing(Client(address(shop), default_noreply=False)) as client:
        client.set(key, b"0")
        run_in_threads(work, THREADS)
        assert sorted(seen) == list(range(1, THREADS * ROUNDS + 1))
        assert client.get(key) == b"%d" % (THREADS * ROUNDS)


def test_nobody_notices_that_a_server_dies(own_shop):
    with closing(Client(address(own_shop), timeout=10, default_noreply=False)) as client:
        mapping = {f"key{number}": b"value %d" % number for number in range(50)}
        client.set_many(mapping)
        own_shop.primaries[1].kill()
        assert client.get_many(mapping) == mapping
        assert {key: client.get(key) for key in mapping} == mapping
        assert client.set_many(dict.fromkeys(mapping, b"new")) == []
        assert client.get_many(mapping) == dict.fromkeys(mapping, b"new")
