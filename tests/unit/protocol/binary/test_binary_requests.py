"""The requests in the bytes of a client of the binary protocol. tests/differential compares the replies with those of memcached."""

import pytest
from support.packets import Answer, count, packet, store, taken_apart, touch
from support.requests import MAX_ITEM_SIZE, binary_parser, binary_replies, binary_request, binary_requests

from gmproxy.protocol import commands, limits
from gmproxy.protocol import request as message

ODD = b"a b\r\n\0"  # a key that a line cannot contain
ODD_WORD = b"YSBiDQoA"


# -- parsed


@pytest.mark.parametrize(
    "data, line",
    [
        (packet("get", b"a"), b"gets a\r\n"),
        (packet("getkQ", b"a\xff"), b"gets a\xff\r\n"),
        (packet("get", ODD), b"mg %b b f c v\r\n" % ODD_WORD),
        (store("set", b"a", b"hi", 5, 9), b"ms a 2 T9 F5 c\r\nhi\r\n"),
        (store("setQ", b"a", b"hi"), b"ms a 2 T0 F0\r\nhi\r\n"),
        (store("set", b"a", b"", cas=7), b"ms a 0 C7 T0 F0 c\r\n\r\n"),
        (store("set", ODD, b"\r\n"), b"ms %b 2 b T0 F0 c\r\n\r\n\r\n" % ODD_WORD),
        (store("add", b"a", b"hi"), b"ms a 2 ME T0 F0 c\r\nhi\r\n"),
        (store("add", b"a", b"hi", cas=7), b"ms a 2 C7 T0 F0 c\r\nhi\r\n"),
        (store("replaceQ", b"a", b"hi"), b"ms a 2 MR T0 F0\r\nhi\r\n"),
        (store("set", b"a", b"hi", 2**32 - 1, 2**32 - 1), b"ms a 2 T2147483647 F4294967295 c\r\nhi\r\n"),
        (packet("append", b"a", b"hi"), b"ms a 2 MA c\r\nhi\r\n"),
        (packet("prependQ", b"a", b"hi", cas=7), b"ms a 2 MP C7\r\nhi\r\n"),
        (packet("delete", b"a"), b"md a\r\n"),
        (packet("deleteQ", b"a", cas=7), b"md a C7\r\n"),
        (count("incr", b"a", 5, 10, 60), b"ma a MI D5 v c N60 J10\r\n"),
        (count("decr", b"a", 5), b"ma a MD D5 v c\r\n"),
        (count("incrQ", ODD, 5, cas=7), b"ma %b b MI D5 v c C7\r\n" % ODD_WORD),
        (touch("touch", b"a", 60), b"mg a T60 f c\r\n"),
        (touch("gat", b"a", 60), b"mg a T60 f c v\r\n"),
        (touch("gatkQ", ODD, 60), b"mg %b b T60 f c v\r\n" % ODD_WORD),
        (packet("flush"), b"flush_all\r\n"),
        (packet("flushQ", extras=b"\0\0\0\x05"), b"flush_all 5\r\n"),
    ],
)
def test_what_a_server_is_asked(data, line):
    assert binary_request(data).line == line


@pytest.mark.parametrize(
    "data, facts",
    [
        (packet("get", b"a"), "is_read idempotent"),
        (packet("get", ODD), "is_read idempotent"),
        (touch("gat", b"a"), "is_read is_write idempotent"),
        (touch("touch", b"a"), "is_read is_write idempotent"),
        (store("set", b"a", b""), "is_write"),
        (store("add", b"a", b""), "is_write conditional"),
        (store("set", b"a", b"", cas=1), "is_write conditional"),
        (packet("append", b"a", b"x"), "is_write"),
        (packet("append", b"a", b"x", cas=1), "is_write conditional"),
        (packet("delete", b"a"), "is_write"),
        (packet("delete", b"a", cas=1), "is_write conditional"),
        (count("incr", b"a"), "is_write"),
        (count("incr", b"a", cas=1), "is_write conditional"),
    ],
)
def test_what_the_router_is_told(data, facts):
    request = binary_request(data)
    assert [fact for fact in ("is_read", "is_write", "conditional", "idempotent") if getattr(request.command, fact)] == facts.split()
    assert request.key == data[24 + data[4] : 24 + data[4] + data[3]]


@pytest.mark.parametrize("name", ["version", "stat", "quit", "quitQ"])
def test_what_the_proxy_answers_itself_is_the_command_of_the_text_protocol(name):
    request = binary_request(packet(name))
    assert request.command is commands.COMMANDS[{"stat": b"stats", "quitQ": b"quit"}.get(name, name.encode())]
    assert (request.key, request.keys) == (b"", [])


def test_stat_with_a_name():
    assert binary_request(packet("stat", b"settings")).keys == [b"settings"]


@pytest.mark.parametrize("data", [packet("noop"), packet("verbosity", extras=bytes(4))])
def test_what_needs_no_server(data):
    request = binary_request(data)
    (answer,) = taken_apart(request.reply)
    assert request.command is None and (answer.status, answer.value, answer.opaque) == (0, b"", b"abcd")


# -- consecutive quiet gets


def test_quiet_gets_that_arrived_together_are_one():
    run = packet("getQ", b"a") + packet("getkQ", b"b") + packet("getQ", b"a")
    one, noop = binary_requests(run + packet("noop"))
    assert (one.line, one.keys, one.key) == (b"gets ", [b"a", b"b", b"a"], b"a")
    assert noop.command is None


def test_a_get_ends_the_run():
    one, other = binary_requests(packet("getQ", b"a") + packet("getk", b"b") + packet("getQ", b"c"))
    assert (one.keys, other.line) == ([b"a", b"b"], b"gets c\r\n")


