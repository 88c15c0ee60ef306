"""Headers parsed and packets made, in both builds of the module: the same behaviour, and that of packets that the tests make themselves."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builds import from_source, needs_both

from gmproxy.compiled import COMPILED
from gmproxy.protocol import recv_buffer
from gmproxy.protocol.binary import codec
from gmproxy.protocol.value_header import ValueHeader

pure, pure_stream = from_source("protocol.binary.codec", "protocol.recv_buffer", "protocol.value_header", "transport.plain")[:2]
RecvBuffer = pure_stream.RecvBuffer
compiled = codec if COMPILED else None
new_compiled_stream = recv_buffer.RecvBuffer

#: magic, opcode, lengths of key and extras, data type, status, length of the body, opaque, cas: see memcached's protocol-binary.txt.
HEADER = struct.Struct(">BBHBBHLLQ")
NUMBERS = ("magic", "opcode", "key_length", "extras_length", "status", "body_length", "opaque", "cas")

byte, two_bytes, four_bytes, eight_bytes = [st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64)]
some_bytes = st.binary(max_size=40)


@pytest.fixture(params=["pure", pytest.param("compiled", marks=needs_both)])
def build(request):
    """(the module, the RecvBuffer that its Header reads)"""
    return (pure, RecvBuffer) if request.param == "pure" else (compiled, new_compiled_stream)


def header_of(reply, start):
    header = ValueHeader()
    assert header.parse_value(reply, start)
    return header


def for_both(check):
    """Run `check(module, new_stream)` for each available build."""
    check(pure, RecvBuffer)
    if compiled is not None:
        check(compiled, new_compiled_stream)


@given(byte, byte, two_bytes, byte, byte, two_bytes, four_bytes, four_bytes, eight_bytes, st.integers(0, 30))
def test_a_header_is_taken_apart(magic, opcode, key_length, extras_length, data_type, status, body_length, opaque, cas, before):
    def check(module, new_stream):
        stream = new_stream()
        stream.feed(
            b"x" * before + HEADER.pack(magic, opcode, key_length, extras_length, data_type, status, body_length, opaque, cas) + b"y"
        )
        header = module.PacketHeader()
        header.parse(stream, before)
        told = tuple(getattr(header, name) for name in NUMBERS)
        assert told == (magic, opcode, key_length, extras_length, status, body_length, opaque, cas)

    for_both(check)


def test_a_header_that_is_not_all_there_is_not_read(build):
    module, new_stream = build
    stream = new_stream()
    stream.feed(bytes(HEADER.size))
    for start in (1, HEADER.size, 1000):
        with pytest.raises((IndexError, struct.error)):
            module.PacketHeader().parse(stream, start)


@given(byte, byte, two_bytes, four_bytes, eight_bytes, some_bytes, some_bytes, some_bytes)
def test_a_packet(magic, opcode, status, opaque, cas, extras, key, value):
    size = len(extras) + len(key) + len(value)
    told = HEADER.pack(magic, opcode, len(key), len(extras), 0, status, size, opaque, cas) + extras + key + value
    for_both(lambda module, _: check_equal(module.PACKER.packet(magic, opcode, status, opaque, cas, extras, key, value), told))


def check_equal(one, other):
    assert one == other


@given(
    st.binary(min_size=1, max_size=20).filter(lambda key: not set(key) & set(b" \r\n\0")),
    four_bytes,
    eight_bytes,
    some_bytes,
    byte,
    four_bytes,
    st.booleans(),
    st.booleans(),
)
def test_an_item(key, flags, cas, value, opcode, opaque, has_cas, is_named):
    """Its block is between others, and the value may look like a header."""
    block = b"VALUE %b %d %d%b\r\n%b\r\n" % (key, flags, len(value), b" %d" % cas if has_cas else b"", value)
    named = key if is_named else b""
    told = HEADER.pack(0x81, opcode, len(named), 4, 0, 0, 4 + len(named) + len(value), opaque, cas if has_cas else 0)
    told += struct.pack(">L", flags) + named + value
    reply = b"VALUE x 1 1\r\n1\r\n" + block + block + b"END\r\n"
    start = reply.index(block)
    header = header_of(reply, start)
    for_both(lambda module, _: check_equal(module.PACKER.value_packet(opcode, opaque, reply, header, named), told))


@pytest.mark.parametrize(
    "written, told",
    [
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", 0),
        (b"99999999999999999999", 99999999999999999999 % 2**64),
        (b"0", 0),
    ],
)
def test_a_cas_number_that_cannot_be_true_does_not_stop_us(build, written, told):
    reply = b"VALUE a 0 1 %b\r\nx\r\n" % written
    packet = build[0].PACKER.value_packet(0, 0, reply, header_of(reply, 0), b"")
    assert HEADER.unpack(packet[: HEADER.size])[-1] == told


@pytest.mark.parametrize("reply", [b"", b"VALUE a 0 1\r\nx\r", b"VALUE a 0 1\r\n"])
def test_a_value_that_is_not_whole_is_refused(build, reply):
    header = header_of(b"VALUE a 0 1\r\nx\r\n", 0)
    with pytest.raises(ValueError):
        build[0].PACKER.value_packet(0, 0, reply, header, b"")


@needs_both
def test_both_builds_have_the_same_methods():
    for name in ("PacketHeader", "Packer"):
        ours, theirs = [{method for method in dir(getattr(module, name)) if not method.startswith("_")} for module in (pure, compiled)]
        assert ours == theirs
