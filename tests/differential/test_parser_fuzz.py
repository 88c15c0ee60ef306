"""All parsers with random bytes: they parse them or raise their documented error. The result is the same however the bytes are cut, and in
both builds."""

import hashlib
import random
import subprocess
import sys

import pytest
from differential.binary_conversations import Binary
from support.servers import environment
from support.timing import PROGRAM_TIMEOUT

from gmproxy.compiled import BUILD
from gmproxy.errors import PROTOCOL, BackendError
from gmproxy.protocol import commands
from gmproxy.protocol import request as message
from gmproxy.protocol.binary import requests as binary
from gmproxy.protocol.key_list import KeyList
from gmproxy.protocol.text import requests as text
from gmproxy.protocol.text import responses as reply

MAX_ITEM_SIZE = 5000
CASES = 20_000

#: Words and fragments that get a parser further than random bytes.
REQUEST_FRAGMENTS = [
    b"get ",
    b"gets ",
    b"gat 0 ",
    b"set ",
    b"add ",
    b"cas ",
    b"append ",
    b"incr ",
    b"touch ",
    b"delete ",
    b"flush_all",
    b"version",
    b"quit",
    b"stats ",
    b"verbosity ",
    b"a ",
    b"b ",
    b"0 ",
    b"5 ",
    b"-1 ",
    b"9999 ",
    b"99999999999 ",
    b"noreply",
    b"k" * 251,
    b" ",
    b"\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"hello\r\n",
    b"x" * 90,
    b"mg ",
    b"ms a 5 ",
    b"md ",
    b"ma ",
    b"me ",
    b"mn",
    b"v ",
    b"q ",
    b"b ",
    b"k ",
    b"O1 ",
    b"T5 ",
    b"C1 ",
    b"ME ",
    b"Zm9v ",
]
#: Requests, which are repeated in this order, with replies to each; and the fragments of wrong replies.
QUESTIONS = [
    (b"get", [b"a"], [b"VALUE a 0 5\r\nhello\r\nEND\r\n", b"VALUE a 1 5 77\r\nEND\r\n\r\nEND\r\n", b"END\r\n"]),
    (b"get", [b"a", b"b", b"a"], [b"VALUE a 0 1\r\n1\r\nVALUE b 0 0\r\n\r\nEND\r\n", b"VALUE b 0 1\r\n1\r\nEND\r\n", b"ERROR\r\n"]),
    (b"set", [b"a"], [b"STORED\r\n", b"NOT_STORED\r\n", b"SERVER_ERROR out of memory storing object\r\n"]),
    (b"incr", [b"a"], [b"12\r\n", b"12  \r\n", b"NOT_FOUND\r\n"]),
    (b"mg f t v k", [b"a"], [b"VA 5 f0 t-1\r\nhello\r\n", b"EN\r\n", b"VA 0 ka f1 W\r\n\r\n"]),
    (b"ms 2 c", [b"a"], [b"HD c12\r\n", b"NS c0\r\n", b"CLIENT_ERROR invalid flag\r\n"]),
    (b"ma v", [b"a"], [b"VA 2\r\n12\r\n", b"NF\r\n"]),
    (b"md O1", [b"a"], [b"HD O1\r\n", b"NF O1\r\n"]),
    (b"delete", [b"a"], [b"DELETED\r\n", b"NOT_FOUND\r\n", b"CLIENT_ERROR bad command line format\r\n"]),
]
ANSWER_FRAGMENTS = [
    b"VALUE a 0 5\r\nhello\r\n",
    b"VALUE b 0 0\r\n\r\n",
    b"VALUE ",
    b"a ",
    b"b ",
    b"0 ",
    b"5",
    b"-1",
    b"99999999999",
    b"END\r\n",
    b"STORED\r\n",
    b"12\r\n",
    b"ERROR\r\n",
    b"EN\r\n",
    b"VA ",
    b"HD ",
    b"NF",
    b"k",
    b"c1 ",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\0",
    b"x" * 8200,
]


def requests(rng):
    return _made_of(REQUEST_FRAGMENTS, rng.randint(1, 16), rng)


def packets(rng):
    """A conversation of the differential test, sometimes with changed bytes."""
    said = bytearray(Binary.said(Binary.conversation(rng, "text"), b"%05d" % rng.randrange(100)))
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        said[rng.randrange(len(said))] = rng.randrange(256)
    return bytes(said)


