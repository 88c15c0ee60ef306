"""The requests of the clients: one or two commands for each class of commands, and what their replies mean."""

from collections.abc import Callable
from typing import NamedTuple

from model.promises import ERROR, HIT, MISS, Operation, Value

#: The key of all commands, and the second key of commands with two keys. With several servers each key is on a different one.
KEY, OTHER = b"a", b"b"

#: The initial value of both keys.
INITIAL = b"7"

CRLF = b"\r\n"


class Command(NamedTuple):
    """
    line      what the client sends
    kind      what it does to each of its keys; see promises.Operation, also for `argument` and `expected`
    shape     the form of its reply: values (VALUE blocks and END), meta, or line
    """

    line: bytes
    kind: str
    keys: tuple[bytes, ...]
    shape: str
    argument: bytes = b""
    expected: Value = None


class Told(NamedTuple):
    """What a reply reports about one key."""

    outcome: str
    found: Value


def take_reply(command: Command, received: bytes) -> tuple[bytes, bytes] | None:
    """(the reply to `command`, the rest of `received`), or None if the reply is incomplete."""
    end = received.find(CRLF) + 2
    if end < 2:
        return None
    words = received[:end].split()
    if command.shape == "values" and words[0] == b"VALUE":
        block = end + int(words[3]) + 2
        rest = take_reply(command, received[block:])
        return rest and (received[:block] + rest[0], rest[1])
    if command.shape == "meta" and words[0] == b"VA":
        end += int(words[1]) + 2
    return (received[:end], received[end:]) if len(received) >= end else None


def what_it_says(command: Command, reply: bytes) -> dict[bytes, Told]:
    """{key: what the reply reports about it}"""
    word = reply.split()[0]
    if word in (b"SERVER_ERROR", b"CLIENT_ERROR", b"ERROR"):
        return dict.fromkeys(command.keys, Told(ERROR, None))
    if command.shape == "values":
        values = {key: value for key, value, _ in values_in(reply)}
        return {key: Told(HIT, values[key]) if key in values else Told(MISS, None) for key in command.keys}
    found = None
    if word == b"VA":
        found = reply.split(CRLF)[1]
    elif word.isdigit():
        found = word
    no = word in (b"NOT_FOUND", b"NOT_STORED", b"EXISTS", b"EN", b"NF", b"NS", b"EX")
    return dict.fromkeys(command.keys, Told(MISS if no else HIT, found))


