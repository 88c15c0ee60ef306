"""The first line of the reply to a meta command, parsed and with another cas number."""

import pytest

from gmproxy.protocol.meta_header import MetaHeader, number_of, replace_cas


@pytest.mark.parametrize(
    "reply, code, flags, data_start",
    [
        (b"EN\r\n", b"EN", [], 4),
        (b"HD\r\n", b"HD", [], 4),
        (b"HD c7 ka Oq\r\n", b"HD", [b"c7", b"ka", b"Oq"], 13),
        (b"VA 2 f5 t-1\r\nhi\r\n", b"VA", [b"f5", b"t-1"], 13),
        (b"VA 2\r\n\r\n\r\n", b"VA", [], 6),
        (b"CLIENT_ERROR bad\r\n", b"CLIENT_ERROR", [b"bad"], 18),
    ],
)
def test_a_reply_taken_apart(reply, code, flags, data_start):
    header = MetaHeader()
    header.parse(b"VA 1 x1 y2\r\n1\r\n")  # the reply that was parsed before leaves nothing
    header.parse(reply)
    assert (header.code, header.flags, header.data_start) == (code, flags, data_start)


def test_a_reply_without_a_line_end():
    with pytest.raises(ValueError):
        MetaHeader().parse(b"HD")


def test_numbers_of_flags():
    header = MetaHeader()
    header.parse(b"HD c7 f t-1 sx\r\n")
    assert [header.number(letter, 99) for letter in (b"c", b"f", b"t", b"s", b"z")] == [7, 99, 99, 99, 99]


@pytest.mark.parametrize("word, number", [(b"7", 7), (b"", 5), (b"-1", 5), (b"x", 5), (b"9" * 30, int("9" * 20))])
def test_a_number_that_is_none_stops_nothing(word, number):
    assert number_of(word, 5) == number


@pytest.mark.parametrize(
    "reply, replaced",
    [
        (b"HD c7 k1\r\n", b"HD c8 k1\r\n"),
        (b"VA 2 f5 c7\r\nc7\r\n", b"VA 2 f5 c8\r\nc7\r\n"),
        (b"HD f7\r\n", b"HD f7\r\n"),
        (b"HD cx\r\n", b"HD cx\r\n"),
    ],
)
def test_another_cas_number(reply, replaced):
    assert replace_cas(reply, lambda number: number + 1) == replaced
