"""What each class of commands replies and does over several sets of servers: one row of the table in docs/replicas.md for each class.

A request is sent in each state of the sets. In all of them the *acting main* decides: the first set in order that can be reached. So its reply and
its memory afterwards are the same in each state but the last, in which no set can be reached.

In requests, replies and values %(key)b is the key, %(set)b the index of the acting main, %(cas)b the cas number of the item as gmproxy replies it,
%(other)b a number that another write had, and %(foreign)b the same number as one of another set. In a reply CAS stands for any number.
"""

from typing import NamedTuple

#: What a server may have afterwards: anything.
ANY = object()

MISS = b"END\r\n"
META_MISS = b"EN\r\n"
ERROR = b"SERVER_ERROR "

#: Value of the items before a request, which can be counted and appended to.
BEFORE = b"5"

#: Seconds: the life of an item that is touched, and of one that is about to end.
LIFE, SHORT_LIFE = 1000, 20


class Cell(NamedTuple):
    """
    name       of the command, unique
    asks       the request
    reply      if one set at least can be reached
    at_end     how the reply begins if none can be reached
    main       the value on the acting main afterwards; None: none
    others     the same for the other sets that can be reached
    before     the value on all sets before, and `life`, seconds, 0: unlimited
    owed       True if the key is deleted on the sets that could not be reached, as soon as they can; ANY: perhaps
    touched    True if its life is LIFE afterwards, on all sets
    """

    name: str
    asks: bytes
    reply: bytes
    at_end: bytes
    main: object
    others: object
    before: bytes | None = BEFORE
    life: int = 0
    owed: object = True
    touched: bool = False

    @property
    def key(self) -> bytes:
        return self.name.replace(" ", "-").encode()


def read(name: str, asks: bytes, reply: bytes, at_end: bytes) -> Cell:
    """Each set has another value: that of the acting main is in the reply."""
    return Cell(name, asks, reply, at_end, b"%(set)b", ANY, b"%(set)b", owed=False)


def write(name: str, asks: bytes, reply: bytes, value: bytes | None, **more) -> Cell:
    """All sets have the same `value` afterwards."""
    return Cell(name, asks, reply, ERROR, value, value, **more)


def refused(name: str, asks: bytes, reply: bytes, at_end: bytes = ERROR, before: bytes | None = BEFORE) -> Cell:
    """Nothing changes. On the other sets the key may be deleted: they need not have what the acting main has."""
    return Cell(name, asks, reply, at_end, before, (before, None), before, owed=ANY)


