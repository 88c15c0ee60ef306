"""Replies of servers: complete, byte by byte, with further bytes; and all that is not exactly valid is refused."""

import pytest

from gmproxy.errors import PROTOCOL, BackendError
from gmproxy.protocol import commands, limits
from gmproxy.protocol import request as message
from gmproxy.protocol.key_list import KeyList
from gmproxy.protocol.text import responses as reply

VALUE_A = b"VALUE a 0 5\r\nhello\r\n"
VALUE_B = b"VALUE b 7 0\r\n\r\n"


def ask(name, *keys):
    """A name with spaces is a meta command with its flags."""
    name, *flags = name.split(b" ")
    request = message.Request(commands.COMMANDS[name], keys[0] if keys else b"", b" ".join([name, *keys, *flags]) + b"\r\n")
    if len(keys) > 1:
        request.keys = KeyList(keys)
    return request


GET_A = ask(b"get", b"a")
GET_ABC = ask(b"get", b"a", b"b", b"c")

GOOD = [
    (GET_A, b"END\r\n", 0),
    (GET_A, VALUE_A + b"END\r\n", 1),
    (GET_A, b"VALUE a 4294967295 2 18446744073709551615\r\n\r\n\r\nEND\r\n", 1),
    (GET_A, b"VALUE a 0 16\r\nEND\r\nVALUE b 0 1\r\nEND\r\n", 1),
    (GET_ABC, VALUE_A + VALUE_B + b"END\r\n", 2),
    (GET_ABC, VALUE_B + b"END\r\n", 1),
    (GET_ABC, b"END\r\n", 0),
    (ask(b"gat", b"a", b"a"), VALUE_A + VALUE_A + b"END\r\n", 2),
    (GET_ABC, b"SERVER_ERROR out of memory\r\n", 0),
    (ask(b"set", b"a"), b"STORED\r\n", 0),
    (ask(b"add", b"a"), b"NOT_STORED\r\n", 0),
    (ask(b"cas", b"a"), b"EXISTS\r\n", 0),
    (ask(b"cas", b"a"), b"NOT_FOUND\r\n", 0),
    (ask(b"incr", b"a"), b"0\r\n", 0),
    (ask(b"decr", b"a"), b"9  \r\n", 0),
    (ask(b"incr", b"a"), b"18446744073709551615\r\n", 0),
    (ask(b"incr", b"a"), b"CLIENT_ERROR invalid numeric delta argument\r\n", 0),
    (ask(b"delete", b"a"), b"DELETED\r\n", 0),
    (ask(b"touch", b"a"), b"TOUCHED\r\n", 0),
    (ask(b"flush_all"), b"OK\r\n", 0),
    (ask(b"mg", b"a"), b"EN\r\n", 0),
    (ask(b"mg", b"a"), b"HD\r\n", 1),
    (ask(b"mg f", b"a"), b"HD f0\r\n", 1),
    (ask(b"mg f t v", b"a"), b"VA 5 f0 t-1\r\nhello\r\n", 1),
    (ask(b"mg h l s t c v f", b"a"), b"VA 1 h1 l0 s4294967295 t-1 c18446744073709551615 f0\r\n1\r\n", 1),
    (ask(b"mg h l", b"a"), b"HD h0 l-5\r\n", 1),
    (ask(b"mg k q v", b"vkq"), b"VA 0 kvkq\r\n\r\n", 1),
    (ask(b"mg v", b"a"), b"VA 0\r\n\r\n", 1),
    (ask(b"mg v", b"a"), b"VA 0 Z X W\r\n\r\n", 1),
    (ask(b"mg k O1 v q", b"a"), b"VA 2 ka b O1\r\n\r\n\r\n", 1),
    (ask(b"mg k O1", b"a"), b"EN ka O1\r\n", 0),
    (ask(b"ms 2 k c", b"a"), b"HD ka c18446744073709551615\r\n", 1),
    (ask(b"ms 2", b"a"), b"NS\r\n", 0),
    (ask(b"ms 2 O1", b"a"), b"EX O1\r\n", 0),
    (ask(b"ms 2", b"a"), b"NF\r\n", 0),
    (ask(b"ms 2 v", b"a"), b"HD\r\n", 1),
    (ask(b"ms 2", b"a"), b"CLIENT_ERROR invalid flag\r\n", 0),
    (ask(b"md", b"a"), b"HD\r\n", 1),
    (ask(b"md k", b"a"), b"NF ka\r\n", 0),
    (ask(b"ma v t", b"a"), b"VA 2 t9\r\n12\r\n", 1),
    (ask(b"ma", b"a"), b"NF\r\n", 0),
    (ask(b"me", b"a"), b"ME a exp=-1 la=0 cas=1 fetch=no cls=1 size=61\r\n", 0),
    (ask(b"me", b"a"), b"EN\r\n", 0),
    (ask(b"mg", b"a"), b"ERROR\r\n", 0),
]