def values_in(reply: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """(key, value, cas number or b"") of each value in a reply of the shape values. No value in these tests contains a line end."""
    lines = reply.split(CRLF)[:-2]
    headers = [line.split() for line in lines[::2]]
    return [(header[1], value, header[4] if len(header) > 4 else b"") for header, value in zip(headers, lines[1::2])]


def operations(command: Command, reply: bytes, began: int, ended: int, client: int, turn: int) -> list[tuple[bytes, Operation]]:
    """(key, Operation) for each key that can be judged: not for misses of commands other than add and delete, and not for errors of reads."""
    found = []
    for key, told in what_it_says(command, reply).items():
        changes_nothing = told.outcome == MISS and command.kind not in ("add", "delete")
        if not changes_nothing and not (told.outcome == ERROR and command.kind == "read"):
            found.append(
                (key, Operation(command.kind, command.argument, command.expected, told.outcome, told.found, began, ended, client, turn))
            )
    return found


# -- the classes of commands

#: The commands that a client sends at once, or a function that makes them from the last reply.
Step = list[Command] | Callable[[bytes], list[Command]]

#: The steps of one client: it sends the next one after the replies to the one before.
Script = list[Step]


def retrieve(line: bytes, *keys: bytes) -> Command:
    return Command(b"%b %b\r\n" % (line, b" ".join(keys)), "read", keys, "values")


def store(name: bytes, value: bytes, kind: str = "") -> Command:
    return Command(b"%b %b 0 0 %d\r\n%b\r\n" % (name, KEY, len(value), value), kind or name.decode(), (KEY,), "line", value)


def line(text: bytes, kind: str, argument: bytes = b"", keys: tuple[bytes, ...] = (KEY,)) -> Command:
    return Command(text + CRLF, kind, keys, "line", argument)


def meta(text: bytes, kind: str, argument: bytes = b"", expected: Value = None) -> Command:
    return Command(text + CRLF, kind, (KEY,), "meta", argument, expected)


def meta_set(value: bytes, flags: bytes, kind: str, expected: Value = None) -> Command:
    return meta(b"ms %b %d%b\r\n%b" % (KEY, len(value), flags, value), kind, value, expected)


def cas_of(value: bytes) -> Callable[[bytes], list[Command]]:
    """Makes a cas with the number and the value of the reply to gets."""

    def cas(reply: bytes) -> list[Command]:
        return [
            Command(b"cas %b 0 0 %d %b\r\n%b\r\n" % (KEY, len(value), number, value), "cas", (KEY,), "line", value, seen)
            for _, seen, number in values_in(reply)
        ]

    return cas


def meta_cas_of(value: bytes) -> Callable[[bytes], list[Command]]:
    """Makes an ms with the number and the value of the reply to an mg with v and c."""

    def cas(reply: bytes) -> list[Command]:
        if not reply.startswith(b"VA"):
            return []
        header, seen = reply.split(CRLF)[:2]
        (number,) = [word[1:] for word in header.split()[2:] if word[:1] == b"c"]
        return [meta_set(value, b" C" + number, "cas", seen)]

    return cas


def script_of(name: str, client: int) -> Script:
    """The script of client 1 or 2 with commands of the class `name`. Each client stores a different value."""
    return CLASSES[name](b"%d00" % client, b"%d" % client, b"%d0" % client)


#: {class of commands: the script for a value to store, a digit to append, and a number to count by}. Commands in one list are
#: sent at once.
CLASSES: dict[str, Callable[[bytes, bytes, bytes], Script]] = {
    "get": lambda value, digit, count: [[retrieve(b"get", KEY)]],
    "get of two": lambda value, digit, count: [[retrieve(b"get", KEY, OTHER)]],
    "gets, cas": lambda value, digit, count: [[retrieve(b"gets", KEY)], cas_of(value)],
    "gat": lambda value, digit, count: [[retrieve(b"gat 60", KEY)]],
    "gat of two": lambda value, digit, count: [[retrieve(b"gat 60", KEY, OTHER)]],
    "set": lambda value, digit, count: [[store(b"set", value)]],
    "add": lambda value, digit, count: [[store(b"add", value)]],
    "replace": lambda value, digit, count: [[store(b"replace", value)]],
    "append": lambda value, digit, count: [[store(b"append", digit)]],
    "incr": lambda value, digit, count: [[line(b"incr %b %b" % (KEY, count), "count", count)]],
    "delete": lambda value, digit, count: [[line(b"delete %b" % KEY, "delete")]],
    "touch": lambda value, digit, count: [[line(b"touch %b 60" % KEY, "read")]],
    "flush_all": lambda value, digit, count: [[line(b"flush_all", "delete", keys=(KEY, OTHER))]],
    "mg": lambda value, digit, count: [[meta(b"mg %b v" % KEY, "read")]],
    "mg, ms of its cas": lambda value, digit, count: [[meta(b"mg %b v c" % KEY, "read")], meta_cas_of(value)],
    "mg touch": lambda value, digit, count: [[meta(b"mg %b v T60" % KEY, "read")]],
    "ms": lambda value, digit, count: [[meta_set(value, b"", "set")]],
    "ms add": lambda value, digit, count: [[meta_set(value, b" ME", "add")]],
    "ms append": lambda value, digit, count: [[meta_set(digit, b" MA", "append")]],
    "md": lambda value, digit, count: [[meta(b"md %b" % KEY, "delete")]],
    "ma": lambda value, digit, count: [[meta(b"ma %b v D%b" % (KEY, count), "count", count)]],
    "set and get": lambda value, digit, count: [[store(b"set", value), retrieve(b"get", KEY)]],
    "set, then get": lambda value, digit, count: [[store(b"set", value)], [retrieve(b"get", KEY)]],
    "incr, then get": lambda value, digit, count: [[line(b"incr %b %b" % (KEY, count), "count", count)], [retrieve(b"get", KEY)]],
    "get and set": lambda value, digit, count: [[retrieve(b"get", KEY), store(b"set", value)]],
}
