"""The packets that a server of the binary protocol replies, rendered as the reply of a text server."""

import struct

import pytest
from support.requests import parsed_request

from gmproxy.errors import LOGIN, PROTOCOL, BackendError
from gmproxy.protocol import key_list
from gmproxy.protocol.binary import server_requests
from gmproxy.protocol.binary.packets import EXISTS, NOT_FOUND, NOT_STORED, OK


def answered(line, *answers):
    """The reply after the server has sent `answers`, each of (place, status, cas, flags, value)."""
    pending, _ = server_requests.encode_request(parsed_request(line), 0)
    replies = [pending.on_packet(*answer) for answer in answers]
    assert not any(replies[:-1])
    return replies[-1], pending.values_found


def number(value):
    return struct.pack(">Q", value)


END = b"END\r\n"

KNOWS_NONE = b"CLIENT_ERROR the binary protocol of the server does not support "

ANSWERED = [
    (b"get a\r\n", (OK, 7, 5, b"\r\n"), b"VALUE a 5 2\r\n\r\n\r\n" + END),
    (b"gets a\r\n", (OK, 7, 2**32 - 1, b""), b"VALUE a 4294967295 0 7\r\n\r\n" + END),
    (b"get a\r\n", (NOT_FOUND, 0, 0, b"Not found"), END),
    (b"get a\r\n", (0x82, 0, 0, b"Out of memory"), b"SERVER_ERROR Out of memory\r\n"),
    (b"set a 0 0 0\r\n\r\n", (OK, 7, 0, b""), b"STORED\r\n"),
    (b"set a 0 0 0\r\n\r\n", (3, 0, 0, b"Too large."), b"SERVER_ERROR object too large for cache\r\n"),
    (b"set a 0 0 0\r\n\r\n", (0x82, 0, 0, b"Out of memory"), b"SERVER_ERROR out of memory storing object\r\n"),
    (b"set a 0 0 0\r\n\r\n", (0x86, 0, 0, b"Temporary\r\nfailure"), b"SERVER_ERROR Temporary failure\r\n"),
    (b"set a 0 0 0\r\n\r\n", (0x86, 0, 0, b""), b"SERVER_ERROR status 0x0086\r\n"),
    (b"add a 0 0 0\r\n\r\n", (EXISTS, 0, 0, b""), b"NOT_STORED\r\n"),
    (b"replace a 0 0 0\r\n\r\n", (NOT_FOUND, 0, 0, b""), b"NOT_STORED\r\n"),
    (b"append a 0 0 0\r\n\r\n", (NOT_STORED, 0, 0, b""), b"NOT_STORED\r\n"),
    (b"append a 0 0 0\r\n\r\n", (NOT_FOUND, 0, 0, b""), b"NOT_STORED\r\n"),
    (b"cas a 0 0 0 7\r\n\r\n", (EXISTS, 0, 0, b""), b"EXISTS\r\n"),
    (b"cas a 0 0 0 7\r\n\r\n", (NOT_FOUND, 0, 0, b""), b"NOT_FOUND\r\n"),
    (b"incr a 1\r\n", (OK, 7, 0, number(2**64 - 1)), b"18446744073709551615\r\n"),
    (b"incr a 1\r\n", (NOT_FOUND, 0, 0, b""), b"NOT_FOUND\r\n"),
    (b"incr a 1\r\n", (6, 0, 0, b""), b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
    (b"incr a x\r\n", (OK, 0, 0, b""), b"CLIENT_ERROR invalid numeric delta argument\r\n"),
    (b"delete a\r\n", (OK, 0, 0, b""), b"DELETED\r\n"),
    (b"touch a 0\r\n", (OK, 7, 0, b""), b"TOUCHED\r\n"),
    (b"flush_all\r\n", (OK, 0, 0, b""), b"OK\r\n"),
    (b"flush_all\r\n", (0x20, 0, 0, b"Auth failure."), b"CLIENT_ERROR flush_all not allowed\r\n"),
    (b"mg a v k c O1 f s\r\n", (OK, 7, 5, b"xyz"), b"VA 3 ka c7 O1 f5 s3\r\nxyz\r\n"),
    (b"mg YSBi b k s\r\n", (OK, 7, 5, b"xyz"), b"HD kYSBi b s3\r\n"),
    (b"mg a k O1\r\n", (NOT_FOUND, 0, 0, b""), b"EN\r\n"),
    (b"mg a t\r\n", (OK, 0, 0, b""), KNOWS_NONE + b"flag t of mg\r\n"),
    (b"ms a 0 ME c k\r\n\r\n", (OK, 7, 0, b""), b"HD c7 ka\r\n"),
    (b"ms a 0 ME c k\r\n\r\n", (EXISTS, 7, 0, b""), b"NS c0 ka\r\n"),
    (b"ms a 0 C7\r\n\r\n", (EXISTS, 0, 0, b""), b"EX\r\n"),
    (b"ms a 0 C7 O1\r\n\r\n", (NOT_FOUND, 0, 0, b""), b"NF O1\r\n"),
    (b"ms a 0 I\r\n\r\n", (OK, 0, 0, b""), KNOWS_NONE + b"flag I of ms\r\n"),
    (b"ms a 0 x\r\n\r\n", (OK, 0, 0, b""), b"CLIENT_ERROR invalid flag\r\n"),
    (b"md a k c\r\n", (OK, 0, 0, b""), b"HD ka\r\n"),
    (b"md a x\r\n", (OK, 0, 0, b""), b"CLIENT_ERROR invalid flag\r\n"),
    (b"ma a v c t\r\n", (OK, 0, 0, b""), KNOWS_NONE + b"flag t of ma\r\n"),
    (b"ma a v c O1\r\n", (OK, 7, 0, number(12)), b"VA 2 c7 O1\r\n12\r\n"),
    (b"ma a c k\r\n", (OK, 7, 0, number(12)), b"HD c7 ka\r\n"),
    (b"ma a c k\r\n", (NOT_FOUND, 0, 0, b""), b"NF ka\r\n"),
    (b"ma a\r\n", (6, 0, 0, b""), b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
    (b"me a\r\n", (OK, 0, 0, b""), KNOWS_NONE + b"me\r\n"),
]


@pytest.mark.parametrize("line, answer, reply", ANSWERED, ids=[f"{line} {answer[0]}" for line, answer, _ in ANSWERED])
def test_how_an_answer_reads(line, answer, reply):
    assert answered(line, (0, *answer))[0] == reply


END_OF_THREE = (3, OK, 0, 0, b"")


def test_of_several_keys_those_that_were_found():
    reply, found = answered(b"get a b c\r\n", (0, OK, 7, 1, b"one"), (2, OK, 8, 0, b""), END_OF_THREE)
    assert (reply, found) == (b"VALUE a 1 3\r\none\r\nVALUE c 0 0\r\n\r\n" + END, 2)
    assert answered(b"get a b c\r\n", END_OF_THREE) == (END, 0)


def test_a_failure_takes_the_place_of_all_values():
    reply, found = answered(b"get a b c\r\n", (0, OK, 7, 1, b"one"), (1, 0x82, 0, 0, b"Out of memory"), (2, OK, 8, 0, b""), END_OF_THREE)
    assert (reply, found) == (b"SERVER_ERROR Out of memory\r\n", 0)


def test_where_the_values_are_is_noted():
    """For merging the replies of several servers."""
    keys = key_list.KeyList([b"a", b"x", b"b", b"c", b"y"])
    division = key_list.KeyPartition(keys, [0, 1, 0, 0, 1], [0, 1])
    requests = [parsed_request(b"get a b c\r\n"), parsed_request(b"get x y\r\n")]
    answers = [[(0, OK, 7, 1, b"one"), (2, OK, 8, 0, b""), END_OF_THREE], [(0, OK, 0, 0, b"X"), (2, OK, 0, 0, b"")]]
    for request, part, taken in zip(requests, division.parts, answers):
        request.keys = part
        pending, _ = server_requests.encode_request(request, 0)
        for answer in taken:
            request.reply = pending.on_packet(*answer)
        assert request.has_value_offsets
    assert division.merge_replies(requests) == b"VALUE a 1 3\r\none\r\nVALUE x 0 1\r\nX\r\nVALUE c 0 0\r\n\r\n" + END


@pytest.mark.parametrize(
    "line, answers, reason",
    [
        (b"get a b c\r\n", [(1, OK, 0, 0, b""), (0, OK, 0, 0, b"")], PROTOCOL),
        (b"get a b c\r\n", [(1, OK, 0, 0, b""), (1, OK, 0, 0, b"")], PROTOCOL),
        (b"incr a 1\r\n", [(0, OK, 0, 0, b"5")], PROTOCOL),
        (b"ma a\r\n", [(0, OK, 0, 0, b"")], PROTOCOL),
        (b"get a\r\n", [(0, 0x20, 0, 0, b"Auth failure.")], LOGIN),
        (b"ms a 0\r\n\r\n", [(0, 0x20, 0, 0, b"Auth failure.")], LOGIN),
    ],
)
def test_what_ends_a_link(line, answers, reason):
    with pytest.raises(BackendError) as caught:
        answered(line, *answers)
    assert caught.value.reason == reason
