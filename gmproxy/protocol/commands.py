"""The commands of the memcached protocol, with what parsers and routes need to know of each: whether it is a read or a write, whether it may be
repeated, and which replies it has."""

_STORED = frozenset((b"STORED\r\n", b"NOT_STORED\r\n", b"EXISTS\r\n", b"NOT_FOUND\r\n"))

#: Name of a meta command, or kind of any other command -> `valid_replies`.
_VALID_REPLIES = {
    b"mg": frozenset((b"HD", b"VA", b"EN")),
    b"ms": frozenset((b"HD", b"NS", b"EX", b"NF")),
    b"md": frozenset((b"HD", b"EX", b"NF")),
    b"ma": frozenset((b"HD", b"VA", b"NS", b"EX", b"NF")),
    b"me": frozenset((b"ME", b"EN")),
    "store": _STORED,
    "count": frozenset((b"NOT_FOUND\r\n",)),
    "delete": frozenset((b"DELETED\r\n", b"NOT_FOUND\r\n")),
    "touch": frozenset((b"TOUCHED\r\n", b"NOT_FOUND\r\n")),
    "flush": frozenset((b"OK\r\n",)),
}


#: Name of a command -> its number, in the order of the constructor calls below.
_NUMBERS: dict[bytes, int] = {}


class Command:
    """A command of the text protocol. gat, and mg with a T, are both reads and writes.

    name         as in a command line
    prefix       the name and a blank
    number       index of the command in COMMAND_NAMES, and in the counters by command
    kind         how its words are parsed: the parser has a method of this name, with an underscore before it, unless it is parsed elsewhere
    min_args     minimum number of words in the line, including the name; like memcached, parsers ignore superfluous ones
    ends_with_length  True for set, add, replace, append and prepend: the last word of the line is the length of the data block (in cas another
                 word follows)
    returns_values  True: the reply is VALUE blocks and END
    is_meta      True: a meta command; the reply of a command that is neither is one line
    is_read      True: the reply is a hit or a miss, and if the server fails, another server may reply
    is_write     True: the backup must receive it, too
    reads_old_value  True: what it does depends on the item that the server has
    overwrites   True: a write, but not a read, that does the same whatever item the server has
    only_touches  True: a write that changes the life of an item, and its value only if that life has passed: touch, gat, mg with T
    conditional  True: a write that the primary may refuse, so the backup receives its result instead of a copy of it
    idempotent   True: it may be sent to the same server again, since neither the item nor the reply would differ
    valid_replies  the reply lines of its protocol, CRLF included, other than error lines and the number in the reply to incr and decr; for a meta
                 command the codes of two letters with which a reply begins
    success_prefixes  how the reply to a conditional write that was done begins (a tuple, for bytes.startswith)
    miss_reply   the reply for a miss, where a read that failed may be replied to as a miss (the setting on_get_error); else None
    """

    __slots__ = ("name", "prefix", "number", "kind", "min_args", "ends_with_length", "returns_values", "is_meta", "is_read", "is_write",
                 "reads_old_value", "overwrites", "only_touches", "conditional", "idempotent", "valid_replies",
                 "success_prefixes", "miss_reply")  # fmt: skip

    def __init__(
        self,
        name: bytes,
        kind: str,
        min_args: int,
        returns_values: bool = False,
        is_read: bool = False,
        is_write: bool = False,
        reads_old_value: bool = False,
        conditional: bool = False,
        idempotent: bool = False,
    ) -> None:
        self.name = name
        self.prefix = name + b" "
        self.number = _NUMBERS.setdefault(name, len(_NUMBERS))
        self.kind = kind
        self.min_args = min_args
        self.ends_with_length = kind == "store" and name != b"cas"
        self.returns_values = returns_values
        self.is_meta = kind.startswith("meta")
        self.is_read = is_read or returns_values
        self.is_write = is_write
        self.reads_old_value = reads_old_value or conditional
        self.overwrites = is_write and not self.is_read and not self.reads_old_value
        self.only_touches = is_write and (self.is_read or kind == "touch")
        self.conditional = conditional
        self.idempotent = idempotent
        self.valid_replies = _VALID_REPLIES.get(name if self.is_meta else kind, frozenset())
        self.success_prefixes = (b"HD", b"VA") if self.is_meta else (b"STORED",)
        self.miss_reply = b"END\r\n" if returns_values else b"EN\r\n" if b"EN" in self.valid_replies else None

    def __repr__(self) -> str:
        return f"<Command {self.name.decode()}>"