@pytest.mark.parametrize(
    "data", [packet("get", b"b"), packet("getQ", ODD), packet("noop"), store("set", b"b", b""), packet("getQ", b"b", magic=0)]
)
def test_what_is_not_part_of_a_run(data):
    parser = binary_parser(packet("getQ" if data[1] else "get", b"a") + data)
    assert parser.next_request().line == b"gets a\r\n"
    assert parser.stream.size() == len(data)


def test_a_run_has_an_end():
    keys = [b"key%d" % number for number in range(limits.MAX_QUIET_GETS + 3)]
    one, other = binary_requests(b"".join(packet("getQ", key) for key in keys))
    assert [*one.keys, *other.keys] == keys and len(one.keys) == limits.MAX_QUIET_GETS


RUN = packet("getQ", b"a", opaque=b"0001") + packet("getkQ", b"b", opaque=b"0002") + packet("get", b"a", opaque=b"0003")
A = b"VALUE a 5 2 7\r\nhi\r\n"
B = b"VALUE b 0 7 8\r\n\r\nEND\r\n\r\n"
END = b"END\r\n"


@pytest.mark.parametrize(
    "reply, opaques",
    [
        (A + B + A + END, "123"),
        (A + A + END, "13"),
        (B + A + END, "23"),
        (END, "3"),
        (A + B + END, "123"),
        (B + END, "23"),
    ],
)
def test_of_a_run_each_gets_its_own_answer(reply, opaques):
    answers = binary_replies(RUN, reply)
    assert "".join(answer.opaque.decode().lstrip("0") for answer in answers) == opaques
    for answer in answers:
        if answer.opaque == b"0002":
            assert answer == Answer("getkQ", 0, 8, bytes(4), b"b", b"\r\nEND\r\n", b"0002")
        elif answer.status:
            assert answer == Answer("get", 1, 0, b"", b"", b"Not found", b"0003")
        else:
            assert answer[1:6] == (0, 7, b"\0\0\0\5", b"", b"hi")


def test_an_error_is_told_to_all_of_a_run():
    answers = binary_replies(RUN, b"SERVER_ERROR timeout a:1\r\n")
    assert [(answer.status, answer.value) for answer in answers] == [(0x84, b"timeout a:1")] * 3


# -- refused


@pytest.mark.parametrize(
    "data, status",
    [
        (packet("get"), 4),
        (packet("get", b"a", b"value"), 4),
        (packet("get", b"a", extras=bytes(4)), 4),
        (packet("get", b"k" * 251), 4),
        (packet("set", b"a", b"x"), 4),
        (store("set", b"", b"x"), 4),
        (packet("incr", b"a"), 4),
        (packet("touch", b"a"), 4),
        (packet("noop", b"a"), 4),
        (packet("version", value=b"x"), 4),
        (packet("quit", b"a"), 4),
        (packet("flush", extras=bytes(3)), 4),
        (packet("delete", b"a", b"x"), 4),
        (b"\x80\0\0\5" + bytes(20), 0x81),
    ],
)
def test_after_a_packet_that_is_not_right_nothing_can_be_trusted(data, status):
    with pytest.raises(message.ClientProtocolError) as caught:
        binary_parser(data).next_request()
    (answer,) = taken_apart(caught.value.reply)
    assert answer.status == status


def test_another_magic_is_left_without_a_word():
    with pytest.raises(message.ClientProtocolError) as caught:
        binary_parser(packet("noop", magic=0x81)).next_request()
    assert caught.value.reply == b""


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 5000])
def test_an_unknown_opcode_is_refused_and_its_body_thrown_away(body):
    refused, noop = binary_requests(packet(0x55, body[:3], body[3:]) + packet("noop"))
    assert taken_apart(refused.reply)[0][:2] == (0x55, 0x81)
    assert taken_apart(noop.reply)[0].name == "noop"


@pytest.mark.parametrize("name, deletes", [("set", True), ("setQ", True), ("add", False), ("replaceQ", False)])
def test_a_value_that_is_too_large(name, deletes):
    *delete, refused, noop = binary_requests(store(name, b"a", b"x" * (MAX_ITEM_SIZE + 1)) + packet("noop"))
    assert taken_apart(refused.reply)[0].status == 3
    assert [request.line for request in delete] == [b"md a\r\n"] * deletes
    assert all(request.quiet for request in delete)


def test_a_long_key_that_is_not_text_has_no_room_in_a_command_of_the_text_protocol():
    assert taken_apart(binary_request(packet("get", b" " * 187)).reply)[0].status == 4
    assert binary_request(packet("get", b" " * 186)).reply is None
    assert binary_request(packet("get", b"k" * 250)).reply is None


# -- split at any byte


ALL = (
    store("set", b"a", b"hello", 1, 2)
    + packet("getk", b"a")
    + packet(0x55, b"xyz")
    + store("set", b"b", b"x" * 1500)
    + packet("get", ODD)
    + count("incr", b"a")
    + packet("version")
    + packet("noop")
)


def facts(request):
    return request.command and request.command.name, request.key, request.line, request.quiet, request.reply


@pytest.mark.parametrize("size", [1, 2, 7, 23, 24, 25, 100, 1000])
def test_cuts_change_nothing(size):
    parser = binary_parser()
    found = []
    for start in range(0, len(ALL), size):
        parser.stream.feed(ALL[start : start + size])
        found += map(facts, iter(parser.next_request, None))
    assert found == [facts(request) for request in binary_requests(ALL)]
    assert len(found) == 9
    assert parser.stream.size() == 0
