"""python-binary-memcached, which uses only the binary protocol."""

import pytest

bmemcached = pytest.importorskip("bmemcached")


@pytest.fixture
def client(shop):
    made = bmemcached.Client((f"{shop.proxy.host}:{shop.proxy.port}",))
    yield made
    made.disconnect_all()


VALUES = ["text", b"\0\xff\r\nEND\r\n", 5, {"a": [1, 2]}, "x" * 300_000, b""]


@pytest.mark.parametrize("stored", VALUES, ids=lambda stored: repr(stored)[:20])
def test_a_value_there_and_back(client, key, stored):
    assert client.set(key, stored)
    assert client.get(key) == stored
    assert client.delete(key)
    assert client.get(key) is None


def test_add_and_replace(client, key):
    assert not client.replace(key, 1)
    assert client.add(key, 1)
    assert not client.add(key, 2)
    assert client.replace(key, 3)
    assert client.get(key) == 3


def test_several(client, key):
    """It stores with quiet sets and reads with quiet gets. Each batch ends with a noop."""
    values = {f"{key}{number}": number for number in range(300)}
    assert not client.set_multi(values)
    assert client.get_multi([*values, "none"]) == values
    assert client.delete_multi([*values][:10])
    assert client.get_multi([*values][:20]) == dict([*values.items()][10:20])


def test_cas(client, key):
    client.set(key, "old")
    _, cas = client.gets(key)
    assert client.cas(key, "new", cas)
    assert not client.cas(key, "newer", cas)
    assert client.get(key) == "new"


def test_counters(client, key):
    client.delete(key)
    assert client.incr(key, 3, default=10) == 10
    assert client.incr(key, 3) == 13
    assert client.decr(key, 100) == 0


def test_flush_and_statistics(client, key):
    client.set(key, "x")
    assert client.flush_all()
    assert client.get(key) is None
    (stats,) = client.stats().values()
    assert stats["version"].startswith(b"1.6.")
