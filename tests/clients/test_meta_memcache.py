"""meta-memcache, which uses only meta commands, with quiet flags, opaques, and keys in base64."""

import pytest

pytest.importorskip("meta_memcache")

from meta_memcache import CacheClient, Key, RecachePolicy, ServerAddress, ServerVersion, StalePolicy  # noqa: E402
from meta_memcache.configuration import connection_pool_factory_builder  # noqa: E402

TTL = 1000

#: It always requests the remaining life of an item and its last use, which the binary protocol does not have.
pytestmark = pytest.mark.parametrize("shop", ["text", pytest.param("replicas", marks=pytest.mark.long)], indirect=True)


@pytest.fixture
def client(shop):
    return CacheClient.cache_client_from_servers(
        servers=[ServerAddress(shop.proxy.host, shop.proxy.port, version=ServerVersion.STABLE)],
        connection_pool_factory_fn=connection_pool_factory_builder(connection_timeout=10, recv_timeout=10),
    )


VALUES = ["text", b"\0\xff\r\nEN\r\n", 5, {"a": [1, 2]}, "x" * 300_000, b""]


@pytest.mark.parametrize("stored", VALUES, ids=lambda stored: repr(stored)[:20])
@pytest.mark.parametrize("odd", ["", "\u00e9 \u20ac", "k" * 300], ids=["plain key", "other letters", "long key"])
def test_a_value_there_and_back(client, key, stored, odd):
    name = Key((key + odd).replace("[", "").replace("]", "")[:200] + odd)
    assert client.set(name, stored, ttl=TTL)
    assert client.get(name) == stored
    assert client.delete(name)
    assert client.get(name) is None


def test_several_at_once(client, key):
    keys = [Key(f"{key}{number}") for number in range(200)]
    for name in keys[::2]:
        assert client.set(name, name.key, ttl=TTL)
    found = client.multi_get(keys)
    assert {name.key for name, value in found.items() if value is not None} == {name.key for name in keys[::2]}


def test_without_an_answer(client, key):
    assert client.set(key, "x", ttl=TTL, no_reply=True)
    assert client.get(key) == "x"
    assert client.delete(key, no_reply=True)
    assert client.get(key) is None


def test_cas(client, key):
    client.set(key, "old", ttl=TTL)
    _, token = client.get_cas(key)
    assert client.set(key, "new", ttl=TTL, cas_token=token)
    assert not client.set(key, "newer", ttl=TTL, cas_token=token)
    assert client.get(key) == "new"


def test_counters(client, key):
    assert not client.delta(key, 3)
    assert client.delta_initialize_and_get(key, 3, initial_value=10, initial_ttl=TTL) == 10
    assert client.delta_and_get(key, 5) == 15
    assert client.delta_and_get(key, -100) == 0


def test_touch(client, key):
    assert not client.touch(key, ttl=TTL)
    client.set(key, "x", ttl=TTL)
    assert client.touch(key, ttl=2 * TTL)
    assert client.get(key, touch_ttl=TTL) == "x"


def test_one_client_makes_a_stale_value_anew(client, key):
    client.set(key, "old", ttl=TTL)
    assert client.invalidate(key, stale_policy=StalePolicy(mark_stale_on_deletion_ttl=30))
    policy = RecachePolicy(ttl=30)
    assert client.get(key, recache_policy=policy) is None, "the first is to make it"
    assert client.get(key, recache_policy=policy) == "old"
