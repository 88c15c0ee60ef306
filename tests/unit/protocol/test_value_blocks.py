"""The value blocks of a reply, parsed and put together."""

import pytest

from gmproxy.protocol.value_blocks import blocks_by_key, in_order

A = b"VALUE a 0 1\r\n1\r\n"
A_AGAIN = b"VALUE a 0 1\r\n2\r\n"
END_INSIDE = b"VALUE b 0 18\r\nEND\r\nVALUE c 0 1\r\n\r\n"
END = b"END\r\n"


@pytest.mark.parametrize(
    "reply, found",
    [
        (END, {}),
        (b"SERVER_ERROR x\r\n", {}),
        (A + END, {b"a": [A]}),
        (A + END_INSIDE + END, {b"a": [A], b"b": [END_INSIDE]}),
        (A + A_AGAIN + END, {b"a": [A, A_AGAIN]}),
    ],
)
def test_blocks_by_key(reply, found):
    assert blocks_by_key(reply) == found


@pytest.mark.parametrize(
    "keys, answer",
    [
        ([], END),
        ([b"b", b"a"], END_INSIDE + A + END),
        ([b"a", b"x", b"a", b"b", b"a"], A + A_AGAIN + END_INSIDE + END),
    ],
)
def test_in_order(keys, answer):
    assert in_order(keys, {b"a": [A, A_AGAIN], b"b": [END_INSIDE]}) == answer
