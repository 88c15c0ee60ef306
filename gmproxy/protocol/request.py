"""A request, and the place for its reply: what travels between a client session and a backend link.

One object is both the question and its reply slot, so a link's queue of unanswered requests and a session's batch of
replies-to-come hold the same objects and nothing has to be looked up when an answer arrives.

Exactly once: code that has a reply, or a failure, for a request calls `complete`; code that catches an exception of our own on the way of a
request calls `abandon`. Whichever comes first is what the owner gets.
"""

from gmproxy import internal_errors

_STORED = frozenset((b"STORED\r\n", b"NOT_STORED\r\n", b"EXISTS\r\n", b"NOT_FOUND\r\n"))

#: By the name of a meta command, else by the kind of the verb.
_ANSWERS = {
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


#: Name of a command -> its number, given in the order in which they appear.
_NUMBERS = {}


class Command:
    """What the proxy has to know of one command.

    name         as it stands on the wire
    prefix       the same and a blank
    number       its place in what is counted by command, see COMMANDS
    kind         how its words are read: the name of a method of the parser
    min_args     number of words that memcached wants, the command itself included; what it does not know at the end, it ignores
    has_data_block  True for set, add, replace, append and prepend: key, flags, exptime, length, and a data block
    returns_values  True: the answer is VALUE blocks and END
    is_meta      True: the answer is that of a meta command; neither: one line
    is_read      True: it asks for the item, so its answer is a hit or a miss, and another server may be asked instead
    is_write     True: it changes the item, so the backup hears of it too
    reads_old_value  True: what it does depends on what the server has
    overwrites   True: it changes the item, whatever the server has
    conditional  True: the backup hears of it once it is known what came of it, since it could come to another result
    idempotent   True: asking the same server twice does no harm, the answer included
    valid_replies  the lines it may be answered with, besides error lines and, for incr and decr, a number; for a meta command the
                 words with which its answer may begin
    success_prefixes  how the answer begins if a change by outcome was made (a tuple)
    miss_reply   what says "not found" where that is an honest answer to a read that failed; else None
    """

    __slots__ = ("name", "prefix", "number", "kind", "min_args", "has_data_block", "returns_values", "is_meta", "is_read", "is_write", "reads_old_value", "overwrites", "conditional",
                 "idempotent", "valid_replies", "success_prefixes", "miss_reply")

    def __init__(self, name, kind, min_args, returns_values=False, is_read=False, is_write=False, reads_old_value=False, conditional=False,
                 idempotent=False):
        self.name = name
        self.prefix = name + b" "
        self.number = _NUMBERS.setdefault(name, len(_NUMBERS))
        self.kind = kind
        self.min_args = min_args
        self.has_data_block = kind == "store" and name != b"cas"
        self.returns_values = returns_values
        self.is_meta = kind.startswith("meta")
        self.is_read = is_read or returns_values
        self.is_write = is_write
        self.reads_old_value = reads_old_value or conditional
        self.overwrites = is_write and not self.is_read and not self.reads_old_value
        self.conditional = conditional
        self.idempotent = idempotent
        self.valid_replies = _ANSWERS.get(name if self.is_meta else kind, frozenset())
        self.success_prefixes = (b"HD", b"VA") if self.is_meta else (b"STORED",)
        self.miss_reply = b"END\r\n" if returns_values else b"EN\r\n" if b"EN" in self.valid_replies else None

    def request(self, key, line):
        """A new Request. In the compiled build, unlike a call of the class, this is a step in C."""
        request = Request.__new__(Request)
        request.begin(self, key, line)
        return request

    def __repr__(self):
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

#: What a meta command becomes by its flags. A look that may win the right to recache is not to be repeated: the second time,
#: the answer is that somebody else has won.
META_TOUCH = Command(b"mg", "meta", 2, is_read=True, is_write=True, idempotent=True)
META_WIN = Command(b"mg", "meta", 2, is_read=True)
META_WIN_AND_TOUCH = Command(b"mg", "meta", 2, is_read=True, is_write=True)
META_EXTEND = Command(b"ms", "meta_set", 2, is_write=True, reads_old_value=True)
META_SET_IF = Command(b"ms", "meta_set", 2, is_write=True, conditional=True)
META_DELETE_IF = Command(b"md", "meta", 2, is_write=True, conditional=True)
META_COUNT_IF = Command(b"ma", "meta", 2, is_write=True, conditional=True)

#: A login with a wrong password. The `line` of its Request is the refusal, which the client gets after a delay (service.py).
WRONG_PASSWORD = Command(b"set", "wrong_password", 0, 0)

#: The name of each command, by its number.
COMMAND_NAMES = tuple([name.decode() for name in _NUMBERS])

#: The answer to a request that gmproxy itself failed to answer (gmproxy.internal_errors).
INTERNAL_ERROR = b"SERVER_ERROR internal error\r\n"

#: Where a request stands. PRIMARY and BACKUP name the server that is being asked, COPY is what the backup gets of a
#: change that the primary also gets. UNREADY waits for its key to be refilled before the primary is asked.
PRIMARY, BACKUP, COPY, UNREADY = range(4)
ROLES = ("primary", "backup", "copy", "unready")


class ReplySink:
    """Whoever asks, and is told of the answer. What a class derives from this in the compiled build stands in its .pxd."""

    __slots__ = ()

    def on_reply(self, request):
        """`request.reply` is there. Returns the client session that waits for no more replies by this, or None. Called by
        Request.complete alone, once for each request."""
        raise NotImplementedError

    def on_internal_error(self, request):
        """Instead of `on_reply`: gmproxy itself failed on `request`, and there will be no reply. Answers INTERNAL_ERROR to whatever this
        object asked `request` for. Returns the same as `on_reply`. It must not raise."""
        raise NotImplementedError

    def resume(self):
        """What a client session does that was returned so. Called from the loop's callbacks only."""
        raise NotImplementedError


class ReplyRenderer:
    """How the client that asked hears of an answer, where that is not the line the server gave. For the compiled build as above."""

    __slots__ = ()

    def render(self, request):
        """The bytes that the client gets for the answered `request`; b"" if it is not to hear of it."""
        raise NotImplementedError


class RequestParser:
    """The requests of one client, in whatever dialect. For the compiled build as above.

    `stream.feed(chunk)` takes what arrived; `next_request()` gives the next whole request, or None while more bytes are needed.
    Raises ClientProtocolError when the client cannot be understood any more.

    max_item_size   longest value that is taken
    users           gmproxy.config.credentials.Users, if the client must be one of them before it may ask anything; else None
    """

    __slots__ = ()

    def next_request(self):
        raise NotImplementedError

    def is_known(self):
        """True if the client need not say any more who it is."""
        raise NotImplementedError

    def is_at_border(self):
        """True if all that the client has begun to say is understood: what is left of it is `is_known` alone."""
        raise NotImplementedError


class ReplyParser:
    """The replies on one link, in order, in whatever protocol. For the compiled build as above.

    `stream.feed(chunk)` takes what arrived; `read(request)`, for the oldest request that has no reply, gives the complete reply, or None
    while some of it has not arrived. Raises BackendError when the server cannot be understood any more.

    found         values in the reply just read
    out_of_step   set by an answer after which the server takes a data block for commands, so that nothing more can be trusted
    """

    __slots__ = ()

    def is_at_border(self):
        """True if not a byte has arrived after the last complete reply."""
        raise NotImplementedError

    def read(self, request):
        raise NotImplementedError


class ClientProtocolError(Exception):
    """Nothing that the client says from here on can be understood. It gets the `reply`, and the connection is closed."""

    reply = b""


class Request:
    """One question and, later, its answer.

    verb      what is asked (a Command); None for a request that is answered without asking anybody
    key       the key, or the first of several that the client named; b"" if the command has none
    keys      all keys of a retrieval of more than one key, in the client's order, or those of them that one server is asked for; else None
    line      what the server gets: the command line, without noreply, and the data block if there is one, each with CRLF
    quiet     True: the client said noreply
    edge      an ReplyRenderer if the client gets the reply in another form; None: as it is
    reply     the complete answer of the server, or None while there is none
    mapped    for several keys: True if `reply` is as the server gave it, and `keys` know where in it their values are; False if it
              is an error, or was pieced together
    owner     who asked (an ReplySink); None if nobody waits for the answer, or has it already
    lane      which of a backend's links carries it (the same for all requests of one client, for their order)
    stage     PRIMARY, BACKUP, COPY or UNREADY
    retried   True once it was sent a second time
    twin      for a change that also goes to a backup: that request, and for that one the change itself (copies.py)
    failure   the reason word, once a server failed on it
    """

    __slots__ = ("command", "key", "keys", "line", "quiet", "renderer", "reply", "has_value_offsets", "sink", "connection_index", "role", "retried", "mirror",
                 "error", "sent_at_byte")

    def __init__(self, command, key, line):
        self.begin(command, key, line)

    def begin(self, command, key, line):
        self.command = command
        self.key = key
        self.keys = None
        self.line = line
        self.quiet = False
        self.renderer = None
        self.reply = None
        self.has_value_offsets = False
        self.sink = None
        self.connection_index = 0
        self.role = PRIMARY
        self.retried = False
        self.mirror = None
        self.error = None
        self.sent_at_byte = 0

    def complete(self):
        """`reply` is there: give it to the owner. Returns the client session that waits for no more replies by this, or None.

        The owner gets it once, however often this is called. If the owner fails, what it stands for is answered INTERNAL_ERROR. May be
        called from a callback of the loop; never waits.
        """
        owner = self.sink
        if owner is None:
            return None
        self.sink = None
        try:
            return owner.on_reply(self)
        except Exception:
            internal_errors.record("request.complete")
            return owner.on_internal_error(self)

    def abandon(self):
        """gmproxy itself failed on this request: the owner gets INTERNAL_ERROR for it, unless it has a reply already. Returns the same as
        `complete`; may be called from where that may."""
        owner = self.sink
        if owner is None:
            return None
        self.sink = None
        self.reply = INTERNAL_ERROR
        self.has_value_offsets = False
        return owner.on_internal_error(self)

    def __repr__(self):
        name = self.command.name.decode() if self.command else "-"
        return f"<Request {name} {self.key!r} stage={self.role} reply={self.reply!r:.40}>"


class RequestQueue:
    """Requests in the order they came, as a collections.deque; a ring whose steps are C in the compiled build.

    count   how many there are
    """

    __slots__ = ("count", "_ring", "_mask", "_at")

    def __init__(self):
        self.count = 0
        self._ring = [None] * 16  # as long as a power of 2
        self._mask = len(self._ring) - 1
        self._at = 0              # the place of the oldest

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        """The oldest is 0."""
        if not 0 <= index < self.count:
            raise IndexError("not so many requests")
        return self._ring[(self._at + index) & self._mask]

    def first(self):
        """The oldest, or None."""
        return self._ring[self._at]

    def append(self, request):
        if self.count > self._mask:
            self._grow()
        self._ring[(self._at + self.count) & self._mask] = request
        self.count += 1

    def popleft(self):
        request = self._ring[self._at]
        if request is None:
            raise IndexError("no request")
        self._ring[self._at] = None
        self._at = (self._at + 1) & self._mask
        self.count -= 1
        return request

    def _grow(self):
        self._ring = self._ring[self._at:] + self._ring[:self._at] + [None] * self.count
        self._mask = len(self._ring) - 1
        self._at = 0


def local_reply(reply):
    """A request that needs no server: it is already answered with the bytes `reply`."""
    request = Request(None, b"", b"")
    request.reply = reply
    return request
