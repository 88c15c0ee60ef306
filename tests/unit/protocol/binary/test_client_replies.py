"""The replies that a client of the binary protocol receives, made from the text replies of servers."""

import pytest
from support.packets import count, packet, store, touch
from support.requests import binary_replies

ODD = b"a b\r\n\0"  # a key that a line cannot contain
A = b"VALUE a 5 2 7\r\nhi\r\n"
END = b"END\r\n"


@pytest.mark.parametrize(
    "data, reply, status, rest",
    [
        (packet("get", b"a"), A + END, 0, (7, b"\0\0\0\5", b"", b"hi")),
        (packet("getk", b"a"), A + END, 0, (7, b"\0\0\0\5", b"a", b"hi")),
        (packet("get", b"a"), END, 1, (0, b"", b"", b"Not found")),
        (packet("getk", b"a"), END, 1, (0, b"", b"a", b"")),
        (packet("getk", ODD), b"VA 4 f5 c7\r\n\r\n\r\n\r\n", 0, (7, b"\0\0\0\5", ODD, b"\r\n\r\n")),
        (packet("getk", ODD), b"EN\r\n", 1, (0, b"", ODD, b"")),
        (touch("touch", b"a"), b"HD f5 c7\r\n", 0, (7, b"\0\0\0\5", b"", b"")),
        (touch("touch", b"a"), b"EN\r\n", 1, (0, b"", b"", b"Not found")),
        (touch("gatk", b"a"), b"VA 0 f0 c7 W\r\n\r\n", 0, (7, bytes(4), b"a", b"")),
        (store("set", b"a", b""), b"HD c18446744073709551615\r\n", 0, (2**64 - 1, b"", b"", b"")),
        (store("set", b"a", b""), b"EX c0\r\n", 2, (0, b"", b"", b"Data exists for key.")),
        (store("set", b"a", b""), b"NF c0\r\n", 1, (0, b"", b"", b"Not found")),
        (store("add", b"a", b""), b"NS c0\r\n", 2, (0, b"", b"", b"Data exists for key.")),
        (store("replace", b"a", b""), b"NS c0\r\n", 1, (0, b"", b"", b"Not found")),
        (packet("append", b"a", b""), b"NS c0\r\n", 5, (0, b"", b"", b"Not stored.")),
        (packet("delete", b"a"), b"HD\r\n", 0, (0, b"", b"", b"")),
        (packet("delete", b"a"), b"NF\r\n", 1, (0, b"", b"", b"Not found")),
        (count("incr", b"a"), b"VA 20 c7\r\n18446744073709551615\r\n", 0, (7, b"", b"", b"\xff" * 8)),
        (
            count("incr", b"a"),
            b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            6,
            (0, b"", b"", b"Non-numeric server-side value for incr or decr"),
        ),
        (packet("flush"), b"OK\r\n", 0, (0, b"", b"", b"")),
        (packet("flush"), b"CLIENT_ERROR flush_all not allowed\r\n", 0x20, (0, b"", b"", b"Auth failure.")),
        (packet("version"), b"VERSION 1.6.18 x\r\n", 0, (0, b"", b"", b"1.6.18 x")),
        (packet("quit"), b"", 0, (0, b"", b"", b"")),
        (store("set", b"a", b""), b"SERVER_ERROR object too large for cache\r\n", 3, (0, b"", b"", b"Too large.")),
        (store("set", b"a", b""), b"SERVER_ERROR out of memory storing object\r\n", 0x82, (0, b"", b"", b"Out of memory")),
        (store("set", b"a", b""), b"ERROR\r\n", 0x84, (0, b"", b"", b"ERROR")),
        (packet("getQ", b"a"), b"SERVER_ERROR closed a:1\r\n", 0x84, (0, b"", b"", b"closed a:1")),
    ],
)
def test_answers(data, reply, status, rest):
    (answer,) = binary_replies(data, reply)
    assert (answer.status, answer[2:6], answer.opaque) == (status, rest, b"abcd")


@pytest.mark.parametrize(
    "data, reply",
    [
        (packet("getQ", b"a"), END),
        (packet("getkQ", ODD), b"EN\r\n"),
        (touch("gatQ", b"a"), b"EN\r\n"),
        (store("setQ", b"a", b""), b"HD\r\n"),
        (packet("appendQ", b"a", b""), b"HD\r\n"),
        (packet("deleteQ", b"a"), b"HD\r\n"),
        (count("incrQ", b"a"), b"VA 1 c7\r\n5\r\n"),
        (packet("flushQ"), b"OK\r\n"),
        (packet("quitQ"), b""),
    ],
)
def test_what_a_quiet_command_does_not_say(data, reply):
    assert binary_replies(data, reply) == []


@pytest.mark.parametrize(
    "data, reply, status",
    [
        (store("setQ", b"a", b""), b"EX\r\n", 2),
        (store("addQ", b"a", b""), b"NS\r\n", 2),
        (packet("deleteQ", b"a"), b"NF\r\n", 1),
        (touch("gatQ", b"a"), b"VA 0 f0 c1\r\n\r\n", 0),
        (count("incrQ", b"a"), b"NF\r\n", 1),
    ],
)
def test_and_what_it_says(data, reply, status):
    (answer,) = binary_replies(data, reply)
    assert answer.status == status


def test_statistics_are_packets_and_an_empty_one():
    answers = binary_replies(packet("stat"), b"STAT pid 5\r\nSTAT version 1 2 3\r\nEND\r\n")
    assert [(answer.key, answer.value) for answer in answers] == [(b"pid", b"5"), (b"version", b"1 2 3"), (b"", b"")]
    assert [answer.key for answer in binary_replies(packet("stat", b"reset"), b"RESET\r\n")] == [b""]
    assert [answer.status for answer in binary_replies(packet("stat", b"x"), b"ERROR\r\n")] == [1]