COMMANDS = {
    command.name: command
    for command in (
        Command(b"get", "retrieve", 2, returns_values=True, idempotent=True),
        Command(b"gets", "retrieve", 2, returns_values=True, idempotent=True),
        Command(b"gat", "retrieve_and_touch", 3, returns_values=True, is_write=True, idempotent=True),
        Command(b"gats", "retrieve_and_touch", 3, returns_values=True, is_write=True, idempotent=True),
        Command(b"set", "store", 5, is_write=True),
        Command(b"add", "store", 5, is_write=True, conditional=True),
        Command(b"replace", "store", 5, is_write=True, conditional=True),
        Command(b"append", "store", 5, is_write=True, reads_old_value=True),
        Command(b"prepend", "store", 5, is_write=True, reads_old_value=True),
        Command(b"cas", "store", 5, is_write=True, conditional=True),
        Command(b"incr", "count", 3, is_write=True, reads_old_value=True),
        Command(b"decr", "count", 3, is_write=True, reads_old_value=True),
        Command(b"delete", "delete", 2, is_write=True),
        Command(b"touch", "touch", 3, is_write=True, reads_old_value=True, idempotent=True),
        Command(b"flush_all", "flush", 1),
        Command(b"version", "admin", 1),
        Command(b"stats", "admin", 1),
        Command(b"lru_crawler", "lru_crawler", 1),
        Command(b"verbosity", "verbosity", 2),
        Command(b"quit", "admin", 1),
        Command(b"mg", "meta", 2, is_read=True, idempotent=True),
        Command(b"ms", "meta_set", 2, is_write=True),
        Command(b"md", "meta", 2, is_write=True),
        Command(b"ma", "meta", 2, is_write=True, reads_old_value=True),
        Command(b"me", "meta_debug", 1, idempotent=True),
        Command(b"mn", "meta_noop", 1),
    )
}

META_GET = COMMANDS[b"mg"]
META_SET = COMMANDS[b"ms"]
META_DELETE = COMMANDS[b"md"]
META_COUNT = COMMANDS[b"ma"]

#: Meta commands with flags that change what they are. An mg that may win the right to recache is not idempotent: the reply to the second
#: would be that another client has won.
META_TOUCH = Command(b"mg", "meta", 2, is_read=True, is_write=True, idempotent=True)
META_WIN = Command(b"mg", "meta", 2, is_read=True)
META_WIN_AND_TOUCH = Command(b"mg", "meta", 2, is_read=True, is_write=True)
META_EXTEND = Command(b"ms", "meta_set", 2, is_write=True, reads_old_value=True)
META_SET_IF = Command(b"ms", "meta_set", 2, is_write=True, conditional=True)
META_DELETE_IF = Command(b"md", "meta", 2, is_write=True, conditional=True)
META_COUNT_IF = Command(b"ma", "meta", 2, is_write=True, conditional=True)

#: A login with a wrong password. The `line` of its Request is the reply, which the client receives after a delay (client/context.py).
WRONG_PASSWORD = Command(b"set", "wrong_password", 0)

#: A login with the correct password. The `line` of its Request is the reply.
LOGIN = Command(b"set", "login", 0)

#: The name of each command, by its number.
COMMAND_NAMES = tuple([name.decode() for name in _NUMBERS])
