"""Both builds agree where a reply ends: every reply of a corpus, mutated and cut at each byte, is parsed the same by the build of this process
and by the other one. If parsers disagree, one client can receive the reply of another.

The other build runs in its own process, which receives the cases and returns the results.
"""

import ast
import os
import random
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.servers import environment
from support.timing import PATIENCE

from gmproxy import compiled
from gmproxy.errors import BackendError
from gmproxy.protocol import cas_numbers, commands
from gmproxy.protocol import request as message
from gmproxy.protocol.binary import packets
from gmproxy.protocol.binary import server_reader as binary_link
from gmproxy.protocol.binary.client_replies import OPERATIONS, PacketSequenceRenderer, new_renderer
from gmproxy.protocol.key_list import KEY_LIST_PARSER, KeyList, KeyPartition
from gmproxy.protocol.recv_buffer import RecvBuffer
from gmproxy.protocol.text import responses as reply
from gmproxy.protocol.value_blocks import blocks_by_key
from gmproxy.protocol.value_header import ValueHeader
from gmproxy.routing import fetch as values

MUTATIONS = 60  # of each reply

#: (the line of the request, its keys, a right reply)
CORPUS = [
    (b"get a\r\n", [b"a"], b"VALUE a 0 5\r\nhello\r\nEND\r\n"),
    (b"gets a\r\n", [b"a"], b"VALUE a 4294967295 0 18446744073709551615\r\n\r\nEND\r\n"),
    (b"get a bb a\r\n", [b"a", b"bb", b"a"], b"VALUE a 0 5\r\nhello\r\nVALUE bb 1 2\r\n\r\n\r\nVALUE a 0 1\r\nx\r\nEND\r\n"),
    (b"gets a bb ccc\r\n", [b"a", b"bb", b"ccc"], b"VALUE a 0 000000005 7\r\nhello\r\nVALUE ccc 0 10 77\r\n0123456789\r\nEND\r\n"),
    (b"get a bb\r\n", [b"a", b"bb"], b"VALUE a 0 60\r\n" + b"VALUE bb 0 1\r\n" * 4 + b"1234\r\nVALUE bb 0 0\r\n\r\nEND\r\n"),
    (b"mg a v f c t\r\n", [b"a"], b"VA 5 f0 c123 t-1\r\nhello\r\n"),
    (b"mg a k O1\r\n", [b"a"], b"HD ka O1\r\n"),
    (b"mg a C5 v c\r\n", [b"a"], b"HD c5\r\n"),
    (b"ms a 1 c\r\nx\r\n", [b"a"], b"HD c12\r\n"),
    (b"ma a v\r\n", [b"a"], b"VA 2\r\n12\r\n"),
    (b"incr a 1\r\n", [b"a"], b"12 \r\n"),
    (b"set a 0 0 1\r\nx\r\n", [b"a"], b"STORED\r\n"),
]

#: Bytes that are inserted into a reply, or replace some of it.
BITS = [
    b"0",
    b"00000000",
    b"9",
    b"99999999999",
    b" ",
    b"\r",
    b"\n",
    b"\r\n",
    b"-",
    b"+",
    b"\0",
    b"VALUE a 0 1\r\n",
    b"END\r\n",
    b" 1",
    b"x",
    b"\xd9\xa1",
]


def ask(line, keys):
    """Returns (the request, the KeyPartition whose only part it is, or None for one key)."""
    request = message.Request(commands.COMMANDS[line.split()[0]], keys[0], line)
    if len(keys) == 1:
        return request, None
    partition = KeyPartition(KeyList(keys), [0] * len(keys), [0])
    request.keys = partition.parts[0]
    return request, partition


def read(line, keys, said, cut):
    """What this build reads from `said`, which arrives in two pieces: (the reply, the number of values, its length in bytes, whether the parser
    is out of step, whether the request has value offsets, uses_of(...)), "refused", or "more" if the reply is incomplete."""
    reader = reply.TextReplyParser()
    request, partition = ask(line, keys)
    fed = 0
    for chunk in (said[:cut], said[cut:]):
        reader.stream.feed(chunk)
        fed += len(chunk)
        with suppress(BackendError):
            answer = reader.parse_reply(request)
            if answer is None:
                continue
            request.reply = answer
            state = reader.values_found, fed - reader.stream.size(), reader.out_of_step, request.has_value_offsets
            return answer, *state, uses_of(request, partition)
        return "refused"
    return "more"


