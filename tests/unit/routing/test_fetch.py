"""What a fetch asks the backup for, and how the primary is filled with it. When this is done is tested in test_fill.py."""

import time

import pytest
from support.replication import sources_of
from support.requests import request_for
from support.routes import Client, KeepingServer

from gmproxy.routing.fetch import FetchForRead
from gmproxy.routing.fill_rules import FillRules

DAY = 86400


def filled_with(reply, protocol="text", key=b"k"):
    """(the lookup, the fill) for a get of `key`, if the backup replies `reply` to the lookup."""
    primary, backup = KeepingServer(1), KeepingServer(2, set_index=1)
    primary.options.backend_protocol = protocol
    primary.options.refill_ttl = 30 * DAY
    source = sources_of(backup)
    request = request_for(b"get k\r\n")
    request.key = key
    request.sink = Client()
    request.reply = b"END\r\n"
    FetchForRead(request, primary, source, primary, FillRules(primary.options)).start()
    (lookup,) = backup.sent
    backup.answer(lookup, reply)
    (fill,) = primary.sent
    return lookup.line, fill.line


@pytest.mark.parametrize(
    "protocol, key, looked_up, fill",
    [
        ("text", b"k", b"mg k f t v\r\n", b"add k 7 %d 1\r\n5\r\n"),
        ("text", b"a b", b"mg YSBi b f t v\r\n", b"ms YSBi 1 b ME F7 T%d\r\n5\r\n"),
    ],
)
@pytest.mark.parametrize("life", [1, 30 * DAY - 1, 30 * DAY, 30 * DAY + 1, 400 * DAY])
def test_a_life_of_more_than_30_days_is_sent_as_a_date(protocol, key, looked_up, fill, life):
    lookup, line = filled_with(b"VA 1 f7 t%d\r\n5\r\n" % life, protocol, key)
    assert lookup == looked_up
    exptime = life if life <= 30 * DAY else int(time.time()) + life
    assert line in [fill % (exptime - late) for late in range(30)]


def test_a_date_that_memcached_cannot_store_becomes_the_last_one():
    assert filled_with(b"VA 1 f7 t%d\r\n5\r\n" % 2**31)[1] == b"add k 7 %d 1\r\n5\r\n" % (2**31 - 1)


def test_a_server_of_the_binary_protocol_is_not_asked_for_the_life():
    assert filled_with(b"VA 1 f7\r\n5\r\n", "binary") == (b"mg k f v\r\n", b"add k 7 %d 1\r\n5\r\n" % (30 * DAY))
