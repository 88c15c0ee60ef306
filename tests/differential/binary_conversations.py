"""Generated requests of a client of the binary protocol, as in conversations.py. Here a piece is a packet."""

from differential.conversations import KEYS, MARK, ODD_KEYS, VALUES
from support.packets import HEADER_SIZE, OPCODES, REQUEST, count, packet, store, taken_apart, touch

#: Opcodes, quiet and not.
STORES = ("set", "set", "add", "replace")
READS = ("get", "getQ", "getk", "getkQ", "getQ", "getkQ")
TOUCHES = ("touch", "gat", "gatQ", "gatk", "gatkQ")

BINARY_KEYS = (b"a b" + MARK, MARK + b"\r\n", b"\0" + MARK, MARK + b" " * 100, b"\xff " + MARK)
ADDITIONS = (b"", b"abc", b"\r\n\0", b"v" * 1500)
FLAGS = (0, 1, 5, 2**31, 2**32 - 1)
EXPTIMES = (0, 0, 0, 100, 2592000, 2592001, 2**31 - 1, 2**31, 2**32 - 1)
DELTAS = (0, 1, 9, 2**64 - 1)
CAS = (0, 0, 0, 0, 0, 0, 0, 2**64 - 1, 1)

FIRST, LAST = packet("noop", opaque=b"1st!"), packet("noop", opaque=b"last")


class Binary:
    """Makes and compares these conversations. `mark` is the number of a conversation."""

    @staticmethod
    def conversation(random, backends, version="1.6.18"):
        """Returns a list of packets. Sometimes one of them is invalid, which ends the conversation."""
        return [_piece(random) for _ in range(random.randint(1, 14))]

    @staticmethod
    def said(pieces, mark):
        return b"".join((FIRST, *pieces, LAST)).replace(MARK, mark)

    @staticmethod
    def is_excused(said, backends, version):
        """All conversations are compared: requests to which the proxy replies differently are not generated. These are `version`; the statistics;
        `verbosity`, which memcached 1.6.18 does not have; an unknown opcode with a key, after which memcached is out of step; and a packet with
        another magic, at which memcached also discards earlier replies."""
        return False

    @staticmethod
    def disturbs_others(said, mark):
        pos = 0
        while pos < len(said):
            _, opcode, key_length, extras_length, _, _, body_length, _, _ = REQUEST.unpack_from(said, pos)
            key_start = pos + HEADER_SIZE + extras_length
            if opcode in (OPCODES["flush"], OPCODES["flushQ"]) or (key_length and mark not in said[key_start : key_start + key_length]):
                return True
            pos += HEADER_SIZE + body_length
        return False

    @staticmethod
    def same(proxy, memcached, mark, version):
        """Compares the replies without cas numbers, which differ between servers, and without blanks: memcached fills a number that has become
        shorter with blanks, except while its old value is being sent."""
        one, other = (
            [answer._replace(cas=answer.cas > 0, value=answer.value.replace(b" ", b"")) for answer in taken_apart(got)]
            for got in (proxy, memcached)
        )
        return one == other


def _piece(random):
    kind = random.choices(list(_WEIGHTS), _WEIGHTS.values())[0]
    return kind(random, {"opaque": random.randbytes(4)})


def _store(random, options):
    name = random.choice(STORES) + random.choice(("", "Q"))
    return store(
        name, _key(random), random.choice(VALUES), random.choice(FLAGS), random.choice(EXPTIMES), cas=random.choice(CAS), **options
    )


def _extend(random, options):
    name = random.choice(("append", "prepend")) + random.choice(("", "Q"))
    return packet(name, _key(random), random.choice(ADDITIONS), cas=random.choice(CAS), **options)


def _read(random, options):
    return packet(random.choice(READS), _key(random), **options)


def _touch(random, options):
    return touch(random.choice(TOUCHES), _key(random), random.choice(EXPTIMES), **options)


def _delete(random, options):
    return packet(random.choice(("delete", "deleteQ")), _key(random), cas=random.choice(CAS), **options)


def _count(random, options):
    name = random.choice(("incr", "decr")) + random.choice(("", "Q"))
    exptime = random.choice((0, 100, 2**32 - 1, 2**32 - 1))
    return count(name, _key(random), random.choice(DELTAS), random.choice(DELTAS), exptime, cas=random.choice(CAS), **options)


def _keyless(random, options):
    return random.choice(
        (packet("noop", **options), packet("flush", **options), packet("flushQ", extras=bytes(4), **options), packet(0x77, **options))
    )


def _odd(random, options):
    """A packet that ends the conversation, or one that is unusual but valid."""
    key = _key(random)
    return random.choice(
        (
            packet("get", **options),
            packet("getQ", b"k" * 251, **options),
            packet("set", key, b"x", **options),
            store("add", b"", b"x", **options),
            packet("get", key, b"value", **options),
            packet("noop", key, **options),
            packet("touch", key, **options),
            packet("incr", key, **options),
            packet(0x77, value=b"xyz", **options),
            packet("append", key, b"x", b"1234", **options),
            packet("quit", **options),
            packet("quitQ", **options),
            packet("flush", extras=bytes(3), **options),
            packet("mechanisms", **options),
        )
    )


_WEIGHTS = {_store: 30, _extend: 8, _read: 40, _touch: 12, _delete: 10, _count: 15, _keyless: 3, _odd: 2}


def _key(random):
    chance = random.random()
    return random.choice(BINARY_KEYS if chance < 0.1 else ODD_KEYS if chance < 0.12 else KEYS)