def reading(*chunks):
    reader = reply.TextReplyParser()
    for chunk in chunks:
        reader.stream.feed(chunk)
    return reader


@pytest.mark.parametrize("request_, said, found", GOOD)
def test_whole(request_, said, found):
    reader = reading(said)
    assert reader.parse_reply(request_) == said
    assert reader.is_between_messages()
    if request_.command.returns_values:
        assert reader.values_found == found


@pytest.mark.parametrize("request_, said, found", GOOD)
def test_byte_by_byte(request_, said, found):
    reader = reply.TextReplyParser()
    for offset in range(len(said) - 1):
        reader.stream.feed(said[offset : offset + 1])
        assert reader.parse_reply(request_) is None
        assert not reader.is_between_messages()
    reader.stream.feed(said[-1:])
    assert reader.parse_reply(request_) == said
    assert reader.is_between_messages()


@pytest.mark.parametrize("request_, said, found", GOOD)
def test_two_in_one_chunk(request_, said, found):
    reader = reading(said + said)
    assert reader.parse_reply(request_) == said
    assert not reader.is_between_messages()
    assert reader.parse_reply(request_) == said
    assert reader.parse_reply(request_) is None


BAD = [
    (GET_A, b"STORED\r\n"),
    (GET_A, b"\r\n"),
    (GET_A, b"END\n"),
    (GET_A, b"END \r\n"),
    (GET_A, b"VALUE b 0 1\r\n1\r\nEND\r\n"),
    (GET_A, b"VALUE a 0 x\r\n"),
    (GET_A, b"VALUE a 0 -1\r\n"),
    (GET_A, b"VALUE a 0\r\n"),
    (GET_A, b"VALUE a 0 \r\n"),
    (GET_A, b"VALUE a  0 1\r\n"),
    (GET_A, b"VALUE a x 0\r\n"),
    (GET_A, b"VALUE a 0 0 x\r\n"),
    (GET_A, b"VALUE a 0 0 1 1\r\n"),
    (ask(b"mg f v", b"a"), b"VA 0 fx\r\n\r\n"),
    (ask(b"mg t", b"a"), b"HD t--1\r\n"),
    (ask(b"mg t", b"a"), b"HD t-\r\n"),
    (ask(b"mg l", b"a"), b"HD l1x\r\n"),
    (ask(b"mg s", b"a"), b"HD s-1\r\n"),
    (ask(b"mg f", b"a"), b"HD f12345678901\r\n"),
    (ask(b"mg h", b"a"), b"HD h\r\n"),
    (ask(b"mg h", b"a"), b"HD h2\r\n"),
    (ask(b"mg h", b"a"), b"HD hx\r\n"),
    (ask(b"mg h", b"a"), b"HD h01\r\n"),
    (ask(b"mg c", b"a"), b"HD c123456789012345678901\r\n"),
    (ask(b"mg c", b"a"), b"HD c1 \r\n"),
    (ask(b"mg c", b"a"), b"HDc1\r\n"),
    (ask(b"mg v", b"a"), b"VA1\r\n1\r\n"),
    (ask(b"mg v", b"a"), b"VAx1\r\n1\r\n"),
    (ask(b"mg v", b"a"), b"VA 1 \r\n1\r\n"),
    (ask(b"mg v", b"a"), b"VA\r\n"),
    (ask(b"mg", b"Wf"), b"HD f0\r\n"),
    (ask(b"mg O1", b"a"), b"HD \x7f\r\n"),
    (ask(b"ms 2", b"a"), b"HD 2\r\n"),
    (ask(b"mg c", b"a"), b"HD c\r\n"),
    (ask(b"mg c", b"a"), b"HD  c1\r\n"),
    (ask(b"mg c", b"a"), b"HD c1 f0\r\n"),
    (ask(b"mg v", b"a"), b"HD\r\n"),
    (ask(b"mg", b"a"), b"VA 1\r\n1\r\n"),
    (ask(b"mg", b"a"), b"NF\r\n"),
    (ask(b"mg O1", b"a"), b"ME a exp=-1\r\n"),
    (ask(b"ms 2", b"a"), b"EN\r\n"),
    (ask(b"ms 2 v", b"a"), b"VA 1\r\n1\r\n"),
    (ask(b"ms 2", b"a"), b"STORED\r\n"),
    (ask(b"md", b"a"), b"NS\r\n"),
    (ask(b"ma v", b"a"), b"HD\r\n"),
    (ask(b"ma v", b"a"), b"VA 1\r\nx\r\n"),
    (ask(b"ma v", b"a"), b"VA 0\r\n\r\n"),
    (ask(b"me", b"a"), b"HD\r\n"),
    (ask(b"me", b"a"), b"MEa\r\n"),
    (ask(b"me", b"a"), b"ME \r\n"),
    (ask(b"mg", b"a"), b"HDX\r\n"),
    (GET_A, b"VALUE \r\n"),
    (GET_A, b"VALUE a 0 99999999999\r\n"),
    (GET_A, b"VALUE a 0 1\n1\r\n"),
    (GET_A, b"VALUE a 0 1\r\n12\r\n"),
    (GET_A, b"VALUE a 0 2\r\n1\r\nEND\r\n"),
    (GET_A, VALUE_A + VALUE_A + b"END\r\n"),
    (GET_A, VALUE_A + b"STORED\r\n"),
    (GET_ABC, VALUE_B + VALUE_A + b"END\r\n"),
    (GET_ABC, b"VALUE d 0 1\r\n1\r\nEND\r\n"),
    (ask(b"set", b"a"), b"DELETED\r\n"),
    (ask(b"set", b"a"), b"stored\r\n"),
    (ask(b"set", b"a"), b"END\r\n"),
    (ask(b"delete", b"a"), b"STORED\r\n"),
    (ask(b"delete", b"a"), b"5\r\n"),
    (ask(b"incr", b"a"), b"-5\r\n"),
    (ask(b"incr", b"a"), b"5x\r\n"),
    (ask(b"incr", b"a"), b"  \r\n"),
    (ask(b"incr", b"a"), b"STORED\r\n"),
    (ask(b"touch", b"a"), b"OK\r\n"),
    (ask(b"mg", b"a"), b"VALUE a 0 1\r\n"),
    (ask(b"mg", b"a"), b"VA x\r\n"),
    (ask(b"mg", b"a"), b"VA 99999999999\r\n"),
    (ask(b"mg v", b"a"), b"VA 1\r\n12\r\n"),
    (ask(b"mg v", b"a"), b"VA 00000000001\r\n1\r\n"),
    (ask(b"mg k v", b"a"), b"VA 1 kb\r\n1\r\n"),
    (ask(b"mg k v", b"a"), b"VA 1 k\r\n1\r\n"),
    (ask(b"mg k", b"a"), b"EN kaa\r\n"),
    (ask(b"md k", b"a"), b"NF kb\r\n"),
    (ask(b"mg O1 v", b"a"), b"VA 1 O12\r\n1\r\n"),
    (ask(b"mg O12 v", b"a"), b"VA 1 O1\r\n1\r\n"),
    (ask(b"mg C5 v O12", b"a"), b"HD O1\r\n"),
    (ask(b"mg C5 v k", b"a"), b"HD kb\r\n"),
    (ask(b"mg C5 v c", b"a"), b"HD c\r\n"),
    (ask(b"mg C5 v c", b"a"), b"NS\r\n"),
    (ask(b"me", b"a"), b"ME b exp=-1\r\n"),
    (ask(b"incr", b"a"), b"1" * 21 + b"\r\n"),
    (GET_A, b"VALUE a 0 00000000001\r\n1\r\nEND\r\n"),
    (GET_A, b"VALUE a 00000000000 1\r\n1\r\nEND\r\n"),
    (GET_A, b"VALUE a 0 1 111111111111111111111\r\n1\r\nEND\r\n"),
    (GET_A, b"VALUE a 0 1 \r\n1\r\nEND\r\n"),
    (GET_A, b"VALUE a 0 1 1 \r\n1\r\nEND\r\n"),
    (GET_A, b"x" * (limits.MAX_REPLY_LINE + 1)),
    (ask(b"set", b"a"), b"x" * (limits.MAX_REPLY_LINE + 1)),
]


