"""What a client might say: mostly right, sometimes a little wrong, now and then nonsense.

A conversation is a list of pieces, each a command line or a data block with its line end. `random` decides all, so that a seed
says which conversation it was.
"""

STORES = (b"set", b"add", b"replace", b"append", b"prepend", b"cas")
READS = (b"get", b"gets")
TOUCHING_READS = (b"gat", b"gats")
COUNTS = (b"incr", b"decr")

#: Stands in every key: replaced by a number of the conversation, so that no conversation finds what another one left.
MARK = b"@@@@@"

KEYS = tuple(MARK + end for end in (b"", b"1", b"two", b"\xc3\xa9", b"\xff\x80", b"\t", b"%s", b"x" * 245))
LONG_KEYS = (b"x" * 251, b"x" * 400)
ODD_KEYS = (b"\x01" + MARK, b"\r" + MARK, MARK + b"\x7f{}", b"noreply")

EXPTIMES = (b"0", b"0", b"0", b"100", b"2592000", b"-1", b"9999999999")
ODD_NUMBERS = (
    b"x", b"-", b"+", b"", b"+5", b"-5", b"-0", b"00", b"007", b"0x1f", b"1e3", b"1.5", b"5x", b"x5", b"\t5", b"5\t", b"\r5",
    b"5\r", b"5\x0b6", b"1_0", b"\xd9\xa1", b"65536", b"2147483647", b"2147483648", b"-2147483648", b"-2147483649",
    b"4294967295", b"4294967296", b"-4294967296", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808",
    b"-9223372036854775809", b"18446744073709551615", b"18446744073709551616", b"99999999999999999999999", b"-1",
)

#: None is white space alone: memcached 1.6.18 counts up from such a value by reading on in memory that is not the item's.
VALUES = (b"", b"0", b"1", b"10", b"99", b"007", b"-1", b" 5", b"5 ", b"18446744073709551615", b"18446744073709551616",
          b"abc", b"END\r\n", b"\r\n\0", b"\0", b"get a\r\n", b"v" * 1500, b"VALUE a 0 1\r\n1\r\nEND\r\n")
DELTAS = (b"0", b"1", b"9", b"100", b"18446744073709551615")
STRAYS = (b"noreply", b"foo", b"0", b"1", b"-1", b"\t", b"noreply noreply", b"foo noreply", b"noreply foo", b"0 noreply")
NONSENSE = (
    b"", b" ", b"\r", b"\t", b"get", b"gets ", b"gat", b"gat 0", b"gats 0 ", b"gat x", b"set", b"set a", b"foo", b"foo bar",
    b"GET a", b"g", b"s", b"getx a", b"\0", b"get\0 a", b"\xff\xfe", b"touch", b"touch a", b"incr", b"incr a", b"delete",
    b"cas a 0 0 1", b"flush_all x", b"set  ", b"noreply", b"delete noreply", b"gat 0 0 0 0", b"get " + b"x " * 900,
    b"foo " * 100, b"touch a b c d", b"incr a 1 noreply x", b"decr a x noreply", b"flush_all 0 0", b"flush_all noreply noreply",
    b"flush_all 0 noreply", b"flush_all -1 noreply x",
)


def conversation(random):
    """A list of pieces."""
    pieces = []
    for _ in range(random.randint(1, 12)):
        pieces += _command(random)
    return pieces


def _command(random):
    kind = random.choices((_store, _read, _touching_read, _count, _delete, _touch, _flush, _nonsense), _WEIGHTS)[0]
    return kind(random)


_WEIGHTS = (30, 20, 8, 12, 8, 8, 2, 8)


def _store(random):
    verb = random.choice(STORES)
    value = random.choice(VALUES)
    length = b"%d" % len(value)
    if random.random() < 0.05:
        length = _odd_number(random)
    words = [verb, _key(random), _number(random, (b"0", b"1", b"4294967295")), _number(random, EXPTIMES), length]
    if verb == b"cas":
        words.append(_number(random, (b"1", b"2", b"0", b"18446744073709551615")))
    data_end = b"\r\n" if random.random() < 0.95 else random.choice((b"", b"\n", b"\r", b"xx", b"x\r\n", b"\0\0"))
    return [_line(random, words), value + data_end]


def _read(random):
    return [_line(random, [random.choice(READS), *_keys(random)], noreply=0.02)]


def _touching_read(random):
    return [_line(random, [random.choice(TOUCHING_READS), _number(random, EXPTIMES), *_keys(random)], noreply=0.02)]


def _count(random):
    return [_line(random, [random.choice(COUNTS), _key(random), _number(random, DELTAS)])]


def _delete(random):
    return [_line(random, [b"delete", _key(random)])]


def _touch(random):
    return [_line(random, [b"touch", _key(random), _number(random, EXPTIMES)])]


def _flush(random):
    return [_line(random, [b"flush_all"])]


def _nonsense(random):
    return [random.choice(NONSENSE) + _line_end(random)]


def _key(random):
    return random.choice(ODD_KEYS + LONG_KEYS if random.random() < 0.03 else KEYS)


def _keys(random):
    return random.choices(KEYS + ODD_KEYS, k=random.choice((1, 1, 1, 2, 3, 7, 30)))


def _number(random, usual):
    return _odd_number(random) if random.random() < 0.06 else random.choice(usual)


def _odd_number(random):
    return random.choice(ODD_NUMBERS)


def _line(random, words, noreply=0.15):
    line = b" ".join(words)
    if random.random() < noreply:
        line += b" noreply"
    chance = random.random()
    if chance < 0.03:
        line += b" " + random.choice(STRAYS)
    elif chance < 0.05:
        line = line.rsplit(b" ", 1)[0]
    elif chance < 0.08:
        at = random.randint(0, len(line))
        line = line[:at] + random.choice((b" ", b"  ", b"\t", b"\0", b"\r", b"\xff", b"\n")) + line[at:]
    elif chance < 0.09:
        line = line.replace(b" ", b"  ")
    elif chance < 0.10:
        line = b"  " + line + b" "
    return line + _line_end(random)


def _line_end(random):
    return b"\r\n" if random.random() < 0.93 else random.choice((b"\n", b" \r\n", b"\r\r\n", b"\0\r\n", b"\n\r\n"))
