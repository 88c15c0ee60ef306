"""Generated requests of a client: mostly valid, sometimes with one mistake, sometimes garbage.

A conversation is a list of pieces, each a command line or a data block with its line end. It depends on `random` only, so that a seed
identifies a conversation.
"""

STORES = (b"set", b"add", b"replace", b"append", b"prepend", b"cas")
READS = (b"get", b"gets")
TOUCHING_READS = (b"gat", b"gats")
COUNTS = (b"incr", b"decr")

#: Part of every key. It is replaced by the number of the conversation, so that no conversation finds values of another one.
MARK = b"@@@@@"

KEYS = tuple(MARK + end for end in (b"", b"1", b"two", b"\xc3\xa9", b"\xff\x80", b"\t", b"%s", b"x" * 245))
LONG_KEYS = (b"x" * 251, b"x" * 400)
ODD_KEYS = (b"\x01" + MARK, b"\r" + MARK, MARK + b"\x7f{}", b"noreply")

EXPTIMES = (b"0", b"0", b"0", b"100", b"2592000", b"-1", b"9999999999")
ODD_NUMBERS = (
    b"x",
    b"-",
    b"+",
    b"",
    b"+5",
    b"-5",
    b"-0",
    b"00",
    b"007",
    b"0x1f",
    b"1e3",
    b"1.5",
    b"5x",
    b"x5",
    b"\t5",
    b"5\t",
    b"\r5",
    b"5\r",
    b"5\x0b6",
    b"1_0",
    b"\xd9\xa1",
    b"65536",
    b"2147483647",
    b"2147483648",
    b"-2147483648",
    b"-2147483649",
    b"4294967295",
    b"4294967296",
    b"-4294967296",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999999999999999999",
    b"-1",
)

#: No value consists of white space only: with such a value, incr of memcached 1.6.18 reads memory behind the item.
VALUES = (
    b"",
    b"0",
    b"1",
    b"10",
    b"99",
    b"007",
    b"-1",
    b" 5",
    b"5 ",
    b"18446744073709551615",
    b"18446744073709551616",
    b"abc",
    b"END\r\n",
    b"\r\n\0",
    b"\0",
    b"get a\r\n",
    b"v" * 1500,
    b"VALUE a 0 1\r\n1\r\nEND\r\n",
)
DELTAS = (b"0", b"1", b"9", b"100", b"18446744073709551615")

#: A mark consists of digits, which are valid base64: most of these keys are valid base64 that contains the mark, some are almost valid.
BASE64_KEYS = (b"AAA" + MARK, b"AAA" + MARK + b"Zg==", b"AAA" + MARK + b"Zm8=", b"A A".replace(b" ", b"!") + b"A" + MARK, MARK, b"====")
OPAQUES = (b"O1", b"Oabc", b"O", b"O" + b"o" * 31)
META_READS = (b"v", b"c", b"f", b"h", b"k", b"s", b"t", b"u", b"l", b"q")
META_WINS = (b"N30", b"N0", b"N-1", b"R10", b"R1000", b"T0", b"T100", b"T-1", b"T2592001")
META_STORES = (b"c", b"k", b"q", b"F5", b"F4294967295", b"F0", b"T0", b"T100", b"T-1", b"I", b"C1", b"C0", b"C18446744073709551615")
META_MODES = (b"ME", b"MA", b"MP", b"MR", b"MS")
META_COUNTS = (
    b"MI",
    b"M+",
    b"MD",
    b"M-",
    b"D2",
    b"D18446744073709551615",
    b"J13",
    b"J0",
    b"N0",
    b"N100",
    b"T100",
    b"C1",
    b"c",
    b"k",
    b"t",
    b"v",
)
ODD_FLAGS = (
    b"M",
    b"MX",
    b"ME2",
    b"T",
    b"Tx",
    b"N",
    b"C",
    b"Cx",
    b"C-1",
    b"F",
    b"F-1",
    b"J-",
    b"Dx",
    b"x",
    b"E5",
    b"S3",
    b"!",
    b"\x7f",
    b"\xff",
    b"noreply",
    b"vv",
    b"Pathhint",
    b"L/a/b",
    b"T5\t",
    b"F+5",
    b"F4294967296",
    b"D18446744073709551616",
)
STRAYS = (b"noreply", b"foo", b"0", b"1", b"-1", b"\t", b"noreply noreply", b"foo noreply", b"noreply foo", b"0 noreply")
NONSENSE = (
    b"",
    b" ",
    b"\r",
    b"\t",
    b"get",
    b"gets ",
    b"gat",
    b"gat 0",
    b"gats 0 ",
    b"gat x",
    b"set",
    b"set a",
    b"foo",
    b"foo bar",
    b"GET a",
    b"g",
    b"s",
    b"getx a",
    b"\0",
    b"get\0 a",
    b"\xff\xfe",
    b"touch",
    b"touch a",
    b"incr",
    b"incr a",
    b"delete",
    b"cas a 0 0 1",
    b"flush_all x",
    b"set  ",
    b"noreply",
    b"delete noreply",
    b"gat 0 0 0 0",
    b"get " + b"x " * 900,
    b"foo " * 100,
    b"touch a b c d",
    b"incr a 1 noreply x",
    b"decr a x noreply",
    b"flush_all 0 0",
    b"flush_all noreply noreply",
    b"flush_all 0 noreply",
    b"flush_all -1 noreply x",
)


