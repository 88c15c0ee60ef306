"""Packets of the binary protocol as gmproxy makes and parses them, compared with those that the tests make themselves."""

import pytest
from support.packets import NAMES, OPCODES, packet

from gmproxy.protocol.binary import packets

STATS = packet("stat", b"pid", b"123", magic=0x81) + packet("stat", b"uptime", b"", magic=0x81) + packet("stat", magic=0x81)


@pytest.mark.parametrize("name", OPCODES)
def test_opcodes(name):
    ours = name.upper().replace("INCR", "INCREMENT").replace("DECR", "DECREMENT")
    ours = {"MECHANISMS": "SASL_MECHANISMS", "AUTH": "SASL_AUTH", "STEP": "SASL_STEP"}.get(ours, ours)
    assert NAMES[getattr(packets, ours)] == name


def test_a_request():
    asked = packets.request_packet(packets.SET, b"key", bytes(8), b"value", 0x61626364, 7)
    assert asked == packet("set", b"key", b"value", bytes(8), 7, b"abcd")
    assert packets.request_packet(packets.NOOP) == packet("noop", opaque=bytes(4))


def test_answers():
    answers = packets.parse_packets(STATS)
    assert answers == [(0, b"pid", b"123"), (0, b"uptime", b""), (0, b"", b"")]
    flags = packet("get", b"", b"hello", bytes(4), magic=0x81)
    assert packets.parse_packets(flags) == [(0, b"", b"hello")]


@pytest.mark.parametrize("missing", range(1, len(STATS)))
def test_answers_of_which_the_end_is_missing(missing):
    cut = STATS[:-missing]
    assert packets.parse_packets(cut) == packets.parse_packets(STATS)[: len(packets.parse_packets(cut))]
    assert len(packets.parse_packets(cut)) < 3


@pytest.mark.parametrize("said", [b"ERROR\r\n", b"\x80", packet("noop"), STATS + b"x"])
def test_no_answers(said):
    with pytest.raises(ValueError, match="not a packet of the binary protocol"):
        packets.parse_packets(said)