def uses_of(request, partition):
    """The results of all code that parses a complete reply again: it must find the same values as the parser."""
    reply = request.reply
    merged = partition.merge_replies([request]) if partition is not None and request.has_value_offsets else None
    filled = values.parse_meta_get(reply, 0) if request.command.is_meta else values.parse_get(reply, 0) if partition is None else None
    rendered = renderer_for(request).render(request)
    blocks = [(key, block) for key, found in blocks_by_key(reply).items() for block in found]
    cas_numbers.mark(request, cas_numbers.BACKUP_SET)
    return merged, filled and tuple(filled), rendered, blocks, request.reply


def renderer_for(request):
    """The renderer of the reply for a client of the binary protocol."""
    if request.keys is not None:
        return PacketSequenceRenderer([new_renderer(OPERATIONS[packets.GETK], packets.GETK, place) for place in range(len(request.keys))])
    opcode = {b"ms": packets.SET, b"ma": packets.INCREMENT}.get(request.command.name, packets.GETK)
    return new_renderer(OPERATIONS[opcode], opcode, 7)


def read_binary(said, cut):
    """What this build reads from `said`, the reply of a server of the binary protocol."""
    link = binary_link.BinaryReplyParser()
    request, _ = ask(b"get a bb\r\n", [b"a", b"bb"])
    link.encode(request)
    fed = 0
    for chunk in (said[:cut], said[cut:]):
        link.stream.feed(chunk)
        fed += len(chunk)
        with suppress(BackendError):
            answer = link.parse_reply(request)
            if answer is None:
                continue
            return answer, link.values_found, fed - link.stream.size()
        return "refused"
    return "more"


def look(data, start, stop):
    """The results of the functions of RecvBuffer and ValueHeader for data[start:stop]."""
    stream = RecvBuffer()
    stream.feed(data)
    stop = min(stop, len(data))
    header = ValueHeader()
    found = header.parse_value(data, start) and (
        header.key_start,
        header.key_end,
        header.flags,
        header.length,
        header.cas,
        header.has_cas,
        header.end,
    )
    in_stream = stream.parse_value_header(header, start, stop) and (
        header.flags,
        header.length,
        header.cas,
        header.has_cas,
        header.data_start,
        header.end,
    )
    return (
        found,
        in_stream,
        stream.parse_number(start, stop),
        stream.is_cas_number(start, stop),
        stream.word_end(start, stop),
        stream.find_nul(start, stop),
        stream.is_text(start, stop),
        stream.line_end(start),
    )


def keys_of(data, start, stop):
    """The keys of a client's command line."""
    stream = RecvBuffer()
    stream.feed(data)
    keys = KEY_LIST_PARSER.parse_keys(stream, start, min(stop, len(data)), 20)
    return keys if keys is None else (list(keys), keys.command_line(b"get ") if keys else b"")


def mutated(said, random):
    """`said` with up to three changes."""
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        at = random.randrange(len(said) + 1)
        said = said[:at] + random.choice(BITS) + said[at + random.choice((0, 0, 1, 2)) :]
    return said


class OtherBuild:
    """The same functions in the other build, in its own process."""

    def __init__(self):
        pure = "" if compiled.PURE_ASKED else "1"
        code = "from differential import test_reply_mutations as one; one.serve()"
        self._child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment() | {"PYTHONPATH": os.pathsep.join(sys.path), "GMPROXY_PURE": pure},
        )
        self.build = self._child.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self._child.stdin.close()
        self._child.wait(PATIENCE)
        self._child.stdout.close()

    def ask(self, name, cases):
        """The results of the function `name` for `cases`, which are lists of arguments."""
        print(repr((name, cases)), file=self._child.stdin, flush=True)
        return ast.literal_eval(self._child.stdout.readline())


def serve():
    print(compiled.BUILD, flush=True)
    for line in sys.stdin:
        name, cases = ast.literal_eval(line)
        print(repr([globals()[name](*case) for case in cases]), flush=True)


@pytest.fixture(scope="module")
def other():
    with OtherBuild() as other:
        if other.build == compiled.BUILD:
            pytest.skip(f"only the {compiled.BUILD} build is here")
        yield other


def check(other, name, cases):
    ours = [globals()[name](*case) for case in cases]
    for case, one, another in zip(cases, ours, other.ask(name, cases), strict=True):
        assert one == another, case
    return ours


