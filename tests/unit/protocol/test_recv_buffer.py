"""The bytes of one connection, in both builds of the module: the same behaviour."""

import socket
import time
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builds import from_source, needs_both
from support.network import reset
from support.timing import PATIENCE

from gmproxy.compiled import COMPILED
from gmproxy.protocol import recv_buffer, value_header
from gmproxy.transport.plain import NOTHING

pure, pure_headers, _ = from_source("protocol.recv_buffer", "protocol.value_header", "transport.plain")
compiled = recv_buffer if COMPILED else None

#: Short, with many of the bytes that a parser searches for.
lines = st.lists(st.sampled_from([b"\n", b"\r\n", b" ", b"\0", b"a", b"bc", b"7", b"0123456789"]), max_size=12).map(b"".join)
offset = st.integers(0, 40)


@pytest.fixture(params=["pure", pytest.param("compiled", marks=needs_both)])
def new_stream(request):
    return {"pure": pure, "compiled": compiled}[request.param].RecvBuffer


def with_bytes(new_stream, data, pos=0):
    stream = new_stream()
    stream.feed(data)
    stream.pos = pos
    return stream


def left(stream):
    """The bytes that have arrived and were not parsed."""
    return stream.cut(stream.pos, stream.end)


def read_lines(stream):
    """All complete lines, as the parsers read them."""
    found = []
    while stream.has_news():
        end = stream.line_end(stream.pos)
        if end < 0:
            stream.need = 0
            break
        found.append(stream.cut(stream.pos, end + 1))
        stream.pos = end + 1
    return found


# -- bytes that arrive


def test_a_new_stream_is_empty(new_stream):
    stream = new_stream()
    assert (left(stream), stream.pos, stream.end, stream.need, stream.size(), stream.has_news()) == (b"", 0, 0, 0, 0, False)


def test_what_is_understood_makes_room(new_stream):
    stream = with_bytes(new_stream, b"abcdef", pos=4)
    stream.feed(b"gh")
    assert (left(stream), stream.size()) == (b"efgh", 4)


def test_a_chunk_after_everything_was_understood_is_taken_as_it_is(new_stream):
    stream = with_bytes(new_stream, b"abc", pos=3)
    chunk = b"x" * 1000
    stream.feed(chunk)
    assert stream.cut(0, 1000) is chunk


def test_forget_lets_go_of_understood_bytes_only(new_stream):
    stream = with_bytes(new_stream, b"abc\n", pos=2)
    stream.release_memory()
    assert (stream.size(), left(stream)) == (2, b"c\n")
    stream.pos = 4
    stream.release_memory()
    assert (stream.end, stream.pos, stream.size()) == (0, 0, 0)
    stream.feed(b"d\n")
    assert stream.line_end(0) == 1


BOTH = pytest.mark.parametrize("module", [pure, pytest.param(compiled, marks=needs_both)], ids=["pure", "compiled"])


@BOTH
@given(lines, st.lists(st.integers(0, 60), max_size=6))
def test_lines_are_the_same_however_they_are_cut(module, data, places):
    places = sorted(min(place, len(data)) for place in places)
    stream = module.RecvBuffer()
    found = []
    for start, stop in zip([0, *places], [*places, len(data)]):
        stream.feed(data[start:stop])
        found += read_lines(stream)
    *whole, rest = data.split(b"\n")
    assert found == [line + b"\n" for line in whole]
    assert stream.size() == len(rest)


def test_a_needed_block_is_joined_when_it_is_there(new_stream):
    stream = with_bytes(new_stream, b"line\n01", pos=5)
    stream.require(5, 6)
    for chunk, size in ((b"2", 3), (b"34", 5)):
        stream.feed(chunk)
        assert not stream.has_news()
        assert stream.size() == size
    stream.feed(b"5678")
    assert stream.has_news()
    assert left(stream) == b"012345678"


def test_wait_for_leaves_out_what_stands_before(new_stream):
    stream = with_bytes(new_stream, b"done|rest")
    stream.require(5, 6)
    assert stream.size() == 4
    stream.feed(b"of it")
    assert left(stream) == b"restof it"


def test_drop_takes_what_is_there(new_stream):
    stream = with_bytes(new_stream, b"abcdef", pos=1)
    assert stream.discard(3) == 3
    assert stream.discard(10) == 2
    assert stream.discard(10) == 0
    stream.feed(b"gh")
    assert stream.discard(1) == 1
    assert left(stream) == b"h"


# -- from a socket

#: The maximum of bytes that is received at once.
CHUNK = 256 * 1024


def send(end, data):
    """Returns how many bytes the kernel took."""
    try:
        return end.send(data)
    except BlockingIOError:
        return 0


