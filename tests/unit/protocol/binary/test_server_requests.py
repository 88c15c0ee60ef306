"""The packets that a server of the binary protocol is sent for a request."""

import struct

import pytest
from support.packets import REQUEST, count, packet, store, touch
from support.requests import parsed_request

from gmproxy.protocol.binary import server_requests
from gmproxy.protocol.commands import Command
from gmproxy.protocol.request import new_request

UNMATCHED = 2**64 - 1
LONG_AGO = 2592001
NOOP = packet("noop", opaque=bytes(4))


def ask(line, first=0):
    return server_requests.encode_request(parsed_request(line), first)


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


def test_a_packet_is_as_long_as_it_says():
    """No part of a key or value can be parsed as another packet."""
    for line, said in PUBLIC:
        assert REQUEST.unpack_from(said)[6] == len(said) - REQUEST.size, line


def test_a_command_that_no_packet_expresses_is_a_noop_and_has_its_reply():
    request = new_request(Command(b"shuffle", "shuffle", 2), b"a", b"shuffle a\r\n")
    pending, sent = server_requests.encode_request(request, 0)
    assert sent == NOOP
    assert pending.on_packet(0, 0, 0, 0, b"") == b"CLIENT_ERROR the binary protocol of the server does not support shuffle\r\n"
