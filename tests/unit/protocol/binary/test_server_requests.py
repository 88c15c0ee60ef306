"""What a server of the binary protocol is asked for a request, and how its answers read in text."""

import struct

import pytest
from support.packets import REQUEST, count, packet, store, touch

from gmproxy.errors import LOGIN, PROTOCOL, BackendError
from gmproxy.protocol import key_list as retrieval
from gmproxy.protocol.binary import server_requests
from gmproxy.protocol.binary.packets import EXISTS, NOT_FOUND, NOT_STORED, OK
from gmproxy.protocol.text import requests as text

UNMATCHED = 2**64 - 1
LONG_AGO = 2592001
NOOP = packet("noop", opaque=bytes(4))


def request_for(line):
    """As a client's `line` leaves the router."""
    parser = text.TextParser(1024 * 1024)
    parser.stream.feed(line)
    request = parser.next_request()
    assert request.command is not None, request.reply
    if request.keys:
        request.line = request.keys.command_line(request.line)
    return request


def ask(line, first=0):
    return server_requests.encode_request(request_for(line), first)


def numbered(number=0):
    return {"opaque": struct.pack(">I", number)}


PUBLIC = [
    (b"get a\r\n", packet("get", b"a", **numbered())),
    (b"gets a\r\n", packet("get", b"a", **numbered())),
    (b"gat 100 a\r\n", touch("gat", b"a", 100, **numbered())),
    (b"gat -1 a\r\n", touch("gat", b"a", LONG_AGO, **numbered())),
    (b"set a 5 100 2\r\n\r\n\r\n", store("set", b"a", b"\r\n", 5, 100, **numbered())),
    (b"set a 4294967295 -1 0\r\n\r\n", store("set", b"a", b"", 2**32 - 1, LONG_AGO, **numbered())),
    (b"set a 0 4294967296 0\r\n\r\n", store("set", b"a", b"", **numbered())),
    (b"add a 0 0 1\r\nx\r\n", store("add", b"a", b"x", **numbered())),
    (b"replace a 0 0 1\r\nx\r\n", store("replace", b"a", b"x", **numbered())),
    (b"append a 5 100 1\r\nx\r\n", packet("append", b"a", b"x", **numbered())),
    (b"prepend a 5 100 1\r\nx\r\n", packet("prepend", b"a", b"x", **numbered())),
    (b"cas a 0 0 1 7\r\nx\r\n", store("set", b"a", b"x", cas=7, **numbered())),
    (b"cas a 0 0 1 0\r\nx\r\n", store("set", b"a", b"x", cas=UNMATCHED, **numbered())),
    (b"set a 0 0 1 noreply\r\nx\r\n", store("set", b"a", b"x", **numbered())),
    (b"incr a 5\r\n", count("incr", b"a", 5, **numbered())),
    (b"decr a 18446744073709551615\r\n", count("decr", b"a", 2**64 - 1, **numbered())),
    (b"incr a x\r\n", NOOP),
    (b"delete a\r\n", packet("delete", b"a", **numbered())),
    (b"touch a 0\r\n", touch("touch", b"a", **numbered())),
    (b"touch a -5\r\n", touch("touch", b"a", LONG_AGO, **numbered())),
    (b"flush_all\r\n", packet("flush", **numbered())),
    (b"flush_all 5\r\n", packet("flush", extras=struct.pack(">I", 5), **numbered())),
    (b"flush_all -5\r\n", packet("flush", **numbered())),
    (b"mg a v c f\r\n", packet("get", b"a", **numbered())),
    (b"mg a\r\n", packet("get", b"a", **numbered())),
    (b"mg a T100 v\r\n", touch("gat", b"a", 100, **numbered())),
    (b"mg a T100 s\r\n", touch("gat", b"a", 100, **numbered())),
    (b"mg a T-1 c\r\n", touch("touch", b"a", LONG_AGO, **numbered())),
    (b"mg YSBi b v\r\n", packet("get", b"a b", **numbered())),
    (b"mg a t\r\n", NOOP),
    (b"mg a v N30\r\n", NOOP),
    (b"ms a 1\r\nx\r\n", store("set", b"a", b"x", **numbered())),
    (b"ms a 1 T100 F5 MS c\r\nx\r\n", store("set", b"a", b"x", 5, 100, **numbered())),
    (b"ms a 1 ME C7\r\nx\r\n", store("add", b"a", b"x", **numbered())),
    (b"ms a 1 MR\r\nx\r\n", store("replace", b"a", b"x", **numbered())),
    (b"ms a 1 MR C7\r\nx\r\n", store("set", b"a", b"x", cas=7, **numbered())),
    (b"ms a 1 C0\r\nx\r\n", store("set", b"a", b"x", cas=UNMATCHED, **numbered())),
    (b"ms a 1 MA C0 T5\r\nx\r\n", packet("append", b"a", b"x", **numbered())),
    (b"ms a 1 MP C7\r\nx\r\n", packet("prepend", b"a", b"x", cas=7, **numbered())),
    (b"ms a 1 MA N5\r\nx\r\n", NOOP),
    (b"ms a 1 I\r\nx\r\n", NOOP),
    (b"md a\r\n", packet("delete", b"a", **numbered())),
    (b"md a C7\r\n", packet("delete", b"a", cas=7, **numbered())),
    (b"md a C0\r\n", packet("delete", b"a", cas=UNMATCHED, **numbered())),
    (b"md a I T5\r\n", NOOP),
    (b"ma a\r\n", count("incr", b"a", 1, **numbered())),
    (b"ma a M- D5 C7 J3\r\n", count("decr", b"a", 5, 3, cas=7, **numbered())),
    (b"ma a N0 J3\r\n", count("incr", b"a", 1, 3, 0, **numbered())),
    (b"ma a N-1\r\n", count("incr", b"a", 1, 0, LONG_AGO, **numbered())),
    (b"ma a T5\r\n", NOOP),
    (b"me a\r\n", NOOP),
]


