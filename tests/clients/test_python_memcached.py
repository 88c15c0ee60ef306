"""python-memcached, used as with a memcached server."""

import pytest
from support.threads import run_in_threads
from support.timing import eventually

memcache = pytest.importorskip("memcache")

THREADS = 16
ROUNDS = 60


def connect(shop, **options):
    # With dead_retry 0 and debug a server that is marked dead is reported; otherwise every error would be a silent miss.
    return memcache.Client([f"{shop.proxy.host}:{shop.proxy.port}"], debug=True, dead_retry=0, **options)


@pytest.fixture
def client(shop, capfd):
    made = connect(shop)
    yield made
    assert "MemCached: MemCache:" not in capfd.readouterr().err  # it prints this when it marks a server as dead
    made.disconnect_all()


VALUES = [
    "text",
    "smörgåsbord \N{SNOWMAN}",
    b"bytes \0\r\nEND\r\n\xff",
    42,
    -7,
    2**70,
    3.5,
    None,
    True,
    {"a": [1, 2, (3,)]},
    "",
    b"",
    "x" * 100_000,
]


@pytest.mark.parametrize("value", VALUES, ids=[f"{number}_{type(value).__name__}" for number, value in enumerate(VALUES)])
def test_every_kind_of_value(client, key, value):
    assert client.set(key, value)
    assert client.get(key) == value
    assert type(client.get(key)) is type(value)


@pytest.mark.parametrize("key", ["plain", "käse", "\N{SNOWMAN}" * 80, "k" * 250, b"\xff\xfe\x80"], ids=range(5))
def test_every_kind_of_key(client, key):
    assert client.set(key, "value")
    assert client.get(key) == "value"
    assert client.delete(key)
    assert client.get(key) is None


def test_add_and_replace(client, key):
    assert not client.replace(key, 1)
    assert client.add(key, 2)
    assert not client.add(key, 3)
    assert client.replace(key, 4)
    assert client.get(key) == 4


def test_append_and_prepend(client, key):
    assert not client.append(key, "x")
    assert not client.prepend(key, "x")
    client.set(key, "b")
    assert client.append(key, "c")
    assert client.prepend(key, "a")
    assert client.get(key) == "abc"


def test_delete(client, key):
    client.set(key, 1)
    assert client.delete(key)
    assert client.get(key) is None
    assert not client.delete(key)


def test_incr_and_decr(client, key):
    assert client.incr(key) is None
    client.set(key, 5)
    assert client.incr(key) == 6
    assert client.incr(key, 10) == 16
    assert client.decr(key, 3) == 13
    assert client.decr(key, 100) == 0
    assert client.get(key) == 0


def test_cas(shop, key):
    ours, theirs = connect(shop, cache_cas=True), connect(shop, cache_cas=True)
    ours.set(key, "first")
    assert (ours.gets(key), theirs.gets(key)) == ("first", "first")
    assert ours.cas(key, "second")
    assert not theirs.cas(key, "lost")
    assert theirs.gets(key) == "second"
    assert theirs.cas(key, "third")
    assert ours.get(key) == "third"


def test_touch(client, key):
    assert not client.touch(key, 100)
    client.set(key, 1)
    assert client.touch(key, 100)
    assert client.touch(key, -1)
    assert client.get(key) is None


def test_expired_at_once(client, key):
    assert client.set(key, 1, time=-1)
    assert client.get(key) is None


def test_many_at_once(client, key):
    mapping = {f"{key}-{number}": f"value {number}" for number in range(300)}
    assert client.set_multi(mapping) == []
    assert client.get_multi([*mapping, f"{key}-none"]) == mapping
    assert client.delete_multi(list(mapping)[:150])
    assert client.get_multi(mapping) == dict(list(mapping.items())[150:])


def test_many_with_a_prefix(client, key):
    assert client.set_multi({"a": 1, "b": 2}, key_prefix=key) == []
    assert client.get(key + "a") == 1
    assert client.get_multi(["a", "b", "c"], key_prefix=key) == {"a": 1, "b": 2}


def test_noreply(client, key):
    assert client.set(key, 1, noreply=True)
    assert client.get(key) == 1
    client.incr(key, 5, noreply=True)
    client.replace(key + "none", 5, noreply=True)
    client.append(key, "0", noreply=True)
    assert client.get(key) == 60
    client.delete(key, noreply=True)
    assert client.get(key) is None
    assert client.set_multi({key: 2}, noreply=True) == []
    assert client.delete_multi([key + "none"], noreply=True)
    assert client.get(key) == 2


def test_large_and_too_large(shop, client, key):
    roomy = connect(shop, server_max_value_length=3_000_000)
    largest = b"x" * 1_000_000
    assert roomy.set(key, largest)
    assert client.get(key) == largest
    assert not roomy.set(key, b"x" * 1_500_000)
    assert client.get(key) is None  # the refused set has removed the old value
    assert roomy.set(key, b"small again")
    assert roomy.get(key) == b"small again"


def test_compressed(client, key):
    value = "all the same " * 10_000
    assert client.set(key, value, min_compress_len=100)
    assert client.get(key) == value


def test_stats(client):
    ((server, stats),) = client.get_stats()
    assert stats["version"].startswith("1.6")
    assert int(stats["curr_connections"]) >= 1


def test_stats_of_the_servers(client, key):
    for number in range(20):
        client.set(f"{key}{number}", number)

    def told(words=None):
        ((server, stats),) = client.get_stats(words)
        return stats

    def items():
        return sum(int(count) for name, count in told("items").items() if name.endswith(":number"))

    eventually(lambda: int(told()["curr_items"]) == items() >= 20, what="what was heard a moment ago is forgotten")
    assert int(told()["limit_maxbytes"]) > 0 and int(told()["cmd_set"]) >= 20
    ((server, slabs),) = client.get_stats("slabs")
    assert int(slabs["active_slabs"]) >= 1
    ((server, backends),) = client.get_stats("backends")
    assert backends["1:state"].strip() in ("up", "warming")
    ((server, pools),) = client.get_stats("pools")
    assert int(pools["default:curr_connections"]) >= 1


def test_flush_all(client, shop, key):
    keys = [f"{key}{number}" for number in range(20)]
    client.set_multi(dict.fromkeys(keys, 1))
    client.flush_all()
    assert client.get_multi(keys) == {}
    servers = [*shop.primaries, *shop.copies]
    assert [server.stats()["cmd_flush"] for server in servers] == [1] * len(servers)


def test_many_threads(shop):
    """Each client reads the values that it wrote itself."""
    troubles = []

    def work(number):
        client = connect(shop)
        for turn in range(ROUNDS):
            mine = {f"thread{number}-{turn}-{part}": f"{number} {turn} {part} " * (part * 20) for part in range(5)}
            client.set_multi(mine)
            if client.get_multi(mine) != mine or client.get(f"thread{number}-{turn}-3") != mine[f"thread{number}-{turn}-3"]:
                troubles.append((number, turn))
        client.disconnect_all()

    run_in_threads(work, THREADS)
    assert not troubles


def test_nobody_notices_that_a_server_dies(own_shop):
    client = connect(own_shop)
    mapping = {f"key{number}": f"value {number}" for number in range(50)}
    assert client.set_multi(mapping) == []
    own_shop.primaries[0].kill()
    assert client.get_multi(mapping) == mapping
    assert {key: client.get(key) for key in mapping} == mapping
    assert client.set_multi(dict.fromkeys(mapping, "new")) == []
    assert client.get_multi(mapping) == dict.fromkeys(mapping, "new")
