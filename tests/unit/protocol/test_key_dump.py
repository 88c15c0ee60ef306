"""A listing of keys: which server is sent which command, and where its reply ends."""

import pytest

from gmproxy.protocol.key_dump import BAD_CLASS, BAD_FORMAT, BAD_LINE, ERROR, ILLEGAL_CLASS, Refused, parse_key_dump

SERVERS = 3


def lines(command, found=0):
    name, *words = command.split()
    dump = parse_key_dump(name, words, SERVERS)
    return [dump.line(server, found) for server in range(SERVERS)]


@pytest.mark.parametrize(
    "command, expected",
    [
        (b"lru_crawler metadump all", [b"lru_crawler metadump all\r\n"] * 3),
        (b"lru_crawler mgdump hash", [b"lru_crawler mgdump hash\r\n"] * 3),
        (b"lru_crawler metadump 1,63", [b"lru_crawler metadump 1,63\r\n"] * 3),
        (b"lru_crawler metadump 1005", [b"lru_crawler metadump 5\r\n", None, None]),
        (b"lru_crawler metadump 3005,3001,2007", [None, b"lru_crawler metadump 7\r\n", b"lru_crawler metadump 5,1\r\n"]),
        (b"stats cachedump 5 0", [b"stats cachedump 5 0\r\n"] * 3),
        (b"stats cachedump 2005 10 more", [None, b"stats cachedump 5 10\r\n", None]),
    ],
)
def test_what_servers_are_asked(command, expected):
    assert lines(command) == expected


def test_a_limit_is_that_of_all_servers():
    assert lines(b"stats cachedump 5 10", found=4) == [b"stats cachedump 5 6\r\n"] * 3
    assert lines(b"stats cachedump 5 10", found=10) == [None] * 3
    assert lines(b"stats cachedump 5 0", found=10**6) == [b"stats cachedump 5 0\r\n"] * 3


@pytest.mark.parametrize(
    "command, reply",
    [
        (b"lru_crawler", ERROR),
        (b"lru_crawler enable", ERROR),
        (b"lru_crawler metadump", ERROR),
        (b"lru_crawler metadump all all", ERROR),
        (b"lru_crawler metadump some", BAD_CLASS),
        (b"lru_crawler metadump 0", BAD_CLASS),
        (b"lru_crawler metadump 64", BAD_CLASS),
        (b"lru_crawler metadump 1,", BAD_CLASS),
        (b"lru_crawler metadump 4001", BAD_CLASS),
        (b"lru_crawler metadump -1", BAD_CLASS),
        (b"stats cachedump", BAD_LINE),
        (b"stats cachedump 1", BAD_LINE),
        (b"stats cachedump a 1", BAD_FORMAT),
        (b"stats cachedump 1 a", BAD_FORMAT),
        (b"stats cachedump 64 1", ILLEGAL_CLASS),
        (b"stats cachedump 255 1", ILLEGAL_CLASS),
        (b"stats cachedump 4001 1", ILLEGAL_CLASS),
    ],
)
def test_what_cannot_be_asked(command, reply):
    name, *words = command.split()
    with pytest.raises(Refused) as refused:
        parse_key_dump(name, words, SERVERS)
    assert refused.value.reply == reply


@pytest.mark.parametrize(
    "command, item",
    [
        (b"lru_crawler metadump all", b"key=a exp=-1 \n"),
        (b"lru_crawler mgdump all", b"mg a\r\n"),
        (b"stats cachedump 1 0", b"ITEM a [1 b; 0 s]\r\n"),
    ],
)
def test_where_an_answer_ends(command, item):
    name, *words = command.split()
    dump = parse_key_dump(name, words, SERVERS)
    for whole in (dump.end, b"OK\r\n" + dump.end, item + dump.end, b"OK\r\n" + item * 2 + dump.end):
        assert not dump.is_refusal(whole[: whole.index(b"\n") + 1])
        assert [dump.is_whole(whole[:size]) for size in range(len(whole) + 1)] == [False] * len(whole) + [True]
    assert dump.items_from(b"OK\r\n" + item) == 4 and dump.items_from(item) == 0
    for refusal in (b"BUSY currently processing crawler request\r\n", b"ERROR\r\n", b"BADCLASS invalid class id\r\n", b"\r\n"):
        assert dump.is_refusal(refusal)
