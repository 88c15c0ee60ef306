"""Where a reply ends is one question with one answer, in both builds: every reply of a corpus, mutated and cut at each byte, is read the
same by the build of this process and by the other one. Two readers that disagree would give one client what belongs to another.

The other build runs in a process of its own and is asked case by case.
"""

import ast
import itertools
import os
import random
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.servers import environment

from gmproxy import compiled
from gmproxy.errors import BackendError
from gmproxy.protocol import request as message
from gmproxy.protocol.binary import server_reader as binary_link
from gmproxy.protocol.key_list import KeyList
from gmproxy.protocol.text import responses as reply
from gmproxy.routing import fill as values

MUTATIONS = 60  # of each reply

#: The line of the request, its keys, and a right answer.
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

#: What is put into a reply, or in the place of some of it.
BITS = [b"0", b"00000000", b"9", b"99999999999", b" ", b"\r", b"\n", b"\r\n", b"-", b"+", b"\0", b"VALUE a 0 1\r\n", b"END\r\n", b" 1", b"x", b"\xd9\xa1"]


def ask(line, keys):
    request = message.Request(message.COMMANDS[line.split()[0]], keys[0], line)
    request.keys = KeyList(keys) if len(keys) > 1 else None
    return request


def read(line, keys, said, cut):
    """What the reader of this build makes of `said`, which comes in two pieces: the reply or the reason for closing the link, how
    many bytes it is, whether the reader is in step, and the value as a refill would take it."""
    reader = reply.TextReplyParser()
    request = ask(line, keys)
    fed = 0
    for chunk in (said[:cut], said[cut:]):
        reader.stream.feed(chunk)
        fed += len(chunk)
        with suppress(BackendError):
            answer = reader.read(request)
            if answer is None:
                continue
            taken = values.read_meta(answer, 0) or (values.read_plain(answer, 0) if len(keys) == 1 else None)
            return answer, reader.values_found, fed - reader.stream.size(), reader.out_of_step, request.has_value_offsets, taken
        return "refused"
    return "more"


def read_binary(said, cut):
    """The same of a server of the binary protocol."""
    link = binary_link.BinaryReplyParser()
    request = ask(b"get a bb\r\n", [b"a", b"bb"])
    link.encode(request)
    fed = 0
    for chunk in (said[:cut], said[cut:]):
        link.stream.feed(chunk)
        fed += len(chunk)
        with suppress(BackendError):
            answer = link.read(request)
            if answer is None:
                continue
            return answer, link.values_found, fed - link.stream.size()
        return "refused"
    return "more"


def mutated(said, random):
    """`said` with a few changes."""
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        at = random.randrange(len(said) + 1)
        said = said[:at] + random.choice(BITS) + said[at + random.choice((0, 0, 1, 2)):]
    return said


class OtherBuild:
    """The same functions in the other build, in a process of its own."""

    def __init__(self):
        pure = "" if compiled.PURE_ASKED else "1"
        code = "from differential import test_reply_mutations as one; one.serve()"
        self._child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment() | {"PYTHONPATH": os.pathsep.join(sys.path), "GMPROXY_PURE": pure},
        )
        self.build = self._child.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self._child.stdin.close()
        self._child.wait()
        self._child.stdout.close()

    def ask(self, name, cases):
        """What `name` returns for each of the `cases`, lists of arguments."""
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
    st.sampled_from(CORPUS), st.integers(0, 2**32), st.binary(max_size=3),
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(one=any_reply, data=st.data())
def test_any_mutation(other, one, data):
    cut = data.draw(st.integers(0, len(one[2])))
    check(other, "read", [(*one, cut)])


PACKETS = [
    bytes.fromhex("810000000400000000000009000000000000000000000005") + b"\0\0\0\5hello",
    bytes.fromhex("810900000400000000000009000000000000000000000005") + b"\0\0\0\5hello" + bytes.fromhex("810a00000000000000000000000000020000000000000000"),
]


def test_packets(other):
    rng = random.Random(1)
    cases = []
    for said in PACKETS:
        for _ in range(MUTATIONS):
            changed = bytearray(said)
            for at in rng.sample(range(len(said)), rng.choice((0, 1, 1, 2))):
                changed[at] = rng.choice((0, 1, 4, 9, 0x81, 0xff, rng.randrange(256)))
            cases += [(bytes(changed), cut) for cut in range(0, len(said) + 1, 3)]
    told = check(other, "read_binary", cases)
    assert {type(one) for one in told} == {str, tuple}


def test_a_value_is_taken_apart_as_it_was_read():
    """What a refill takes from a reply is what the reader saw."""
    for line, keys, said in itertools.islice(CORPUS, 2):
        assert read(line, keys, said, 0)[-1][-1] == said[said.index(b"\r\n") + 2:-len(b"END\r\n")]