def replies(rng):
    """Replies to QUESTIONS. One in ten is wrong."""
    said = b""
    for number in range(rng.randint(1, 14)):
        right = rng.choice(QUESTIONS[number % len(QUESTIONS)][2])
        said += right if rng.random() < 0.9 else _made_of(ANSWER_FRAGMENTS, rng.randint(1, 4), rng)
    return said


def _made_of(fragments, count, rng):
    """`count` pieces: fragments, and some random bytes."""
    return b"".join(rng.choice(fragments) if rng.random() < 0.9 else rng.randbytes(rng.randint(1, 6)) for _ in range(count))


def cut(data, rng):
    """`data` in two to six pieces."""
    places = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(1, 5)))
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)])]


def facts(request):
    command = request.command and request.command.name
    return command, request.key, request.keys, request.line, request.quiet, request.renderer is not None, request.reply


def parse(chunks):
    return _parse(text.TextParser(MAX_ITEM_SIZE), chunks)


def parse_binary(chunks):
    """What BinaryParser reads from `chunks`. A cut may divide a series of quiet gets, so each of their keys is listed alone."""
    found = _parse(binary.BinaryParser(MAX_ITEM_SIZE), chunks)
    return [one for fact in found for one in _each_key(fact)]


def _each_key(fact):
    if fact[0] != b"gets":
        return [fact]
    return [(b"gets", key) for key in fact[2] or [fact[1]]]


def _parse(parser, chunks):
    """What a parser of requests reads from `chunks`."""
    found = []
    try:
        for chunk in chunks:
            parser.stream.feed(chunk)
            while (request := parser.next_request()) is not None:
                found.append(facts(request))
                assert len(found) <= sum(map(len, chunks)), "requests out of nothing"
            parser.stream.release_memory()
    except message.ClientProtocolError as end:
        found.append(("the end", end.reply))
    return found


def ask(number):
    words, keys, _ = QUESTIONS[number % len(QUESTIONS)]
    name, *flags = words.split(b" ")
    request = message.Request(commands.COMMANDS[name], keys[0], b" ".join([name, keys[0], *flags]) + b"\r\n")
    request.keys = KeyList(keys) if len(keys) > 1 else None
    return request


def read(chunks):
    """What the reply parser reads from `chunks`, as replies to QUESTIONS in turn."""
    reader = reply.TextReplyParser()
    found = []
    question = ask(0)
    try:
        for chunk in chunks:
            reader.stream.feed(chunk)
            while (answer := reader.parse_reply(question)) is not None:
                assert answer, "an empty reply"
                found.append((answer, reader.out_of_step))
                question = ask(len(found))
    except BackendError as error:
        found.append(error.reason)
        assert error.reason == PROTOCOL
    return found


@pytest.mark.parametrize("understand, make", [(parse, requests), (parse_binary, packets), (read, replies)])
def test_cuts_change_nothing(understand, make):
    rng = random.Random(1)
    for _ in range(CASES):
        said = make(rng)
        chunks = cut(said, rng)
        assert understand(chunks) == understand([said]), chunks


@pytest.mark.parametrize("understand", [parse, parse_binary, read])
def test_noise(understand):
    rng = random.Random(2)
    for _ in range(CASES // 10):
        noise = rng.randbytes(rng.randint(1, 200))
        assert understand([noise[i : i + 1] for i in range(len(noise))]) == understand([noise]), noise


def digest():
    """Hash of what the parsers of this process's build read in many cases."""
    rng = random.Random(3)
    sha = hashlib.sha256()
    for _ in range(CASES):
        sha.update(repr((parse([requests(rng)]), parse_binary([packets(rng)]), read([replies(rng)]))).encode())
    return sha.hexdigest()


def test_both_builds_understand_the_same():
    """If two parsers disagree about the end of a message, one client can send requests in the name of another."""
    results = {}
    for pure in ("", "1"):
        code = "from differential import test_parser_fuzz as fuzz; print(fuzz.BUILD, fuzz.digest())"
        path = {"PYTHONPATH": ":".join(sys.path), "GMPROXY_PURE": pure}
        build, result = subprocess.check_output(
            [sys.executable, "-c", code], env=environment() | path, text=True, timeout=PROGRAM_TIMEOUT
        ).split()
        results[build] = result
    if len(results) < 2:
        pytest.skip(f"only the {BUILD} build is here")
    assert results["pure"] == results["compiled"]
