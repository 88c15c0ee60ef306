"""The text protocol of clients: what tests/wire does not show, limits and single functions. The samples there show each command."""

import pytest

from gmproxy.protocol import limits
from gmproxy.protocol.text import requests as text

MAX_ITEM_SIZE = 1000


def parse(*chunks):
    """The requests in `chunks`."""
    parser = text.TextParser(MAX_ITEM_SIZE)
    found = []
    for chunk in chunks:
        parser.stream.feed(chunk)
        while (request := parser.next_request()) is not None:
            found.append(request)
    return found


def only(*chunks):
    found = parse(*chunks)
    assert len(found) == 1
    return found[0]


# -- a request and its fields


def test_a_request_of_one_key():
    request = only(b"get a\r\n")
    assert (request.command.name, request.key, request.keys, request.line) == (b"get", b"a", None, b"get a\r\n")
    assert (request.quiet, request.reply) == (False, None)


def test_a_request_of_many_keys_leaves_its_line_to_be_completed():
    request = only(b"get a b  a\r\n")
    assert (request.key, request.keys, request.line) == (b"a", [b"a", b"b", b"a"], b"get ")
    assert only(b"gat 007 a b\r\n").line == b"gat 7 "


def test_a_request_with_a_block():
    request = only(b"set a 1 2 3 noreply\r\nxyz\r\n")
    assert (request.key, request.line, request.quiet) == (b"a", b"set a 1 2 3\r\nxyz\r\n", True)


def test_a_mistake_is_answered_without_a_verb():
    request = only(b"nonsense\r\n")
    assert (request.command, request.key, request.reply) == (None, b"", text.ERROR)


@pytest.mark.parametrize("command", [b"version", b"stats", b"quit", b"stats settings now"])
def test_commands_for_the_proxy_keep_their_words(command):
    name, *words = command.split(b" ")
    request = only(command + b"\r\n")
    assert (request.command.name, request.keys, request.key) == (name, words, b"")


@pytest.mark.parametrize(
    "said, line",
    [
        (b"flush_all", b"flush_all\r\n"),
        (b"flush_all 0", b"flush_all\r\n"),
        (b"flush_all 10", b"flush_all 10\r\n"),
        (b"flush_all -1", b"flush_all -1\r\n"),
        (b"flush_all 5\tx noreply", b"flush_all 5\r\n"),
    ],
)
def test_flush_all_is_written_plainly(said, line):
    request = only(said + b"\r\n")
    assert (request.line, request.quiet) == (line, said.endswith(b"noreply"))


# -- incomplete requests


def test_nothing_comes_of_half_a_line():
    assert parse(b"get a") == []
    assert only(b"get a", b"b", b"c\r", b"\n").key == b"abc"


def test_nothing_comes_of_half_a_block():
    assert parse(b"set a 0 0 5\r\nhel") == []
    assert parse(b"set a 0 0 5\r\nhello\r") == []
    assert only(b"set a 0 0 5\r\nhel", b"lo", b"\r", b"\n").line == b"set a 0 0 5\r\nhello\r\n"


def test_two_requests_in_one_chunk():
    first, second = parse(b"get a\r\nset b 0 0 1\r\n1\r\nget c")
    assert (first.key, second.key) == (b"a", b"b")


# -- limits


def test_the_longest_key():
    assert only(b"get %b\r\n" % (b"k" * limits.MAX_KEY)).reply is None
    assert only(b"get %b\r\n" % (b"k" * (limits.MAX_KEY + 1))).reply == text.BAD_FORMAT


def test_the_largest_block():
    assert only(b"set a 0 0 1000\r\n", b"x" * 1000 + b"\r\n").reply is None
    delete, refusal = parse(b"set a 0 0 1001\r\n", b"x" * 1001 + b"\r\n")
    assert (delete.command.name, delete.key, delete.line, delete.quiet) == (b"delete", b"a", b"delete a\r\n", True)
    assert (refusal.reply, refusal.quiet) == (text.TOO_LARGE, False)


@pytest.mark.parametrize("command", [b"add", b"replace", b"append", b"prepend"])
def test_a_block_too_large_leaves_the_old_value_but_of_a_set(command):
    assert only(command + b" a 0 0 1001\r\n", b"x" * 1001 + b"\r\n").reply == text.TOO_LARGE