TABLE = {
    "get, mg without N, R, T, c": (
        read("get", b"get %(key)b\r\n", b"VALUE %(key)b 0 1\r\n%(set)b\r\nEND\r\n", MISS),
        read("get of two", b"get none-%(key)b %(key)b\r\n", b"VALUE %(key)b 0 1\r\n%(set)b\r\nEND\r\n", MISS),
        read("mg", b"mg %(key)b v s\r\n", b"VA 1 s1\r\n%(set)b\r\n", META_MISS),
        read("mg without v", b"mg %(key)b t\r\n", b"HD t-1\r\n", META_MISS),
    ),
    "gets, mg c": (
        read("gets", b"gets %(key)b\r\n", b"VALUE %(key)b 0 1 CAS\r\n%(set)b\r\nEND\r\n", MISS),
        read("mg c", b"mg %(key)b v c\r\n", b"VA 1 cCAS\r\n%(set)b\r\n", META_MISS),
    ),
    "set, ms, delete, md": (
        write("set", b"set %(key)b 0 0 1\r\n7\r\n", b"STORED\r\n", b"7"),
        write("set of an absent key", b"set %(key)b 0 0 1\r\n7\r\n", b"STORED\r\n", b"7", before=None),
        write("ms", b"ms %(key)b 1\r\n7\r\n", b"HD\r\n", b"7"),
        write("delete", b"delete %(key)b\r\n", b"DELETED\r\n", None),
        write("md", b"md %(key)b\r\n", b"HD\r\n", None),
        write("set that has expired", b"set %(key)b 0 -1 1\r\n7\r\n", b"STORED\r\n", None),
    ),
    "add, replace, cas, C, md/ma with C": (
        write("add", b"add %(key)b 0 0 1\r\n7\r\n", b"STORED\r\n", b"7", before=None),
        write("replace", b"replace %(key)b 0 0 1\r\n7\r\n", b"STORED\r\n", b"7"),
        write("cas", b"cas %(key)b 0 0 1 %(cas)b\r\n7\r\n", b"STORED\r\n", b"7"),
        write("ms C", b"ms %(key)b 1 C%(cas)b\r\n7\r\n", b"HD\r\n", b"7"),
        write("ms ME", b"ms %(key)b 1 ME\r\n7\r\n", b"HD\r\n", b"7", before=None),
        write("ms MR", b"ms %(key)b 1 MR\r\n7\r\n", b"HD\r\n", b"7"),
        write("md C", b"md %(key)b C%(cas)b\r\n", b"HD\r\n", None),
        Cell("ma C", b"ma %(key)b v C%(cas)b\r\n", b"VA 1\r\n6\r\n", ERROR, b"6", (b"6", None)),
        refused("add of a present key", b"add %(key)b 0 0 1\r\n7\r\n", b"NOT_STORED\r\n"),
        refused("replace of an absent key", b"replace %(key)b 0 0 1\r\n7\r\n", b"NOT_STORED\r\n", before=None),
        refused("cas with the number of another write", b"cas %(key)b 0 0 1 %(other)b\r\n7\r\n", b"EXISTS\r\n"),
        refused("cas with the number of another set", b"cas %(key)b 0 0 1 %(foreign)b\r\n7\r\n", b"EXISTS\r\n", b""),
        refused("ms with the number of another set", b"ms %(key)b 1 C%(foreign)b\r\n7\r\n", b"EX\r\n", b""),
        refused("md with the number of another set", b"md %(key)b C%(foreign)b\r\n", b"EX\r\n", b""),
    ),
    "append, prepend, incr, decr, ma, MA, MP": (
        write("append", b"append %(key)b 0 0 1\r\n7\r\n", b"STORED\r\n", b"57"),
        write("prepend", b"prepend %(key)b 0 0 1\r\n7\r\n", b"STORED\r\n", b"75"),
        write("incr", b"incr %(key)b 2\r\n", b"7\r\n", b"7"),
        write("decr", b"decr %(key)b 2\r\n", b"3\r\n", b"3"),
        write("ma", b"ma %(key)b v D2\r\n", b"VA 1\r\n7\r\n", b"7"),
        write("ma MD", b"ma %(key)b MD\r\n", b"HD\r\n", b"4"),
        write("ms MA", b"ms %(key)b 1 MA\r\n7\r\n", b"HD\r\n", b"57"),
        write("ms MP", b"ms %(key)b 1 MP\r\n7\r\n", b"HD\r\n", b"75"),
        refused("incr of an absent key", b"incr %(key)b 1\r\n", b"NOT_FOUND\r\n", before=None),
        refused("append to an absent key", b"append %(key)b 0 0 1\r\n7\r\n", b"NOT_STORED\r\n", before=None),
    ),
    "touch, gat, mg T": (
        write("touch", b"touch %%(key)b %d\r\n" % LIFE, b"TOUCHED\r\n", BEFORE, touched=True),
        Cell("gat", b"gat %d %%(key)b\r\n" % LIFE, b"VALUE %(key)b 0 1\r\n5\r\nEND\r\n", MISS, BEFORE, BEFORE, touched=True),
        Cell("gats", b"gats %d %%(key)b\r\n" % LIFE, b"VALUE %(key)b 0 1 CAS\r\n5\r\nEND\r\n", MISS, BEFORE, BEFORE, touched=True),
        Cell("mg T", b"mg %%(key)b v T%d\r\n" % LIFE, b"VA 1\r\n5\r\n", META_MISS, BEFORE, BEFORE, touched=True),
    ),
    "mg N, R; W, Z, X": (
        Cell("mg N", b"mg %(key)b v N30\r\n", b"VA 0 W\r\n\r\n", META_MISS, b"", None, None, owed=ANY),
        Cell("mg R", b"mg %(key)b v R30\r\n", b"VA 1 W\r\n5\r\n", META_MISS, BEFORE, BEFORE, life=SHORT_LIFE, owed=ANY),
    ),
    "ms I, md I": (
        Cell("md I", b"md %(key)b I T30\r\n", b"HD\r\n", ERROR, BEFORE, None),
        Cell("ms I", b"ms %(key)b 1 I C%(other)b\r\n7\r\n", b"HD\r\n", ERROR, b"7", None),
    ),
    "q, noreply": (
        write("set noreply", b"set %(key)b 0 0 1 noreply\r\n7\r\n", b"", b"7")._replace(at_end=b""),
        write("delete noreply", b"delete %(key)b noreply\r\n", b"", None)._replace(at_end=b""),
        write("incr noreply", b"incr %(key)b 2 noreply\r\n", b"", b"7")._replace(at_end=b""),
        write("ms q", b"ms %(key)b 1 q\r\n7\r\n", b"", b"7"),
        write("md q", b"md %(key)b q\r\n", b"", None),
        read("mg q", b"mg %(key)b v q\r\n", b"VA 1\r\n%(set)b\r\n", b""),
    ),
}