@pytest.mark.parametrize("request_, said", BAD)
def test_what_cannot_be_right_is_refused(request_, said):
    with pytest.raises(BackendError) as caught:
        reading(said).parse_reply(request_)
    assert caught.value.reason == PROTOCOL


@pytest.mark.parametrize("request_, said", BAD)
def test_the_same_byte_by_byte(request_, said):
    reader = reply.TextReplyParser()
    with pytest.raises(BackendError):
        for offset in range(len(said)):
            reader.stream.feed(said[offset : offset + 1])
            assert reader.parse_reply(request_) is None


@pytest.mark.parametrize(
    "command, said, out_of_step",
    [
        (b"set", b"ERROR\r\n", True),
        (b"set", b"CLIENT_ERROR bad command line format\r\n", True),
        (b"set", b"SERVER_ERROR object too large for cache\r\n", False),
        (b"set", b"NOT_STORED\r\n", False),
        (b"delete", b"CLIENT_ERROR bad command line format\r\n", False),
        (b"incr", b"ERROR\r\n", False),
        (b"touch", b"SERVER_ERROR x\r\n", False),
        (b"ms 2", b"ERROR\r\n", True),
        (b"ms 2", b"CLIENT_ERROR bad command line format\r\n", True),
        (b"ms 2", b"CLIENT_ERROR invalid flag\r\n", False),
        (b"ms 2", b"SERVER_ERROR object too large for cache\r\n", False),
        (b"mg", b"ERROR\r\n", False),
    ],
)
def test_after_some_refusals_a_data_block_would_be_taken_for_commands(command, said, out_of_step):
    reader = reading(said)
    assert reader.parse_reply(ask(command, b"a")) == said
    assert reader.out_of_step is out_of_step