def test_the_refusal_comes_after_the_block():
    parser = text.TextParser(MAX_ITEM_SIZE)
    parser.stream.feed(b"add a 0 0 2000 noreply\r\n")
    for _ in range(20):
        assert parser.next_request() is None
        parser.stream.feed(b"x" * 100)
    assert parser.next_request() is None
    parser.stream.feed(b"\r\nget a\r\n")
    refusal = parser.next_request()
    assert (refusal.reply, refusal.quiet) == (text.TOO_LARGE, True)
    assert parser.next_request().key == b"a"


def test_a_refused_block_is_not_kept():
    parser = text.TextParser(MAX_ITEM_SIZE)
    parser.stream.feed(b"add a 0 0 2147483645\r\n")
    for _ in range(50):
        parser.next_request()
        parser.stream.feed(b"x" * 10_000)
        assert parser.stream.size() <= 10_000


def test_the_longest_block_that_may_be_announced():
    assert parse(b"add a 0 0 %d\r\n" % limits.MAX_ANNOUNCED_LENGTH) == []


def test_a_longer_block():
    assert only(b"add a 0 0 %d\r\n" % (limits.MAX_ANNOUNCED_LENGTH + 1)).reply == text.BAD_FORMAT


@pytest.mark.parametrize("start", [b"", b"set ", b"gat 0 ", b"  foo ", b" " * 105 + b"get "])
def test_a_line_without_end_is_given_up(start):
    line = start.ljust(limits.MAX_UNFINISHED_LINE, b"x")
    assert parse(line) == []
    with pytest.raises(text.LineTooLong):
        parse(line, b"x")


@pytest.mark.parametrize("command", [b"get", b"gets", b"   get"])
def test_a_get_may_be_long_but_not_for_ever(command):
    key = b" " + b"k" * 200
    line = command + key * 20_000
    assert parse(line) == []
    assert len(only(line, b"\r\n").keys) == 20_000
    with pytest.raises(text.LineTooLong):
        parse(line, b" " * limits.MAX_GET_LINE)


def test_a_whole_line_may_be_longer_than_an_unfinished_one():
    line = b"gat 0" + b" key" * 2000
    assert len(only(line + b"\r\n").keys) == 2000
    with pytest.raises(text.LineTooLong):
        parse(line * 3 + b"\r\n")


def test_a_long_line_in_pieces_is_given_up():
    """As in memcached, which cannot know whether the line will end."""
    line = b"gat 0" + b" key" * 2000 + b"\r\n"
    with pytest.raises(text.LineTooLong):
        parse(line[:3000], line[3000:])


def test_many_bytes_one_by_one():
    said = b"get a\r\n" * 2000
    assert len(parse(*(said[i : i + 1] for i in range(len(said))))) == 2000


# -- numbers as C parses them


@pytest.mark.parametrize(
    "word, number",
    [
        (b"0", 0),
        (b"-0", 0),
        (b"+5", 5),
        (b"-5", -5),
        (b"007", 7),
        (b"\t\v\f\r5", 5),
        (b"5\tx", 5),
        (b"5\r", 5),
        (b"100", 100),
        (b"", None),
        (b"-", None),
        (b"+-5", None),
        (b"x", None),
        (b"5x", None),
        (b"0x5", None),
        (b"1_0", None),
        (b"1.5", None),
        (b"\xd9\xa1", None),
        (b"101", None),
        (b"-101", None),
        (b"9" * 30, None),
        (b"-" + b"9" * 30, None),
        (b"0" * 19 + b"5", 5),
    ],
)
def test_numbers_from_minus_100_to_100(word, number):
    assert text.c_number(word, -100, 100) == number


@pytest.mark.parametrize(
    "number, kept",
    [
        (0, 0),
        (-1, -1),
        (2**31 - 1, 2**31 - 1),
        (2**31, -(2**31)),
        (2**32, 0),
        (2**32 + 5, 5),
        (-(2**31) - 1, 2**31 - 1),
        (-(2**63), 0),
    ],
)
def test_what_32_bits_keep(number, kept):
    assert text.as_int32(number) == kept