@pytest.mark.parametrize("line, keys, said", CORPUS, ids=[line.strip().decode() for line, _, _ in CORPUS])
def test_cut_at_each_byte(other, line, keys, said):
    rng = random.Random(said)
    for reply_ in [said, *(mutated(said, rng) for _ in range(MUTATIONS))]:
        told = check(other, "read", [(line, keys, reply_, cut) for cut in range(len(reply_) + 1)])
        assert len({repr(one) for one in told if one != "refused"}) <= 1, "a cut changes what is read"
    assert told, "nothing was compared"


ZEROS = [b"0" * count + b"5" for count in (1, 8, 9, 10, 11, 30, 5000)]


@pytest.mark.parametrize("length", ZEROS, ids=len)
def test_a_length_has_ten_digits_at_most(other, length):
    said = b"VALUE a 0 %b\r\nhello\r\nVALUE bb 0 %b\r\nhello\r\nEND\r\n" % (length, length)
    cuts = range(0, len(said) + 1, 1 if len(said) < 1000 else 97)
    told = check(other, "read", [(b"get a bb\r\n", [b"a", b"bb"], said, cut) for cut in cuts])
    wanted = len(length) <= 10
    assert all((one != "refused") is wanted for one in told)


@pytest.mark.parametrize("field", [b"VALUE a %b 1\r\nx\r\nEND\r\n", b"VALUE a 0 1 %b\r\nx\r\nEND\r\n"])
@pytest.mark.parametrize("digits", [1, 10, 11, 20, 21, 5000])
def test_so_have_flags_and_a_cas_number_twenty(other, field, digits):
    said = field % (b"1" * digits)
    wanted = digits <= (20 if b"0 1 %b" in field else 10)
    for keys in ([b"a"], [b"a", b"bb"]):
        line = b"gets %b\r\n" % b" ".join(keys)
        told = check(other, "read", [(line, keys, said, cut) for cut in (0, 12, len(said) // 2, len(said) - 1)])
        assert all((one != "refused") is wanted for one in told)


any_reply = st.builds(
    lambda entry, seed, noise: (entry[0], entry[1], mutated(entry[2], random.Random(seed)) + noise),
    st.sampled_from(CORPUS),
    st.integers(0, 2**32),
    st.binary(max_size=3),
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(one=any_reply, data=st.data())
def test_any_mutation(other, one, data):
    cut = data.draw(st.integers(0, len(one[2])))
    check(other, "read", [(*one, cut)])


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(one=any_reply, data=st.data())
def test_any_look_at_any_bytes(other, one, data):
    text = one[2]
    spans = [sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text))))) for _ in range(5)]
    cases = [(text, start, stop) for start, stop in spans]
    cases += [(text, at, len(text)) for at in range(len(text)) if text[at : at + 1] == b" "]  # the start of each number in a header
    check(other, "look", cases)
    check(other, "keys_of", cases)


PACKETS = [
    bytes.fromhex("810000000400000000000009000000000000000000000005") + b"\0\0\0\5hello",
    bytes.fromhex("810900000400000000000009000000000000000000000005")
    + b"\0\0\0\5hello"
    + bytes.fromhex("810a00000000000000000000000000020000000000000000"),
]


def test_packets(other):
    rng = random.Random(1)
    cases = []
    for said in PACKETS:
        for _ in range(MUTATIONS):
            changed = bytearray(said)
            for at in rng.sample(range(len(said)), rng.choice((0, 1, 1, 2))):
                changed[at] = rng.choice((0, 1, 4, 9, 0x81, 0xFF, rng.randrange(256)))
            cases += [(bytes(changed), cut) for cut in range(0, len(said) + 1, 3)]
    told = check(other, "read_binary", cases)
    assert {type(one) for one in told} == {str, tuple}


def test_all_find_the_values_that_the_parser_found():
    for line, keys, said in CORPUS[:4]:
        merged, filled, rendered, blocks, _ = read(line, keys, said, 0)[-1]
        assert merged in (said, None)
        assert b"".join(block for _, block in sorted(blocks, key=lambda one: said.index(one[1]))) + b"END\r\n" == said
        assert len(rendered) == sum(24 + 4 + len(key) + len(block) - block.index(b"\r\n") - 4 for key, block in blocks) + (24 + 2) * (
            len(keys) - len(blocks)
        )
        if len(keys) == 1:
            assert filled[2] == said[said.index(b"\r\n") + 2 : -len(b"END\r\n")]
