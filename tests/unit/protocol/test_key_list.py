"""A get of many keys, divided by server and its reply put together, with the same result in both builds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builds import from_source

from gmproxy.compiled import COMPILED
from gmproxy.placement import locators
from gmproxy.placement.hashes import fnv1a_64
from gmproxy.protocol import key_list, recv_buffer, request

in_python, *others = from_source(
    "protocol.key_list",
    "protocol.recv_buffer",
    "placement.locators",
    "protocol.request",
    "protocol.commands",
    "protocol.value_header",
    "placement.hashes",
    "placement.murmur3",
    "transport.plain",
)[:4]
BUILDS = [pytest.param(in_python, *others, id="pure")]
if COMPILED:
    BUILDS.append(pytest.param(key_list, recv_buffer, locators, request, id="compiled"))

each_build = pytest.mark.parametrize("module, streams, rings, messages", BUILDS)

#: More than the spaces and keys that a line may have.
LONGEST = 250

key = st.binary(min_size=1, max_size=12).filter(lambda key: not set(key) & set(b" \r\n\0"))


def block(key, data=b"x", flags=0, cas=None):
    return b"VALUE %b %d %d%b\r\n%b\r\n" % (key, flags, len(data), b"" if cas is None else b" %d" % cas, data)


# -- keys


@each_build
@given(words=st.lists(st.just(b"") | key, max_size=20))
def test_keys_stand_between_blanks(module, streams, rings, messages, words):
    stream = streams.RecvBuffer()
    stream.feed(b"get " + b" ".join(words) + b"\r\n")
    keys = module.KEY_LIST_PARSER.parse_keys(stream, 4, stream.end - 2, LONGEST)
    wanted = [word for word in words if word]
    assert list(keys) == wanted == list(module.KeyList(wanted))
    assert len(keys) == len(wanted)
    assert [word in keys for word in wanted] == [True] * len(wanted)
    assert b" " not in keys
    if wanted:
        assert (keys[0], keys[-1]) == (wanted[0], wanted[-1])
        assert keys.command_line(b"gets ") == b"gets " + b" ".join(wanted) + b"\r\n"


@each_build
def test_one_key_that_is_too_long(module, streams, rings, messages):
    stream = streams.RecvBuffer()
    stream.feed(b"a bbb cc")
    assert list(module.KEY_LIST_PARSER.parse_keys(stream, 0, 8, 3)) == [b"a", b"bbb", b"cc"]
    assert module.KEY_LIST_PARSER.parse_keys(stream, 0, 8, 2) is None


@each_build
def test_there_is_no_key_where_none_is(module, streams, rings, messages):
    for keys, place in ((module.KeyList(), 0), (module.KeyList(), -1), (module.KeyList([b"a"]), 1), (module.KeyList([b"a"]), -2)):
        with pytest.raises(IndexError):
            keys[place]


@each_build
def test_many_short_keys(module, streams, rings, messages):
    """There are more of them than the length of the line suggests."""
    words = [b"%c" % (97 + number % 26) for number in range(1000)]
    stream = streams.RecvBuffer()
    stream.feed(b" ".join(words))
    assert list(module.KEY_LIST_PARSER.parse_keys(stream, 0, stream.end, LONGEST)) == words


@each_build
@given(words=st.lists(key, min_size=1, max_size=60), servers=st.integers(1, 6))
def test_each_server_is_asked_for_its_keys_in_their_order(module, streams, rings, messages, words, servers):
    locator = rings.Buckets(list(range(servers)), fnv1a_64)
    division = module.KeyList(words).partition(locator, servers)
    for owner, part in zip(division.owners, division.parts):
        assert list(part) == [word for word in words if locator.locate(word) == owner]
        assert part.command_line(b"get ") == b"get " + b" ".join(part) + b"\r\n"
    assert sum(map(len, division.parts)) == len(words)
    assert len(set(division.owners)) == len(division.owners)


@each_build
def test_keys_of_all_lengths_and_numbers(module, streams, rings, messages):
    """Their positions are in memory that is reused: few and many in turn, short and long keys, all lists alive at once."""
    locator = rings.Buckets(list(range(7)), fnv1a_64)
    kept = []
    for count in (2, 300, 9, 40, 100, 600, 60, 5) * 3:
        words = [b"%d" % number + b"k" * (number * 31 % 250) for number in range(count)]
        stream = streams.RecvBuffer()
        stream.feed(b"get " + b" ".join(words) + b"\r\n")
        keys = module.KEY_LIST_PARSER.parse_keys(stream, 4, stream.end - 2, 260)
        kept.append((words, keys, keys.partition(locator, 7)))
        if len(kept) > 12:
            del kept[::2]
        for words, keys, division in kept[-3:]:
            assert list(keys) == words
            for owner, part in zip(division.owners, division.parts):
                assert (
                    part.command_line(b"gets ") == b"gets " + b" ".join(word for word in words if locator.locate(word) == owner) + b"\r\n"
                )


# -- values


def merged(module, messages, order, answers):
    """`answers`: for each server a list with, for each of its keys, its VALUE block or None."""
    owners = list(range(len(answers)))
    division = module.KeyPartition(module.KeyList([b"%d" % number for number in range(len(order))]), order, owners)
    requests = []
    for answer, keys in zip(answers, division.parts):
        reply = b""
        keys.clear_values()
        for place, value in enumerate(answer):
            if value is not None:
                reply += value
                keys.next = place + 1
                keys.record_value(len(reply))
        requests.append(messages.local_reply(reply + b"END\r\n"))
    return division.merge_replies(requests)


@each_build
@pytest.mark.parametrize(
    "order, answers, answer",
    [
        ([], [], b""),
        ([0], [[block(b"a")]], block(b"a")),
        ([0, 1], [[block(b"a")], [block(b"b")]], block(b"a") + block(b"b")),
        ([1, 0], [[block(b"a")], [block(b"b")]], block(b"b") + block(b"a")),
        ([0, 1, 0], [[block(b"a"), block(b"c")], [block(b"b")]], block(b"a") + block(b"b") + block(b"c")),
        ([0, 1, 0], [[block(b"a"), block(b"c")], [None]], block(b"a") + block(b"c")),
        ([0, 1, 0], [[None, block(b"c")], [block(b"b")]], block(b"b") + block(b"c")),
        ([0, 1, 0], [[None, None], [None]], b""),
        ([0, 0, 1], [[block(b"a", b"END\r\n"), None], [block(b"b", b"")]], block(b"a", b"END\r\n") + block(b"b", b"")),
    ],
)
def test_values_come_in_the_order_asked(module, streams, rings, messages, order, answers, answer):
    assert merged(module, messages, order, answers) == answer + b"END\r\n"


@each_build
def test_values_are_noted_anew_for_each_reply(module, streams, rings, messages):
    """The request is repeated after its connection has failed."""
    division = module.KeyPartition(module.KeyList([b"a", b"b", b"c"]), [0, 0, 1], [0, 1])
    first, second = division.parts
    for ends in ([1, 2], [3]):
        first.clear_values()
        for place, end in enumerate(ends):
            first.next = place + 1
            first.record_value(end)
    second.clear_values()
    assert first.values == 1
    assert division.merge_replies([messages.local_reply(b"one"), messages.local_reply(b"")]) == b"oneEND\r\n"


@each_build
@given(data=st.data())
def test_no_value_is_lost(module, streams, rings, messages, data):
    servers = data.draw(st.integers(1, 5))
    order = data.draw(st.lists(st.integers(0, servers - 1), max_size=60))
    answers = [[] for _ in range(servers)]
    wanted = b""
    for number, server in enumerate(order):
        value = data.draw(st.none() | st.binary(max_size=9).map(lambda content: block(b"%d" % number, content)))
        answers[server].append(value)
        wanted += value or b""
    assert merged(module, messages, order, answers) == wanted + b"END\r\n"


@each_build
@given(words=st.lists(key, min_size=1, max_size=12), data=st.data())
def test_plain_blocks_are_passed_together(module, streams, rings, messages, words, data):
    """Whatever is left for the reply reader: what was passed consists of whole blocks of requested keys, in their order."""
    blocks = []
    for word in words:
        if data.draw(st.booleans()):
            content = data.draw(st.binary(max_size=80))
            blocks.append(
                (word, block(word, content, data.draw(st.integers(0, 2**32 - 1)), data.draw(st.none() | st.integers(0, 2**64 - 1))))
            )
    reply = b"".join(text for _, text in blocks) + data.draw(
        st.sampled_from([b"", b"END\r\n" + b"x" * 50, b"SERVER_ERROR no", b"VALUE odd"])
    )
    reply = reply[: data.draw(st.integers(0, len(reply)))]
    stream = streams.RecvBuffer()
    stream.feed(b"before" + reply)
    keys = module.KeyList(words)
    end = keys.record_whole_values(stream, 6, 1000) - 6
    ends = [0]
    for _, text in blocks:
        ends.append(ends[-1] + len(text))
    assert end in ends
    assert keys.values == ends.index(end)
    if module is not in_python and end < len(reply):
        rest = reply[end:]
        assert not rest.startswith(b"VALUE ") or len(rest) < 200


@each_build
@pytest.mark.parametrize(
    "odd",
    [
        b"VALUE a 0 1 \r\nx\r\n",
        b"VALUE a 0 1\nx\r\n",
        b"VALUE a 0 x\r\nx\r\n",
        b"VALUE a  0 1\r\nx\r\n",
        b"VALUE a 0 1\r\nxx\r\n",
        b"VALUE a 0 -1\r\n\r\n",
        b"VALUE b 0 1\r\nx\r\n",
        b"VALUE aa 0 1\r\nx\r\n",
        b"value a 0 1\r\nx\r\n",
        b"VALUE a 12345678901 1\r\nx\r\n",
        b"VALUE a 0 99999999999\r\nx\r\n",
        b"VALUE a 0 1 123456789012345678901\r\nx\r\n",
        b"END\r\n",
    ],
)
def test_what_is_odd_is_left_to_the_reply_reader(module, streams, rings, messages, odd):
    stream = streams.RecvBuffer()
    stream.feed(odd + b"." * 100)
    assert module.KeyList([b"a"]).record_whole_values(stream, 0, 0) == 0
