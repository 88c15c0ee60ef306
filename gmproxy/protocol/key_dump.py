"""Listings of keys: which command each server is sent, and how the replies of the servers become one reply.

    lru_crawler metadump all|hash|CLASS[,CLASS]...   a line for each item, "key=... exp=...", its key URL-encoded
    lru_crawler mgdump all|hash|CLASS[,CLASS]...     a line for each item, "mg KEY"; in memcached 1.6.45, not in 1.6.18
    stats cachedump CLASS LIMIT                      a line for some of the items of a slab class, "ITEM KEY [BYTES b; EXPTIME s]"

A CLASS is a slab class of one server, with the number that it has in gmproxy's `stats items` (OF_SERVER); or a slab class of memcached, 1 to 63:
then it means this class of all servers.
"""

from collections.abc import Sequence

from gmproxy.protocol.numbers import plain_number

#: The slab class C of server number N (from 1) has the number N * OF_SERVER + C in gmproxy. Some clients request each class up to 255: with
#: OF_SERVER above that, they do not receive keys twice.
OF_SERVER = 1000

#: The highest slab class in memcached (MAX_NUMBER_OF_SLAB_CLASSES, which is one more).
LAST_CLASS = 63

ERROR = b"ERROR\r\n"
BAD_CLASS = b"BADCLASS invalid class id\r\n"
ILLEGAL_CLASS = b"CLIENT_ERROR Illegal slab id\r\n"
BAD_LINE = b"CLIENT_ERROR bad command line\r\n"
BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"
BUSY = b"BUSY currently processing crawler request\r\n"

#: The first line of a dump from memcached 1.6.45; 1.6.18 does not send it.
OK = b"OK\r\n"

#: The last line of a dump.
END, META_END = b"END\r\n", b"EN\r\n"

#: How the line of an item begins.
_ITEM_OF = {b"metadump": b"key=", b"mgdump": b"mg ", b"cachedump": b"ITEM "}

#: The replies of a memcached that was started with -X.
_NOT_ALLOWED = {
    b"metadump": b"ERROR metadump not allowed\r\n",
    b"mgdump": b"ERROR key dump not allowed\r\n",
    b"cachedump": b"CLIENT_ERROR stats cachedump not allowed\r\n",
}


class Refused(ValueError):
    """The command of the client is invalid. `reply`: the error line that it receives, the same as from memcached."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


class KeyDump:
    """A listing that a client requested.

    name        the command, for error lines
    end         the last line of the listing
    item        how the line of an item begins
    is_crawl    True: a server accepts only one at a time
    not_allowed  the reply where listings are not allowed
    limit       maximum number of items in the reply; None: unlimited
    """

    def __init__(self, kind: bytes, arguments: Sequence[bytes], servers: int) -> None:
        """`kind`: metadump, mgdump or cachedump; `arguments`: the words behind it; `servers`: the number of servers. Raises Refused."""
        self.name = b"lru_crawler" if kind != b"cachedump" else b"stats cachedump"
        self.not_allowed = _NOT_ALLOWED[kind]
        self._kind = kind
        self._all_classes = b""  # "all" or "hash"; then `_classes` is empty
        self._classes: dict[int, list[int]] = {}  # index of the server -> slab classes
        self.end = META_END if kind == b"mgdump" else END
        self.item = _ITEM_OF[kind]
        self.is_crawl = kind != b"cachedump"
        self.limit: int | None = None
        if not self.is_crawl:
            self._parse_cachedump(arguments, servers)
        elif arguments[0] in (b"all", b"hash"):
            self._all_classes = arguments[0]
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

    def _add_class(self, word: bytes, servers: int, least: int, not_a_number: bytes, out_of_range: bytes) -> None:
        number = _number(word)
        if number is None:
            raise Refused(not_a_number)
        server, slab_class = divmod(number, OF_SERVER)
        if server > servers or not least <= slab_class <= LAST_CLASS:
            raise Refused(out_of_range)
        for index in range(servers) if server == 0 else (server - 1,):
            self._classes.setdefault(index, []).append(slab_class)

    def line(self, server: int, items: int) -> bytes | None:
        """The command line for the server with the index `server`, if the servers before it returned `items` items; None: it need not be sent a
        command."""
        if self._all_classes:
            return b"lru_crawler %b %b\r\n" % (self._kind, self._all_classes)
        classes = self._classes.get(server)
        if classes is None or (self.limit is not None and items >= self.limit):
            return None
        if self.is_crawl:
            return b"lru_crawler %b %b\r\n" % (self._kind, b",".join(b"%d" % one for one in classes))
        return b"stats cachedump %d %d\r\n" % (classes[0], 0 if self.limit is None else self.limit - items)

    def is_refusal(self, head: bytes) -> bool:
        """True if a reply that begins with `head`, at least one line, is an error line instead of a listing."""
        return not head.startswith((OK, self.end, self.item))

    def items_from(self, head: bytes) -> int:
        """The offset of the first item in a reply that begins with `head`, at least one line."""
        return len(OK) if head.startswith(OK) else 0

    def is_whole(self, tail: bytes) -> bool:
        """True if a reply that ends with `tail`, so far, is complete. `tail` must be the whole reply, or at least one byte longer than `end`."""
        return tail.endswith(b"\n" + self.end) or tail == self.end


def parse_key_dump(command: bytes, words: Sequence[bytes], servers: int) -> KeyDump:
    """The KeyDump for `command`, lru_crawler or stats, with `words` behind it, of which the first is cachedump after stats. Raises Refused."""
    if command == b"lru_crawler" and (len(words) != 2 or words[0] not in (b"metadump", b"mgdump")):
        raise Refused(ERROR)
    return KeyDump(words[0], words[1:], servers)


def _number(word: bytes) -> int | None:
    return plain_number(word.decode("ascii", "replace"))