@pytest.mark.parametrize("line, said", PUBLIC, ids=[str(line) for line, _ in PUBLIC])
def test_what_a_server_is_asked(line, said):
    assert ask(line)[1] == said


def test_for_several_keys_it_is_asked_quietly_and_with_an_end():
    pending, said = ask(b"gets a b a\r\n", 2**32 - 2)
    assert pending.count == 4
    assert said == (
        packet("getQ", b"a", **numbered(2**32 - 2))
        + packet("getQ", b"b", **numbered(2**32 - 1))
        + packet("getQ", b"a", **numbered(0))
        + packet("noop", **numbered(1))
    )
    _, said = ask(b"gat 5 a b\r\n")
    assert said == (touch("gatQ", b"a", 5, **numbered()) + touch("gatQ", b"b", 5, **numbered(1)) + packet("noop", **numbered(2)))


def answered(line, *answers):
    """The reply once the server has given `answers`, each of (place, status, cas, flags, value)."""
    pending, _ = ask(line)
    replies = [pending.on_packet(*answer) for answer in answers]
    assert not any(replies[:-1])
    return replies[-1], pending.values_found


def number(value):
    return struct.pack(">Q", value)


END = b"END\r\n"
KNOWS_NONE = b"CLIENT_ERROR the server speaks binary, which has no "

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
    """For the merging of several servers' answers."""
    keys = retrieval.KeyList([b"a", b"x", b"b", b"c", b"y"])
    division = retrieval.KeyPartition(keys, [0, 1, 0, 0, 1], [0, 1])
    requests = [request_for(b"get a b c\r\n"), request_for(b"get x y\r\n")]
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


def test_a_packet_is_as_long_as_it_says():
    """Nothing of a key or value can be taken for another packet."""
    for line, said in PUBLIC:
        assert REQUEST.unpack_from(said)[6] == len(said) - REQUEST.size, line
