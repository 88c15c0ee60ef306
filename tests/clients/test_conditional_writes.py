"""Conditional writes and the backup: it never has another value than the primary."""

from contextlib import closing

import pytest
from support.timing import eventually

base = pytest.importorskip("pymemcache.client.base")


@pytest.fixture
def client(own_shop):
    options = {"timeout": 10, "default_noreply": False}
    with closing(base.Client((own_shop.proxy.host, own_shop.proxy.port), **options)) as made:
        yield made


def on_backup(shop, key):
    with closing(base.Client((shop.backup.host, shop.backup.port))) as backup:
        return backup.get(key)


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
    own_shop.backup.restart()
    assert client.add("key", b"refused") is False
    client.set("later", b"1")
    eventually(lambda: on_backup(own_shop, "later"), what="the backup receives writes again")
    assert on_backup(own_shop, "key") in (None, b"value")
