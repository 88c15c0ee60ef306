"""Conditional writes and the backup or the replicas: they never have another value than the primary."""

from contextlib import closing

import pytest
from support.timing import eventually

base = pytest.importorskip("pymemcache.client.base")


@pytest.fixture
def client(own_shop):
    options = {"timeout": 10, "default_noreply": False}
    with closing(base.Client((own_shop.proxy.host, own_shop.proxy.port), **options)) as made:
        yield made


def on_copies(shop, key):
    """The values on the backup, or on all servers of the replicas."""
    found = []
    for server in shop.copies:
        with closing(base.Client((server.host, server.port))) as copy:
            found.append(copy.get(key))
    return found


def count_on(server):
    """Increase the cas numbers of `server`, so that they differ from those of the other servers."""
    with server.talk() as talk:
        for _ in range(5):
            talk.expect(b"set other 0 0 1\r\n1\r\n", b"STORED\r\n")


def test_cas(own_shop, client):
    for server in own_shop.primaries:
        count_on(server)
    client.set("key", b"old")
    _, unique = client.gets("key")
    assert client.cas("key", b"new", unique)
    for server in own_shop.primaries:
        server.kill()
    assert client.get("key") == b"new"


def test_an_add_that_is_refused_is_refused_everywhere(own_shop, client):
    client.set("key", b"value")
    for server in own_shop.copies:
        server.restart()
    assert client.add("key", b"refused") is False
    client.set("later", b"1")
    eventually(lambda: on_copies(own_shop, "later").count(b"1") == own_shop.copies_of_a_key, what="the copies receive writes again")
    assert set(on_copies(own_shop, "key")) <= {None, b"value"}
