"""What is read from a backup's reply to a fetch. How it is used is tested in routing/test_fill.py."""

import pytest

from gmproxy.protocol.fetched_item import Item, parse_get, parse_meta_get


@pytest.mark.parametrize(
    "reply, read",
    [
        (b"EN\r\n", None),
        (b"SERVER_ERROR x\r\n", None),
        (b"VA 5 f7 t60\r\nhello\r\n", (7, 60, b"hello\r\n")),
        (b"VA 0 f0 t-1\r\n\r\n", (0, 0, b"\r\n")),
        (b"VA 4 t0 f4294967295\r\n\r\n\r\n\r\n", (4294967295, 0, b"\r\n\r\n\r\n")),
        (b"VA 2 f1\r\nhi\r\n", (1, 99, b"hi\r\n")),
        (b"VA 2\r\nhi\r\n", (0, 99, b"hi\r\n")),
        (b"VA 2 f1 t60 c5\r\nhi\r\n", (1, 60, b"hi\r\n", 5)),
    ],
)
def test_read_meta_takes_the_life_it_is_given_where_none_is_told(reply, read):
    assert parse_meta_get(reply, 99) == (read and Item(*read))


@pytest.mark.parametrize(
    "reply, read",
    [
        (b"END\r\n", None),
        (b"SERVER_ERROR x\r\n", None),
        (b"VALUE a 7 5\r\nhello\r\nEND\r\n", (7, 99, b"hello\r\n")),
        (b"VALUE a 0 0\r\n\r\nEND\r\n", (0, 99, b"\r\n")),
        (b"VALUE a 0 2 5\r\nhi\r\nEND\r\n", (0, 99, b"hi\r\n", 5)),
        (b"VALUE a 0 5\r\nEND\r\n\r\nEND\r\n", (0, 99, b"END\r\n\r\n")),
    ],
)
def test_read_plain_takes_the_life_it_is_given(reply, read):
    assert parse_get(reply, 99) == (read and Item(*read))
