"""Listings of keys: what a client asks for, what each server is asked, and how the answers of the servers become one.

    lru_crawler metadump all|hash|CLASS[,CLASS]...   a line for each item, "key=... exp=...", its key url-encoded
    lru_crawler mgdump all|hash|CLASS[,CLASS]...     a line for each item, "mg KEY"; memcached 1.6.45 knows it, 1.6.18 does not
    stats cachedump CLASS LIMIT                      a line for some of the items of a slab class, "ITEM KEY [BYTES b; EXPTIME s]"

A slab class of one server has the number that `stats items` of the proxy has for it (see OF_SERVER); a number as memcached itself has it means
that class on all servers.
"""

from collections.abc import Sequence

from gmproxy.protocol.numbers import plain_number

#: The slab class C of the server number N (from 1) is the class N * OF_SERVER + C of the proxy. There are clients that ask for each class up
#: to 255: they must not find keys twice.
OF_SERVER = 1000

#: memcached: MAX_NUMBER_OF_SLAB_CLASSES, which counts one more.
LAST_CLASS = 63

ERROR = b"ERROR\r\n"
BAD_CLASS = b"BADCLASS invalid class id\r\n"
ILLEGAL_CLASS = b"CLIENT_ERROR Illegal slab id\r\n"
BAD_LINE = b"CLIENT_ERROR bad command line\r\n"
BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"
BUSY = b"BUSY currently processing crawler request\r\n"

#: With what memcached 1.6.45 begins a dump; 1.6.18 does not.
OK = b"OK\r\n"

#: What says that a dump has come to its end.
END, META_END = b"END\r\n", b"EN\r\n"

#: How the line of an item begins.
_ITEM_OF = {b"metadump": b"key=", b"mgdump": b"mg ", b"cachedump": b"ITEM "}

#: The answers of a memcached that was started with -X.
_NOT_ALLOWED = {
    b"metadump": b"ERROR metadump not allowed\r\n",
    b"mgdump": b"ERROR key dump not allowed\r\n",
    b"cachedump": b"CLIENT_ERROR stats cachedump not allowed\r\n",
}


class Refused(ValueError):
    """What the client asks for cannot be. `reply`: what it gets, as from memcached."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


class KeyDump:
    """What a client asks for.

    name        the command, as a message names it
    end         the line that says that a dump has come to its end
    item        how the line of an item begins
    is_crawl    True: a server does this for one client at a time
    not_allowed  the answer where listings are not allowed
    limit       items that the client gets at most, or None
    """

    def __init__(self, kind: bytes, arguments: Sequence[bytes], servers: int) -> None:
        """`kind`: metadump, mgdump or cachedump, with the `arguments` behind it; `servers`: how many there are. Raises Refused."""
        self.name = b"lru_crawler" if kind != b"cachedump" else b"stats cachedump"
        self.not_allowed = _NOT_ALLOWED[kind]
        self._kind = kind
        self._what = b""  # instead of classes
        self._classes: dict[int, list[int]] = {}  # by the index of the server
        self.end = META_END if kind == b"mgdump" else END
        self.item = _ITEM_OF[kind]
        self.is_crawl = kind != b"cachedump"
        self.limit: int | None = None
        if not self.is_crawl:
            self._parse_cachedump(arguments, servers)
        elif arguments[0] in (b"all", b"hash"):
            self._what = arguments[0]
        else:
            for word in arguments[0].split(b","):
                self._add_class(word, servers, 1, BAD_CLASS, BAD_CLASS)

    def _parse_cachedump(self, arguments: Sequence[bytes], servers: int) -> None:
        if len(arguments) < 2:
            raise Refused(BAD_LINE)
        limit = _number(arguments[1])
        if limit is None:
            raise Refused(BAD_FORMAT)
        self.limit = limit or None
        self._add_class(arguments[0], servers, 0, BAD_FORMAT, ILLEGAL_CLASS)

    def _add_class(self, word: bytes, servers: int, least: int, no_number: bytes, out_of_range: bytes) -> None:
        number = _number(word)
        if number is None:
            raise Refused(no_number)
        server, slab_class = divmod(number, OF_SERVER)
        if server > servers or not least <= slab_class <= LAST_CLASS:
            raise Refused(out_of_range)
        for index in range(servers) if server == 0 else (server - 1,):
            self._classes.setdefault(index, []).append(slab_class)

    def line(self, server: int, found: int) -> bytes | None:
        """The command for the server with the index `server`, if others had `found` items; None: there is nothing to ask it for."""
        if self._what:
            return b"lru_crawler %b %b\r\n" % (self._kind, self._what)
        classes = self._classes.get(server)
        if classes is None or (self.limit is not None and found >= self.limit):
            return None
        if self.is_crawl:
            return b"lru_crawler %b %b\r\n" % (self._kind, b",".join(b"%d" % one for one in classes))
        return b"stats cachedump %d %d\r\n" % (classes[0], 0 if self.limit is None else self.limit - found)

    def is_refusal(self, head: bytes) -> bool:
        """True if an answer that begins with `head`, at least one line, is no dump but one line that says why."""
        return not head.startswith((OK, self.end, self.item))

    def items_from(self, head: bytes) -> int:
        """Where in an answer that begins with `head`, at least one line, the lines of items begin."""
        return len(OK) if head.startswith(OK) else 0

    def is_whole(self, tail: bytes) -> bool:
        """True if an answer whose last bytes are `tail`, or all of whose bytes, has come to its end. A few bytes more than `end` are enough."""
        return tail.endswith(b"\n" + self.end) or tail == self.end


def parse_key_dump(command: bytes, words: Sequence[bytes], servers: int) -> KeyDump:
    """The KeyDump that the `words` behind `command` ask for: lru_crawler, or stats with cachedump as its first word. Raises Refused."""
    if command == b"lru_crawler" and (len(words) != 2 or words[0] not in (b"metadump", b"mgdump")):
        raise Refused(ERROR)
    return KeyDump(words[0], words[1:], servers)


def _number(word: bytes) -> int | None:
    return plain_number(word.decode("ascii", "replace"))
