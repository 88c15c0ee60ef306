"""Properties that hold for any bytes from any client and from any server, tested with hypothesis."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.packets import OPCODES, REQUEST, packet, taken_apart

from gmproxy.errors import LOGIN, PROTOCOL, BackendError
from gmproxy.protocol import request as message
from gmproxy.protocol.binary import requests as binary
from gmproxy.protocol.binary import server_reader as binary_link
from gmproxy.protocol.text import requests as text
from gmproxy.protocol.text import responses as reply

MAX_ITEM_SIZE = 300

thorough = settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
brief = settings(thorough, max_examples=400)

# -- requests of clients

key = st.one_of(st.sampled_from([b"a", b"b", b"a b", b"\r\n", b"k" * 250, b"k" * 251]), st.binary(max_size=6))
number = st.one_of(st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**64 - 1]), st.integers(0, 2**64 - 1))

packets = st.builds(
    packet,
    name=st.one_of(st.sampled_from(sorted(OPCODES)), st.integers(0, 255)),
    key=key,
    value=st.binary(max_size=400),
    extras=st.sampled_from([b"", bytes(4), b"\xff" * 4, bytes(8), b"\xff" * 8, bytes(20), b"\xff" * 20, b"123"]),
    cas=number,
    opaque=st.binary(min_size=4, max_size=4),
    magic=st.sampled_from([0x80] * 20 + [0, 0x81]),
)
binary_talk = st.one_of(st.lists(packets, max_size=5).map(b"".join), st.binary(max_size=100))

word = st.one_of(
    st.sampled_from(
        [
            b"mg",
            b"ms",
            b"md",
            b"ma",
            b"me",
            b"mn",
            b"get",
            b"gets",
            b"gat",
            b"set",
            b"cas",
            b"incr",
            b"touch",
            b"delete",
            b"Zm9v",
            b"a",
            b"b",
            b"q",
            b"k",
            b"v",
            b"O1",
            b"T5",
            b"C1",
            b"ME",
            b"N0",
            b"J5",
            b"2",
            b"5",
            b"noreply",
            b"flush_all",
        ]
    ),
    st.binary(max_size=4),
)
line = st.builds(lambda words, end: b" ".join(words) + end, st.lists(word, max_size=7), st.sampled_from([b"\r\n", b"\n", b" \r\n"]))
text_talk = st.lists(st.one_of(line, st.binary(max_size=8)), max_size=6).map(b"".join)


def pieces(data, cuts):
    places = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)])]


cuts = st.lists(st.integers(0, 10_000), max_size=6)


def requests(parser, chunks):
    """([Request], the reply to a protocol error or None). The parser may raise no other exception."""
    found = []
    try:
        for chunk in chunks:
            parser.stream.feed(chunk)
            while (request := parser.next_request()) is not None:
                found.append(request)
    except message.ClientProtocolError as end:
        return found, end.reply
    return found, None


def facts(found):
    requests_, last_words = found
    each = []
    for request in requests_:
        name = request.command and request.command.name
        for one in request.keys if name == b"gets" and request.keys else [request.key]:
            each.append((name, one, None if name == b"gets" else request.line, request.quiet, request.reply))
    return each, last_words


@thorough
@given(data=binary_talk, cuts=cuts)
def test_binary_is_read_the_same_however_it_is_cut(data, cuts):
    whole = facts(requests(binary.BinaryParser(MAX_ITEM_SIZE), [data]))
    assert facts(requests(binary.BinaryParser(MAX_ITEM_SIZE), pieces(data, cuts))) == whole
    assert whole[1] is None or taken_apart(whole[1]) is not None


@thorough
@given(data=text_talk, cuts=cuts)
def test_text_is_read_the_same_however_it_is_cut(data, cuts):
    whole = facts(requests(text.TextParser(MAX_ITEM_SIZE), [data]))
    assert facts(requests(text.TextParser(MAX_ITEM_SIZE), pieces(data, cuts))) == whole


def lines_of(request):
    """(words of the command line, data block) that a server receives for `request`."""
    head, end, block = request.line.partition(b"\r\n")
    assert end and b"\n" not in head and b"\0" not in head
    return head.split(b" "), block


@thorough
@given(data=binary_talk)
def test_no_packet_can_smuggle_a_command_to_a_server(data):
    for request in requests(binary.BinaryParser(MAX_ITEM_SIZE), [data])[0]:
        if request.command is None or not request.key or request.keys is not None:
            continue
        words, block = lines_of(request)
        assert words[0] == request.command.name and b"" not in words
        if words[0] == b"ms":
            assert len(block) == int(words[2]) + 2 and block.endswith(b"\r\n")
        else:
            assert block == b""
        assert len(words[1]) <= 250


@thorough
@given(data=text_talk)
def test_no_meta_command_can_smuggle_another_to_a_server(data):
    for request in requests(text.TextParser(MAX_ITEM_SIZE), [data])[0]:
        if request.command is not None and request.command.is_meta:
            words, block = lines_of(request)
            assert words[0] == request.command.name and b"" not in words
            assert not any(flag.startswith(b"q") for flag in words[2:]), "a server that is quiet would be out of step"
            assert len(block) == (int(words[2]) + 2 if words[0] == b"ms" else 0)


def as_routed(request):
    """`request` as a server receives it: the router completes the command line of a request for several keys."""
    if request.keys:
        request.line = request.keys.command_line(request.line)
    return request


@brief
@given(data=st.one_of(text_talk, binary_talk))
def test_whatever_is_asked_of_a_binary_server_is_whole_packets_about_these_keys(data):
    parser = (binary.BinaryParser if data[:1] == b"\x80" else text.TextParser)(MAX_ITEM_SIZE)
    for request in requests(parser, [data])[0]:
        if request.command is None or not (request.key or request.command.kind == "flush"):
            continue
        said = binary_link.BinaryReplyParser().encode(as_routed(request))
        while said:
            magic, _, key_length, extras_length, _, _, length, _, _ = REQUEST.unpack_from(said)
            body = said[REQUEST.size : REQUEST.size + length]
            assert magic == 0x80 and len(body) == length
            assert body[extras_length : extras_length + key_length] in [*(request.keys or [request.key]), b""]
            said = said[REQUEST.size + length :]


# -- replies of servers

flag = st.sampled_from(
    [b"f0", b"f9999999999", b"c1", b"c99999999999999999999", b"t-1", b"W", b"X", b"kfoo", b"O1", b"b", b"s5", b"q", b"c", b"f-1"]
)
code = st.sampled_from([b"HD", b"VA 0", b"VA 2", b"VA 5", b"EN", b"NF", b"NS", b"EX", b"ME a", b"MN"])
meta_answer = st.builds(
    lambda code, flags, block: b" ".join([code, *flags]) + b"\r\n" + block,
    code,
    st.lists(flag, max_size=3),
    st.sampled_from([b"", b"\r\n", b"12\r\n", b"ab\r\n", b"hello\r\n"]),
)
value_block = st.builds(
    lambda key, flags, cas, data: b"VALUE %b %b %d%b\r\n%b\r\n" % (key, flags, len(data), cas, data),
    st.sampled_from([b"a", b"b", b"k" * 250]),
    st.sampled_from([b"0", b"4294967295", b"9999999999"]),
    st.sampled_from([b"", b" 7", b" 18446744073709551615", b" " + b"9" * 21, b" " + b"9" * 5000]),
    st.binary(max_size=5),
)
values_answer = st.builds(lambda blocks: b"".join(blocks) + b"END\r\n", st.lists(value_block, max_size=4))
error_line = st.sampled_from(
    [b"ERROR\r\n", b"SERVER_ERROR x\r\n", b"CLIENT_ERROR bad data chunk\r\n", b"SERVER_ERROR\r\n", b"OK\r\n", b"STORED\r\n"]
)
answer = st.one_of(meta_answer, values_answer, error_line, st.binary(max_size=20))


@thorough
@given(data=binary_talk, answers=st.lists(answer, min_size=1, max_size=4))
def test_whatever_a_server_says_a_client_gets_whole_packets_or_the_link_is_closed(data, answers):
    for request in requests(binary.BinaryParser(MAX_ITEM_SIZE), [data])[0]:
        for said in answers:
            if request.renderer is None or not request.key:
                continue
            reader = reply.TextReplyParser()
            reader.stream.feed(said)
            try:
                request.reply = reader.parse_reply(request)
            except BackendError as error:
                assert error.reason == PROTOCOL
                continue
            if request.reply is not None:
                packets = taken_apart(request.renderer.render(request))
                assert len(packets) <= len(request.keys or [request.key])


@thorough
@given(data=text_talk, answers=st.lists(answer, min_size=1, max_size=4))
def test_and_in_text_a_whole_answer_or_nothing(data, answers):
    for request in requests(text.TextParser(MAX_ITEM_SIZE), [data])[0]:
        for said in answers:
            if request.renderer is None:
                continue
            reader = reply.TextReplyParser()
            reader.stream.feed(said)
            try:
                request.reply = reader.parse_reply(request)
            except BackendError as error:
                assert error.reason == PROTOCOL
                continue
            if request.reply is not None:
                assert request.renderer.render(request) in (b"", request.reply) or request.reply == b"EN\r\n"


packet_answers = st.builds(
    lambda status, number, extras, value, cas, magic: (
        REQUEST.pack(magic, 0, 0, len(extras), 0, status, len(extras + value), number, cas) + extras + value
    ),
    st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5, 6, 0x20, 0x81, 0x82, 0x99]),
    st.integers(0, 3).map(lambda number: bytes([0, 0, 0, number])),
    st.sampled_from([b"", bytes(4), b"\xff" * 4, bytes(2)]),
    st.one_of(st.binary(max_size=10), st.just(bytes(8))),
    number,
    st.sampled_from([0x81] * 20 + [0x80]),
)


@brief
@given(data=text_talk, answers=st.lists(st.one_of(packet_answers, st.binary(max_size=30)), min_size=1, max_size=4), cuts=cuts)
def test_whatever_a_binary_server_says_is_read_the_same_however_it_is_cut(data, answers, cuts):
    for request in requests(text.TextParser(MAX_ITEM_SIZE), [data])[0]:
        if request.command is None or not request.key:
            continue
        as_routed(request)
        told = [replies(request, chunks) for chunks in ([b"".join(answers)], pieces(b"".join(answers), cuts))]
        assert told[0] == told[1]
        assert told[0] in (None, PROTOCOL, LOGIN) or told[0].endswith(b"\r\n")


def replies(request, chunks):
    """The reply that is read from the `chunks` of a binary server, the reason for closing the connection, or None if the reply is incomplete."""
    link = binary_link.BinaryReplyParser()
    link.encode(request)
    try:
        for chunk in chunks:
            link.stream.feed(chunk)
            if (told := link.parse_reply(request)) is not None:
                return told
    except BackendError as error:
        return error.reason
    return None