def test_bytes_that_have_arrived(new_stream, ends):
    ours, theirs = ends
    stream = new_stream()
    theirs.send(b"hello")
    assert stream.receive(ours.fileno()) == 5
    assert left(stream) == b"hello"


@BOTH
def test_none_if_there_are_none_now(module, ends):
    assert module.RecvBuffer().receive(ends[0].fileno()) == NOTHING


def test_the_end(new_stream, ends):
    ours, theirs = ends
    stream = new_stream()
    theirs.send(b"last")
    theirs.close()
    assert [stream.receive(ours.fileno()) for _ in range(3)] == [4, 0, 0]
    assert left(stream) == b"last"


def test_no_more_than_one_buffer_at_once(new_stream, ends):
    ours, theirs = ends
    sent = theirs.send(bytes(1_000_000))
    stream = new_stream()
    counts = []
    while (count := stream.receive(ours.fileno())) > 0:
        counts.append(count)
        stream.pos += count
        stream.release_memory()
    assert sum(counts) == sent
    assert max(counts) <= CHUNK


def test_a_reset(new_stream):
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname(), PATIENCE) as ours:
        listener.settimeout(PATIENCE)
        reset(listener.accept()[0])
        with pytest.raises(ConnectionResetError):
            new_stream().receive(ours.fileno())


def test_no_descriptor(new_stream):
    with pytest.raises(OSError):
        new_stream().receive(-1)


@BOTH
@given(data=st.data())
def test_many_streams_at_once_keep_their_bytes(module, data):
    """Each in turn receives some bytes and parses some, in blocks that it may have to wait for."""
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(3)]
        for end in sum(pairs, ()):
            stack.enter_context(end).setblocking(False)
        streams = [module.RecvBuffer() for _ in pairs]
        under_way = [b"" for _ in pairs]  # sent and not yet received
        expected = [b"" for _ in pairs]  # received and not yet parsed
        for step in range(data.draw(st.integers(1, 25))):
            number = data.draw(st.integers(0, 2))
            (ours, theirs), stream = pairs[number], streams[number]
            text = bytes([97 + step]) * data.draw(st.sampled_from([0, 1, 100, 3000, 5000, 70_000]))
            under_way[number] += text[: send(theirs, text)]
            if data.draw(st.booleans()):
                count = max(stream.receive(ours.fileno()), 0)
                assert count or not under_way[number]
                expected[number] += under_way[number][:count]
                under_way[number] = under_way[number][count:]
            assert stream.size() == len(expected[number])
            block = data.draw(st.sampled_from([1, 50, 4000, 6000, 16_000, 100_000]))
            if stream.has_news() and stream.end - stream.pos >= block:
                assert stream.cut(stream.pos, stream.pos + block) == expected[number][:block]
                stream.pos += block
                expected[number] = expected[number][block:]
                if data.draw(st.booleans()):
                    stream.release_memory()
            elif stream.has_news():
                stream.require(stream.pos, block)
                assert left(stream) == expected[number]


# -- long blocks


def test_a_long_block_is_cut_out_where_it_was_received(ends):
    """In the compiled build, where that saves copies: for 1 MiB values, their time."""
    if compiled is None:
        pytest.skip("not compiled")
    ours, theirs = ends
    stream = compiled.RecvBuffer()
    block = bytes(range(256)) * 4096
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(block))
    sent = theirs.send(block)
    stream.receive(ours.fileno())
    stream.require(0, len(block))
    while stream.size() < len(block):
        sent += send(theirs, block[sent:])
        stream.receive(ours.fileno())
    assert stream.cut(0, len(block)) == block
    assert stream.cut(0, len(block)) is stream.cut(0, len(block))


# -- time