def test_what_is_asked_is_read_from_the_flags_alone():
    request = message.Request(commands.COMMANDS[b"ms"], b"k v", b"ms ayB2 5 b c\r\n v f \r\n")
    assert reading(b"HD c1\r\n").parse_reply(request) == b"HD c1\r\n"
    with pytest.raises(BackendError):
        reading(b"HD f1\r\n").parse_reply(request)


@pytest.mark.parametrize(
    "request_, said",
    [
        (ask(b"mg C5 v c", b"a"), b"HD c5\r\n"),  # memcached 1.6.45: the client has this value already
        (ask(b"mg C5 v", b"a"), b"VA 1 c5\r\n1\r\n"),
        (ask(b"mg C5", b"a"), b"VA 1\r\n1\r\n"),
        (ask(b"mg Y v", b"a"), b"HD f5 Y\r\n"),  # a flag that no version has yet
        (ask(b"mg v", b"a"), b"VA 1 Y W\r\n1\r\n"),
        (ask(b"ms 2 E5", b"a"), b"HD c5\r\n"),
        (ask(b"ms 2 s", b"a"), b"HD s2\r\n"),
        (ask(b"md x", b"a"), b"HD X\r\n"),
        (ask(b"ma E5 v", b"a"), b"HD\r\n"),
        (message.Request(commands.COMMANDS[b"mg"], b"foo", b"mg Zm9v b k v\r\n"), b"VA 1 kfoo\r\n1\r\n"),
        (message.Request(commands.COMMANDS[b"mg"], b"foo", b"mg Zm9v b k v\r\n"), b"VA 1 kZm9v b\r\n1\r\n"),
        (message.Request(commands.COMMANDS[b"mg"], b"a b", b"mg YSBi b k O1\r\n"), b"EN kYSBi b O1\r\n"),
        (message.Request(commands.COMMANDS[b"mg"], b"foo", b"mg foo k v\r\n"), b"VA 1 kZm9v b\r\n1\r\n"),
        (message.Request(commands.COMMANDS[b"me"], b"a b", b"me YSBi b\r\n"), b"ME YSBi exp=-1\r\n"),
    ],
)
def test_what_a_newer_server_says_is_handed_on(request_, said):
    assert reading(said).parse_reply(request_) == said