def conversation(random):
    """Returns a list of pieces."""
    pieces = []
    for _ in range(random.randint(1, 12)):
        pieces += _command(random)
    return pieces


def _command(random):
    kind = random.choices(list(_WEIGHTS), _WEIGHTS.values())[0]
    return kind(random)


def _store(random):
    command = random.choice(STORES)
    value = random.choice(VALUES)
    length = b"%d" % len(value)
    if random.random() < 0.05:
        length = _odd_number(random)
    words = [command, _key(random), _number(random, (b"0", b"1", b"4294967295")), _number(random, EXPTIMES), length]
    if command == b"cas":
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


def _meta_get(random):
    return [_meta_line(random, b"mg", [], META_READS, META_WINS if random.random() < 0.3 else ())]


def _meta_set(random):
    value = random.choice(VALUES)
    length = b"%d" % len(value) if random.random() < 0.95 else _odd_number(random)
    modes = (random.choice(META_MODES),) if random.random() < 0.5 else ()
    data_end = b"\r\n" if random.random() < 0.95 else random.choice((b"", b"\n", b"xx", b"x\r\n"))
    return [_meta_line(random, b"ms", [length], META_STORES, modes), value + data_end]


def _meta_delete(random):
    return [_meta_line(random, b"md", [], (b"k", b"q", b"q", b"I", b"T100", b"C1"))]


def _meta_count(random):
    return [_meta_line(random, b"ma", [], META_COUNTS)]


def _meta_other(random):
    return [
        random.choice(
            (b"mn", b"mn", b"mn q", b"me " + _key(random), b"mx", b"m", b"mg", b"ms", b"ma", b"md", b"me", b"me AAA" + MARK + b" b")
        )
        + b"\r\n"
    ]


def _meta_line(random, name, words, *choices):
    """A meta command with some flags of each of `choices`, sometimes with a wrong one."""
    flags = [flag for some in choices for flag in random.sample(some, random.randint(0, min(4, len(some))))]
    key = _key(random)
    if random.random() < 0.2:
        key = random.choice(BASE64_KEYS)
        flags.append(b"b")
    if random.random() < 0.3:
        flags.append(random.choice(OPAQUES))
    if random.random() < 0.08:
        flags.append(random.choice(ODD_FLAGS))
    if random.random() < 0.02:
        flags += [b"u", b"u", *ODD_FLAGS[:15]]
    random.shuffle(flags)
    return _line(random, [name, key, *words, *flags], noreply=0.01)


_WEIGHTS = {
    _store: 30,
    _read: 20,
    _touching_read: 8,
    _count: 12,
    _delete: 8,
    _touch: 8,
    _flush: 2,
    _nonsense: 8,
    _meta_get: 16,
    _meta_set: 16,
    _meta_delete: 5,
    _meta_count: 8,
    _meta_other: 4,
}


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