def seconds_for(new_stream, size, need):
    """Seconds to receive `size` bytes in small chunks while the parser waits for the end of a block, or of a line."""
    stream = new_stream()
    stream.feed(b"x")
    start = time.perf_counter()
    for _ in range(size // 64):
        stream.need = need
        stream.feed(b"x" * 64)
        if stream.has_news():
            stream.line_end(stream.pos)
    return time.perf_counter() - start


def test_a_block_that_is_waited_for_is_not_looked_at_before_its_end(new_stream):
    """In however many pieces it arrives: a check at each piece would take quadratic time."""
    stream = new_stream()
    stream.feed(b"x")
    looks = 0
    for _ in range(1000):
        stream.need = 64 * 1000
        stream.feed(b"x" * 64)
        looks += stream.has_news()
    assert looks == 1


@pytest.mark.long  # it compares times, which a busy machine changes
def test_a_long_block_takes_linear_time(new_stream):
    """For 16 times the bytes, somewhat more than 16 times the seconds (because of new memory), far less than 256 times."""
    short, long = (min(seconds_for(new_stream, size, 1 << 30) for _ in range(3)) for size in (1 << 17, 1 << 21))
    assert long < 160 * short


# -- reading bytes


def test_line_end_goes_on_where_it_stopped(new_stream):
    stream = with_bytes(new_stream, b"abc")
    assert stream.line_end(0) == -1
    stream.feed(b"d\ne\n")
    assert stream.line_end(0) == 4
    assert stream.line_end(5) == 6
    assert stream.line_end(7) == -1


NUMBERS = [
    (b"0", 0),
    (b"7", 7),
    (b"007", 7),
    (b"1048576", 1048576),
    (b"9999999999", 9999999999),
    (b"10000000000", -1),
    (b"", -1),
    (b"-1", -1),
    (b"+1", -1),
    (b"1_0", -1),
    (b"1 ", -1),
    (b" 1", -1),
    (b"1\r", -1),
    (b"0x1", -1),
    (b"\xb2", -1),
    ("\u0661".encode(), -1),
]


@pytest.mark.parametrize("text, number", NUMBERS)
def test_a_number_is_digits_and_nothing_else(new_stream, text, number):
    assert with_bytes(new_stream, b"a " + text + b" b").parse_number(2, 2 + len(text)) == number


@pytest.mark.parametrize(
    "text, is_text", [(b"a", True), (b"", True), (b"\xff\t\x0b", True), (b"a b", False), (b"a\r", False), (b"\n", False), (b"\0a", False)]
)
def test_what_may_be_a_key_of_the_text_protocol(new_stream, text, is_text):
    assert with_bytes(new_stream, b" \n" + text + b"\r\n").is_text(2, 2 + len(text)) is is_text


@needs_both
@given(st.lists(lines, max_size=3), offset, offset, lines)
def test_both_builds_see_the_same(chunks, start, stop, text):
    views = []
    for module in (pure, compiled):
        stream = module.RecvBuffer()
        for chunk in chunks:
            stream.feed(chunk)
        size = stream.size()
        first, last = min(start, size), min(stop, size)
        views.append(
            (
                stream.line_end(first),
                stream.word_end(first, last),
                stream.find_nul(first, last),
                stream.cut(first, stop),
                stream.is_text(first, last),
                stream.starts_with(first, text),
                first > last or stream.equals(first, last, text),
                stream.parse_number(first, last),
                stream.discard(start),
                stream.pos,
                stream.size(),
                stream.has_news(),
                stream.release_memory(),
                left(stream),
            )
        )
    assert views[0] == views[1]


@needs_both
def test_both_builds_have_the_same_methods():
    def public(kind):
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(pure.RecvBuffer) == public(compiled.RecvBuffer)


# -- numbers of a value's header


@pytest.mark.parametrize(
    "written, length",
    [
        (b" 0 5", 5),
        (b" 4294967295 4294967295", 4294967295),
        (b" 9999999999 9999999999", 9999999999),
        (b" 0 5 7", 5),
        (b" 0 0000000005", 5),
        (b" 0 5 18446744073709551615", 5),
        (b" 0 5 " + b"9" * 20, 5),
        (b"", -1),
        (b" ", -1),
        (b" 0", -1),
        (b" 0 ", -1),
        (b"0 5", -1),
        (b" 0 5 ", -1),
        (b" 0 5 7 ", -1),
        (b" 0 5 7 8", -1),
        (b"  0 5", -1),
        (b" 0  5", -1),
        (b" 0 00000000005", -1),
        (b" 00000000000 5", -1),
        (b" 0 5 " + b"9" * 21, -1),
        (b" -1 5", -1),
        (b" 0 -5", -1),
        (b" 0 +5", -1),
        (b" 0 5x", -1),
        (b" 0 \xd9\xa1", -1),
        (b" 0 5\r", -1),
        (b" 0 5\0", -1),
        (b" 0 " + b"0" * 5000 + b"5", -1),
    ],
)
def test_the_length_of_a_value(new_stream, written, length):
    """ValueHeader is tested in test_value_header.py: here the buffer must pass it the right bytes."""
    stream = with_bytes(new_stream, b"VALUE k%b\r\n12345" % written)
    header = (pure_headers if new_stream is pure.RecvBuffer else value_header).ValueHeader()
    parsed = stream.parse_value_header(header, 7, 7 + len(written) + 2)
    assert parsed is (length >= 0)
    if parsed:
        assert (header.length, header.data_start, header.end) == (length, 9 + len(written), 9 + len(written) + length + 2)


@pytest.mark.parametrize(
    "written, is_one", [(b"0", True), (b"9" * 20, True), (b"9" * 21, False), (b"", False), (b"-1", False), (b"1 ", False)]
)
def test_a_cas_number(new_stream, written, is_one):
    stream = with_bytes(new_stream, b"c" + written + b"\r\n")
    assert stream.is_cas_number(1, 1 + len(written)) is is_one