# -- announced lengths that are too large


@pytest.mark.parametrize(
    "request_, header, end",
    [
        (GET_A, b"VALUE a 0 4294967295\r\n", b"\r\nEND\r\n"),
        (GET_ABC, VALUE_A + b"VALUE b 0 4294967295\r\n", b"\r\n" + b"VALUE c 0 1\r\n1\r\nEND\r\n"),
        (ask(b"mg v", b"a"), b"VA 4294967295\r\n", b"\r\n"),
    ],
)
def test_a_value_too_large_is_thrown_away_as_it_comes(request_, header, end):
    """A server announces 4 GB: no memory is allocated for it, and the connection stays in step."""
    reader = reply.TextReplyParser()
    reader.stream.feed(header)
    assert reader.parse_reply(request_) is None
    chunk = b"v" * 2**20
    for _ in range(2**32 // len(chunk) - 1):
        reader.stream.feed(chunk)
        assert reader.parse_reply(request_) is None
        assert reader.stream.size() == 0 and not reader.is_between_messages()
    reader.stream.feed(chunk[1:] + end + b"END\r\n")
    assert reader.parse_reply(request_) == reply.REPLY_TOO_LARGE
    assert not request_.has_value_offsets
    assert reader.parse_reply(GET_A) == b"END\r\n"
    assert reader.is_between_messages()


@pytest.mark.parametrize("request_, header", [(GET_A, b"VALUE a 0 2000\r\n"), (ask(b"mg v", b"a"), b"VA 2000\r\n")])
def test_a_value_too_large_must_end_in_crlf_too(monkeypatch, request_, header):
    monkeypatch.setattr(limits, "MAX_REPLY", 1000)
    for said in (header + b"v" * 2003, header + b"v" * 2000 + b"\rx"):
        reader = reply.TextReplyParser()
        with pytest.raises(BackendError):
            for offset in range(len(said)):
                reader.stream.feed(said[offset : offset + 1])
                assert reader.parse_reply(request_) is None


def test_a_value_too_large_of_a_key_that_nobody_asked_for():
    with pytest.raises(BackendError):
        reading(b"VALUE b 0 4294967295\r\n").parse_reply(GET_A)


def test_a_large_value_in_many_chunks():
    data = b"v" * 1_000_000
    said = b"VALUE a 0 1000000\r\n%b\r\nEND\r\n" % data
    reader = reply.TextReplyParser()
    answers = []
    for start in range(0, len(said), 1000):
        reader.stream.feed(said[start : start + 1000])
        answers.append(reader.parse_reply(GET_A))
    assert answers[-1] == said
    assert not any(answers[:-1])


@pytest.mark.parametrize(
    "line, is_error",
    [
        (b"ERROR\r\n", True),
        (b"CLIENT_ERROR x\r\n", True),
        (b"SERVER_ERROR\r\n", True),
        (b"END\r\n", False),
        (b"EXISTS\r\n", False),
    ],
)
def test_error_lines(line, is_error):
    assert reply.is_error_line(line) is is_error
