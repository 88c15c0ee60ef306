"""The same requests in each protocol: text, meta and binary. All replies are translated to those of the text protocol.

A dialect turns a request into a Wire: the bytes to send, and a function that reads the reply from the Client. For a retrieval the function
returns a list of Item, for all other requests a line without its line end: STORED, NOT_STORED, EXISTS, NOT_FOUND, DELETED, TOUCHED, or digits.
For a failure it returns a line that begins with SERVER_ERROR.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from support import packets

from faults.client import Client, Item, OutOfStep

#: memcached's statuses of the binary protocol, by number.
OK, NO_KEY, KEY_EXISTS, NOT_STORED = 0, 1, 2, 5


class Wire(NamedTuple):
    data: bytes
    read: Callable[[Client], list | bytes]


class Text:
    name = "text"

    def retrieve(self, keys: Sequence[bytes], cas: bool = False, life: int | None = None) -> Wire:
        """get, gets, gat or gats: `cas` for the cas number, `life` for a new life in seconds."""
        verb = (b"get" if life is None else b"gat") + (b"s" if cas else b"")
        words = [verb] if life is None else [verb, b"%d" % life]
        return Wire(b" ".join([*words, *keys]) + b"\r\n", _read_items)

    def store(self, verb: bytes, key: bytes, data: bytes, cas: int | None = None) -> Wire:
        """`verb` is set, add, replace, append or cas; cas uses the number `cas`."""
        number = b"" if cas is None else b" %d" % cas
        return Wire(b"%b %b 0 0 %d%b\r\n%b\r\n" % (verb, key, len(data), number, data), Client.read_line)

    def delete(self, key: bytes) -> Wire:
        return Wire(b"delete %b\r\n" % key, Client.read_line)

    def touch(self, key: bytes, life: int) -> Wire:
        return Wire(b"touch %b %d\r\n" % (key, life), Client.read_line)

    def count(self, verb: bytes, key: bytes) -> Wire:
        """incr or decr by one."""
        return Wire(b"%b %b 1\r\n" % (verb, key), Client.read_line)

    @staticmethod
    def store_quietly(key: bytes, data: bytes) -> bytes:
        """A set without a reply."""
        return b"set %b 0 0 %d noreply\r\n%b\r\n" % (key, len(data), data)


def _read_items(client):
    items = []
    while True:
        line = client.read_line()
        if line == b"END":
            return items
        if line.startswith(b"SERVER_ERROR "):
            return line
        words = line.split(b" ")
        if words[0] != b"VALUE" or len(words) not in (4, 5) or not all(word.isdigit() for word in words[2:]):
            raise OutOfStep(f"a get was answered {line[:100]!r}")
        items.append(Item(words[1], _read_block(client, int(words[3]), words[1]), int(words[4]) if len(words) == 5 else 0))


def _read_block(client, length, key):
    data = client.read_exactly(length + 2)
    if not data.endswith(b"\r\n"):
        raise OutOfStep(f"a value of {key!r} that does not end where it should")
    return data[:-2]


class Meta:
    name = "meta"

    #: The mode flag of each storage command.
    MODES = {b"set": b"", b"add": b" ME", b"replace": b" MR", b"append": b" MA", b"cas": b""}

    def retrieve(self, keys: Sequence[bytes], cas: bool = False, life: int | None = None) -> Wire:
        """A quiet mg for each key, then mn."""
        flags = b" k v q" + (b" c" if cas else b"") + (b"" if life is None else b" T%d" % life)
        return Wire(b"".join(b"mg %b%b\r\n" % (key, flags) for key in keys) + b"mn\r\n", _read_meta_items)

    def store(self, verb: bytes, key: bytes, data: bytes, cas: int | None = None) -> Wire:
        number = b"" if cas is None else b" C%d" % cas
        words = {b"HD": b"STORED", b"NS": b"NOT_STORED", b"EX": b"EXISTS", b"NF": b"NOT_FOUND"}
        return Wire(b"ms %b %d%b%b\r\n%b\r\n" % (key, len(data), self.MODES[verb], number, data), _status(words))

    def delete(self, key: bytes) -> Wire:
        return Wire(b"md %b\r\n" % key, _status({b"HD": b"DELETED", b"NF": b"NOT_FOUND"}))

    def touch(self, key: bytes, life: int) -> Wire:
        return Wire(b"mg %b T%d\r\n" % (key, life), _status({b"HD": b"TOUCHED", b"EN": b"NOT_FOUND"}))

    def count(self, verb: bytes, key: bytes) -> Wire:
        def read(client):
            line = client.read_line()
            if not line.startswith(b"VA "):
                return b"NOT_FOUND" if line == b"NF" else line
            length = line[3:]
            if not length.isdigit():
                raise OutOfStep(f"an ma was answered {line[:100]!r}")
            return _read_block(client, int(length), key)

        return Wire(b"ma %b v%b\r\n" % (key, b" MD" if verb == b"decr" else b""), read)


def _status(words):
    """Returns a reader of one line, which translates its status to that of the text protocol."""

    def read(client):
        line = client.read_line()
        return words.get(line, line)

    return read


def _read_meta_items(client):
    items, failure = [], None
    while (line := client.read_line()) != b"MN":
        if line.startswith(b"SERVER_ERROR "):
            failure = line
            continue
        words = line.split(b" ")
        flags = {word[:1]: word[1:] for word in words[2:]}
        if words[0] != b"VA" or len(words) < 3 or not words[1].isdigit() or b"k" not in flags or not flags.get(b"c", b"0").isdigit():
            raise OutOfStep(f"an mg was answered {line[:100]!r}")
        items.append(Item(flags[b"k"], _read_block(client, int(words[1]), flags[b"k"]), int(flags.get(b"c", b"0"))))
    return items if failure is None else failure


class Binary:
    """The binary protocol. It needs a connection of its own: a connection uses either binary, or text and meta."""

    name = "binary"

    def __init__(self) -> None:
        self._asked = 0  # requests so far; each request has this number as its opaque

    def retrieve(self, keys: Sequence[bytes], cas: bool = False, life: int | None = None) -> Wire:
        """A quiet get or gat for each key, then a noop. The reply always has the cas number."""
        asked = {self._opaque(): key for key in keys}
        last = self._opaque()
        if life is None:
            data = b"".join(packets.packet("getkQ", key, opaque=opaque) for opaque, key in asked.items())
        else:
            data = b"".join(packets.touch("gatkQ", key, life, opaque=opaque) for opaque, key in asked.items())

        def read(client):
            items, failure = [], None
            while (answer := _read_packet(client)).opaque != last:
                if asked.get(answer.opaque) != answer.key and answer.status == OK or answer.opaque not in asked:
                    raise OutOfStep(f"a get of {asked.get(answer.opaque)} was answered {answer}")
                if answer.status == OK:
                    items.append(Item(answer.key, answer.value, answer.cas))
                elif answer.status != NO_KEY:
                    failure = _failure(answer)
            return items if failure is None else failure

        return Wire(data + packets.packet("noop", opaque=last), read)

    def store(self, verb: bytes, key: bytes, data: bytes, cas: int | None = None) -> Wire:
        opaque = self._opaque()
        words = {OK: b"STORED", NO_KEY: b"NOT_STORED", KEY_EXISTS: b"NOT_STORED", NOT_STORED: b"NOT_STORED"}
        if verb == b"append":
            sent = packets.packet("append", key, data, opaque=opaque)
        elif verb == b"cas":
            sent = packets.store("set", key, data, cas=cas, opaque=opaque)
            words |= {NO_KEY: b"NOT_FOUND", KEY_EXISTS: b"EXISTS"}
        else:
            sent = packets.store(verb.decode(), key, data, opaque=opaque)
        return Wire(sent, _packet_status(opaque, words))

    def delete(self, key: bytes) -> Wire:
        opaque = self._opaque()
        return Wire(packets.packet("delete", key, opaque=opaque), _packet_status(opaque, {OK: b"DELETED", NO_KEY: b"NOT_FOUND"}))

    def touch(self, key: bytes, life: int) -> Wire:
        opaque = self._opaque()
        return Wire(packets.touch("touch", key, life, opaque=opaque), _packet_status(opaque, {OK: b"TOUCHED", NO_KEY: b"NOT_FOUND"}))

    def count(self, verb: bytes, key: bytes) -> Wire:
        opaque = self._opaque()

        def read(client):
            answer = _read_packet(client, opaque)
            if answer.status == OK:
                return b"%d" % int.from_bytes(answer.value, "big")
            return b"NOT_FOUND" if answer.status == NO_KEY else _failure(answer)

        return Wire(packets.count(verb.decode(), key, opaque=opaque), read)

    def _opaque(self):
        self._asked += 1
        return self._asked.to_bytes(4, "big")


def _packet_status(opaque, words):
    def read(client):
        answer = _read_packet(client, opaque)
        return words.get(answer.status) or _failure(answer)

    return read


def _failure(answer):
    """The error as a line of the text protocol: the body of a binary reply has the error text without SERVER_ERROR."""
    words = answer.value or b"status %d" % answer.status
    return words if words.startswith(b"SERVER_ERROR ") else b"SERVER_ERROR " + words


def _read_packet(client, opaque=None):
    """The next reply. With an `opaque`, it must belong to the request with this opaque."""
    header = client.read_exactly(packets.HEADER_SIZE)
    try:
        (answer,) = packets.taken_apart(header + client.read_exactly(int.from_bytes(header[8:12], "big")))
    except AssertionError as error:
        raise OutOfStep(f"no packet: {error}") from None
    if opaque is not None and answer.opaque != opaque:
        raise OutOfStep(f"the answer to request {opaque.hex()} is {answer}")
    return answer
