"""Items of a real memcached, and replies that are not valid."""

import pytest
from support.packets import ask, store
from support.scripted import close, expect, say
from support.talk import storage

from gmproxy.backend.item_reader import ItemReader
from gmproxy.errors import BackendError
from gmproxy.placement.server_spec import parse_servers

BIG = b"x" * 700_000


class Options:
    connect_timeout = 10.0
    server_auth_file = None


def reader(address):
    (server,) = parse_servers(address)
    return ItemReader(server, Options())


def test_items_of_a_server(memcached):
    server = memcached()
    with server.talk() as talk:
        for key, data, flags in ((b"a", b"one", 0), (b"b", b"one", 7), (b"c", b"", 0), (b"same", b"one", 0), (b"big", BIG, 1)):
            talk.expect(storage(b"set", key, data, flags=flags), b"STORED\r\n")
    with server.talk() as talk:
        ask(talk, store("set", b"with blank", b"two", flags=5))
    with reader(server.address) as connection:
        for _ in range(2):
            items = connection.read_items([b"a", b"b", b"c", b"same", b"big", b"none", b"with blank", b"no blank either"])
            assert set(items) == {b"a", b"b", b"c", b"same", b"big", b"with blank"}
            assert items[b"a"] == items[b"same"] != items[b"b"]
            assert (items[b"b"].flags, items[b"big"].size, items[b"c"].size) == (7, len(BIG), 0)
            assert (items[b"with blank"].flags, items[b"with blank"].size) == (5, 3)
        assert connection.read_items([b"none"]) == {}
        assert connection.find([b"a", b"none", b"big", b"with blank", b"no blank either"]) == {b"a", b"big", b"with blank"}
        assert connection.find([b"none"]) == set()


def test_a_server_without_meta_commands(scripted):
    backend = scripted(
        [
            expect(b"me k\r\nme l\r\n"),
            say(b"ERROR\r\nERROR\r\n"),
            *[expect(b"get k l\r\n"), say(b"VALUE l 0 1\r\n5\r\nEND\r\n")] * 2,
            close(),
        ]
    )
    with reader(backend.address) as connection:
        assert connection.find([b"k", b"l"]) == connection.find([b"k", b"l"]) == {b"l"}


@pytest.mark.parametrize(
    "reply, error",
    [
        (b"SERVER_ERROR busy\r\n", "unexpected reply to get"),
        (b"VALUE k 0 x\r\n", "unexpected reply to get"),
        (b"VALUE k 0 1\r\nab\r\nEND\r\n", "no end of line after a value"),
        (b"V" * 10_000, "longer than"),
        (b"VALUE k 0 5\r\nab", "closed"),
    ],
)
def test_invalid_replies(scripted, reply, error):
    backend = scripted([expect(b"get k\r\n"), say(reply), close()])
    with pytest.raises(BackendError, match=error), reader(backend.address) as connection:
        connection.read_items([b"k"])
