"""Replies of a server of the binary protocol: complete, byte by byte, with further bytes; all that is not valid is refused."""

import struct

import pytest
from support.packets import REQUEST, packet

from gmproxy.errors import OVERLOAD, PROTOCOL, BackendError
from gmproxy.protocol import commands, limits
from gmproxy.protocol import key_list as retrieval
from gmproxy.protocol import request as message
from gmproxy.protocol.binary import server_reader as binary_link

END = b"END\r\n"


def ask(line, key, *keys):
    request = message.Request(commands.COMMANDS[line.split()[0]], key, line)
    if keys:
        request.keys = retrieval.KeyList([key, *keys])
    return request


def get(key=b"a"):
    return ask(b"get %b\r\n" % key, key)


def get_three():
    return ask(b"get a b c\r\n", b"a", b"b", b"c")


def says(number, value=b"", status=0, flags=None, name="get"):
    """A server's reply to its packet `number`."""
    extras = b"" if flags is None else struct.pack(">I", flags)
    said = bytearray(packet(name, b"", value, extras, opaque=struct.pack(">I", number), magic=0x81))
    said[6:8] = status.to_bytes(2, "big")
    return bytes(said)


ONE = says(0, b"hello", flags=5)
THREE = says(0, b"hello", flags=5, name="getQ") + says(2, b"", flags=0, name="getQ") + says(3, name="noop")

GOOD = [
    (get, ONE, b"VALUE a 5 5\r\nhello\r\n" + END, 1),
    (get, says(0, b"Not found", 1), END, 0),
    (get, says(0, b"\x81\x00" * 30), b"VALUE a 0 60\r\n" + b"\x81\x00" * 30 + b"\r\n" + END, 1),
    (get_three, THREE, b"VALUE a 5 5\r\nhello\r\nVALUE c 0 0\r\n\r\n" + END, 2),
    (get_three, says(3, name="noop"), END, 0),
    (lambda: ask(b"set a 0 0 1\r\nx\r\n", b"a"), says(0), b"STORED\r\n", 0),
]


@pytest.mark.parametrize("asked, said, reply, found", GOOD)
def test_whole(asked, said, reply, found):
    link = binary_link.BinaryReplyParser()
    request = asked()
    link.encode(request)
    assert link.parse_reply(request) is None
    link.stream.feed(said)
    assert link.parse_reply(request) == reply
    assert (link.values_found, link.is_between_messages(), link.out_of_step) == (found, True, False)


@pytest.mark.parametrize("asked, said, reply, found", GOOD)
def test_byte_by_byte(asked, said, reply, found):
    link = binary_link.BinaryReplyParser()
    request = asked()
    link.encode(request)
    for offset in range(len(said) - 1):
        link.stream.feed(said[offset : offset + 1])
        assert link.parse_reply(request) is None
        assert not link.is_between_messages()
    link.stream.feed(said[-1:])
    assert link.parse_reply(request) == reply
    assert (link.values_found, link.is_between_messages()) == (found, True)


def test_one_after_the_other():
    link = binary_link.BinaryReplyParser()
    requests = [get_three(), get(b"x"), get(b"y")]
    said = b"".join(map(link.encode, requests))
    assert [number for _, number in numbers(said)] == [0, 1, 2, 3, 4, 5]
    link.stream.feed(THREE + says(4, b"X") + says(5, b"Y"))
    assert link.parse_reply(requests[0]).startswith(b"VALUE a 5 5\r\n")
    assert not link.is_between_messages()
    assert link.parse_reply(requests[1]) == b"VALUE x 0 1\r\nX\r\n" + END
    assert link.parse_reply(requests[2]) == b"VALUE y 0 1\r\nY\r\n" + END
    assert link.is_between_messages()


def numbers(said):
    """(opcode, number) of each packet."""
    while said:
        _, opcode, _, _, _, _, length, opaque, _ = REQUEST.unpack_from(said)
        yield opcode, int.from_bytes(opaque, "big")
        said = said[REQUEST.size + length :]


def test_halfway_through_several_it_is_not_at_a_border():
    link = binary_link.BinaryReplyParser()
    request = get_three()
    link.encode(request)
    link.stream.feed(says(0, b"hello", flags=5, name="getQ"))
    assert link.parse_reply(request) is None
    assert not link.is_between_messages()


def with_header(said, offset, data):
    return said[:offset] + data + said[offset + len(data) :]


BAD = [
    b"ERROR\r\n",
    b"HTTP/1.1 400 Bad Request\r\n",
    b"\x80" + ONE[1:],
    says(1, b"hello"),
    says(2**32 - 1),
    b"\0",
    with_header(ONE, 2, b"\0\x10"),  # a key that is longer than the body
    with_header(ONE, 4, b"\xff"),  # extras that are longer than the body
]


@pytest.mark.parametrize("said", BAD)
def test_what_is_no_answer(said):
    link = binary_link.BinaryReplyParser()
    request = get()
    link.encode(request)
    link.stream.feed(said)
    with pytest.raises(BackendError) as caught:
        link.parse_reply(request)
    assert caught.value.reason == PROTOCOL


@pytest.mark.parametrize("ask, left", [(get, 0), (get_three, 3)])
def test_a_value_too_large_is_thrown_away_as_it_comes(ask, left):
    """A server announces 2 GB: no memory is allocated for it, and the connection stays in step."""
    link = binary_link.BinaryReplyParser()
    request = ask()
    link.encode(request)
    link.encode(get())
    size = 2**31 - 1
    link.stream.feed(with_header(ONE, 8, b"\x7f\xff\xff\xff"))
    assert link.parse_reply(request) is None
    size -= len(ONE) - 24
    chunk = b"v" * 2**20
    while size > len(chunk):
        link.stream.feed(chunk)
        size -= len(chunk)
        assert link.parse_reply(request) is None
        assert link.stream.size() == 0 and not link.is_between_messages()
    link.stream.feed(chunk[:size] + (says(left, name="noop") if left else b"") + says(left + 1, b"hello", flags=5))
    assert link.parse_reply(request) == b"SERVER_ERROR out of memory writing get response\r\n"
    assert link.parse_reply(get()) == b"VALUE a 5 5\r\nhello\r\nEND\r\n"
    assert link.is_between_messages()


def test_a_server_without_room_says_so_in_text():
    link = binary_link.BinaryReplyParser()
    request = get()
    link.encode(request)
    link.stream.feed(b"ERROR Too many open connections\r\n")
    with pytest.raises(BackendError) as caught:
        link.parse_reply(request)
    assert caught.value.reason == OVERLOAD


def test_values_that_are_too_large_together(monkeypatch):
    monkeypatch.setattr(limits, "MAX_REPLY", 1000)
    link = binary_link.BinaryReplyParser()
    keys = [b"a"] * 6
    request = ask(b"get" + b" a" * 6 + b"\r\n", *keys)
    link.encode(request)
    value = bytes(200)
    for number in range(6):
        link.stream.feed(says(number, value, name="getQ"))
        assert link.parse_reply(request) is None
    link.stream.feed(says(6, name="noop"))
    assert link.parse_reply(request) == b"SERVER_ERROR out of memory writing get response\r\n"
