"""The binary protocol of memcached for tests: makes packets, and parses received ones."""

import struct
from typing import NamedTuple

REQUEST = struct.Struct(">BBHBBHI4sQ")
HEADER_SIZE = REQUEST.size

#: Quiet ones end with Q.
OPCODES = {
    name: opcode
    for opcode, name in enumerate(
        "get set add replace delete incr decr quit flush getQ noop version getk getkQ append prepend stat setQ addQ replaceQ deleteQ "
        "incrQ decrQ quitQ flushQ appendQ prependQ verbosity touch gat gatQ".split()
    )
} | {"mechanisms": 0x20, "auth": 0x21, "step": 0x22, "gatk": 0x23, "gatkQ": 0x24}

NAMES = {opcode: name for name, opcode in OPCODES.items()}


def packet(name, key=b"", value=b"", extras=b"", cas=0, opaque=b"abcd", magic=0x80, status=0):
    """A request, or a reply with `magic` 0x81 and a `status`. `name` is one of OPCODES, or a number."""
    opcode = OPCODES.get(name, name)
    body = extras + key + value
    return REQUEST.pack(magic, opcode, len(key), len(extras), 0, status, len(body), opaque, cas) + body


def store(name, key, value, flags=0, exptime=0, **options):
    return packet(name, key, value, struct.pack(">II", flags, exptime), **options)


def count(name, key, delta=1, initial=0, exptime=2**32 - 1, **options):
    return packet(name, key, extras=struct.pack(">QQI", delta, initial, exptime), **options)


def touch(name, key, exptime=0, **options):
    return packet(name, key, extras=struct.pack(">I", exptime), **options)


class Answer(NamedTuple):
    """A parsed reply; `name` is that of its opcode."""

    name: str
    status: int
    cas: int
    extras: bytes
    key: bytes
    value: bytes
    opaque: bytes

    def flags(self):
        return int.from_bytes(self.extras, "big")


def taken_apart(data):
    """The Answers in `data`, which must be complete packets."""
    answers = []
    while data:
        assert len(data) >= HEADER_SIZE, f"no header: {data!r}"
        magic, opcode, key_length, extras_length, data_type, status, body_length, opaque, cas = REQUEST.unpack(data[:HEADER_SIZE])
        assert (magic, data_type) == (0x81, 0), data[:HEADER_SIZE]
        body, data = data[HEADER_SIZE : HEADER_SIZE + body_length], data[HEADER_SIZE + body_length :]
        assert len(body) == body_length, "a packet that is cut short"
        key_end = extras_length + key_length
        answers.append(
            Answer(NAMES.get(opcode, opcode), status, cas, body[:extras_length], body[extras_length:key_end], body[key_end:], opaque)
        )
    return answers


def read_answer(talk):
    """The next Answer on the connection `talk`."""
    header = talk.read_exactly(HEADER_SIZE)
    return taken_apart(header + talk.read_exactly(int.from_bytes(header[8:12], "big")))[0]


def ask(talk, data):
    """Send `data` and a noop. Returns the Answers before that to the noop, which proves that no byte is left over."""
    talk.send(data + packet("noop", opaque=b"last"))
    answers = []
    while True:
        answer = read_answer(talk)
        if (answer.name, answer.opaque) == ("noop", b"last"):
            return answers
        answers.append(answer)
