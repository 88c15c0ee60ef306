"""The header of a value: which forms are valid, and which fields are found in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmproxy.protocol.value_blocks import values_in
from gmproxy.protocol.value_header import ValueHeader

FIELDS = ("key_start", "key_end", "flags", "length", "cas", "has_cas", "data_start", "end")


def parse(reply: bytes, start: int = 0) -> tuple[object, ...] | None:
    header = ValueHeader()
    return tuple(getattr(header, field) for field in FIELDS) if header.parse_value(reply, start) else None


@pytest.mark.parametrize(
    "reply, fields",
    [
        (b"VALUE a 0 5\r\nhello\r\n", (6, 7, 0, 5, 0, False, 13, 20)),
        (b"VALUE abc 4294967295 0 7\r\n\r\nEND\r\n", (6, 9, 4294967295, 0, 7, True, 26, 28)),
        (b"VALUE a 0000000009 0000000001 18446744073709551615\r\nx\r\n", (6, 7, 9, 1, 2**64 - 1, True, 52, 55)),
        (b"VALUE a 0 1 18446744073709551616\r\nx\r\n", (6, 7, 0, 1, 0, True, 34, 37)),
    ],
)
def test_what_is_found(reply, fields):
    assert parse(reply) == fields


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"END\r\n",
        b"VALUE ",
        b"VALUE a",
        b"VALUE  0 1\r\nx\r\n",
        b"VALUE a 0\r\n",
        b"VALUE a 0 1",
        b"VALUE a 0 1\r",
        b"VALUE a 0 1\nx\r\n",
        b"VALUE a 0 1\r\nx\r",
        b"VALUE a 0 1 \r\nx\r\n",
        b"VALUE a 0 1 2 3\r\nx\r\n",
        b"VALUE a  0 1\r\nx\r\n",
        b"VALUE a 0 -1\r\nx\r\n",
        b"VALUE a +0 1\r\nx\r\n",
        b"VALUE a 0 00000000001\r\nx\r\n",
        b"VALUE a 00000000000 1\r\nx\r\n",
        b"VALUE a 0 1 " + b"1" * 21 + b"\r\nx\r\n",
        b"VALUE a 0 \xd9\xa1\r\nx\r\n",
        b"value a 0 1\r\nx\r\n",
    ],
)
def test_what_is_no_whole_value(reply):
    assert parse(reply) is None


number = st.integers(0, 2**32 - 1)


@given(
    st.lists(
        st.tuples(st.from_regex(rb"[!-~]{1,20}", fullmatch=True), number, st.binary(max_size=40), st.none() | st.integers(0, 2**64 - 1)),
        max_size=5,
    )
)
def test_all_values_of_a_reply(values):
    blocks = [
        b"VALUE %b %d %d%b\r\n%b\r\n" % (key, flags, len(data), b"" if cas is None else b" %d" % cas, data)
        for key, flags, data, cas in values
    ]
    reply = b"".join([*blocks, b"END\r\n"])
    found = [
        (
            reply[header.key_start : header.key_end],
            header.flags,
            reply[header.data_start : header.end - 2],
            header.cas if header.has_cas else None,
        )
        for header in values_in(reply)
    ]
    assert found == values
