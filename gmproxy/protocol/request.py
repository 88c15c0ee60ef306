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


class Verb:
    """What the proxy has to know of one command.

    name         as it stands on the wire
    prefix       the same and a blank
    number       its place in what is counted by command, see COMMANDS
    kind         how its words are read: the name of a method of the parser
    least        number of words that memcached wants, the command itself included; what it does not know at the end, it ignores
    stores       True for set, add, replace, append and prepend: key, flags, exptime, length, and a data block
    values       True: the answer is VALUE blocks and END
    meta         True: the answer is that of a meta command; neither: one line
    reads        True: it asks for the item, so its answer is a hit or a miss, and another server may be asked instead
    changes      True: it changes the item, so the backup hears of it too
    depends      True: what it does depends on what the server has
    blind        True: it changes the item, whatever the server has
    by_outcome   True: the backup hears of it once it is known what came of it, since it could come to another result
    repeatable   True: asking the same server twice does no harm, the answer included
    answers      the lines it may be answered with, besides error lines and, for incr and decr, a number; for a meta command the
                 words with which its answer may begin
    done         how the answer begins if a change by outcome was made (a tuple)
    miss         what says "not found" where that is an honest answer to a read that failed; else None
    """

    __slots__ = ("name", "prefix", "number", "kind", "least", "stores", "values", "meta", "reads", "changes", "depends", "blind", "by_outcome",
                 "repeatable", "answers", "done", "miss")

    def __init__(self, name, kind, least, values=False, reads=False, changes=False, depends=False, by_outcome=False,
                 repeatable=False):
        self.name = name
        self.prefix = name + b" "
        self.number = _NUMBERS.setdefault(name, len(_NUMBERS))
        self.kind = kind
        self.least = least
        self.stores = kind == "store" and name != b"cas"
        self.values = values
        self.meta = kind.startswith("meta")
        self.reads = reads or values
        self.changes = changes
        self.depends = depends or by_outcome
        self.blind = changes and not self.reads and not self.depends
        self.by_outcome = by_outcome
        self.repeatable = repeatable
        self.answers = _ANSWERS.get(name if self.meta else kind, frozenset())
        self.done = (b"HD", b"VA") if self.meta else (b"STORED",)
        self.miss = b"END\r\n" if values else b"EN\r\n" if b"EN" in self.answers else None

    def request(self, key, line):
        """A new Request. In the compiled build, unlike a call of the class, this is a step in C."""
        request = Request.__new__(Request)
        request.begin(self, key, line)
        return request

    def __repr__(self):
        return f"<Verb {self.name.decode()}>"


VERBS = {
    verb.name: verb
    for verb in (
        Verb(b"get", "retrieve", 2, values=True, repeatable=True),
        Verb(b"gets", "retrieve", 2, values=True, repeatable=True),
        Verb(b"gat", "retrieve_and_touch", 3, values=True, changes=True, repeatable=True),
        Verb(b"gats", "retrieve_and_touch", 3, values=True, changes=True, repeatable=True),
        Verb(b"set", "store", 5, changes=True),
        Verb(b"add", "store", 5, changes=True, by_outcome=True),
        Verb(b"replace", "store", 5, changes=True, by_outcome=True),
        Verb(b"append", "store", 5, changes=True, depends=True),
        Verb(b"prepend", "store", 5, changes=True, depends=True),
        Verb(b"cas", "store", 5, changes=True, by_outcome=True),
        Verb(b"incr", "count", 3, changes=True, depends=True),
        Verb(b"decr", "count", 3, changes=True, depends=True),
        Verb(b"delete", "delete", 2, changes=True),
        Verb(b"touch", "touch", 3, changes=True, depends=True, repeatable=True),
        Verb(b"flush_all", "flush", 1),
        Verb(b"version", "admin", 1),
        Verb(b"stats", "admin", 1),
        Verb(b"verbosity", "verbosity", 2),
        Verb(b"quit", "admin", 1),
        Verb(b"mg", "meta", 2, reads=True, repeatable=True),
        Verb(b"ms", "meta_set", 2, changes=True),
        Verb(b"md", "meta", 2, changes=True),
        Verb(b"ma", "meta", 2, changes=True, depends=True),
        Verb(b"me", "meta_debug", 1, repeatable=True),
        Verb(b"mn", "meta_noop", 1),
    )
}

META_GET = VERBS[b"mg"]
META_SET = VERBS[b"ms"]
META_DELETE = VERBS[b"md"]
META_COUNT = VERBS[b"ma"]

#: What a meta command becomes by its flags. A look that may win the right to recache is not to be repeated: the second time,
#: the answer is that somebody else has won.
META_TOUCH = Verb(b"mg", "meta", 2, reads=True, changes=True, repeatable=True)
META_WIN = Verb(b"mg", "meta", 2, reads=True)
META_WIN_AND_TOUCH = Verb(b"mg", "meta", 2, reads=True, changes=True)
META_EXTEND = Verb(b"ms", "meta_set", 2, changes=True, depends=True)
META_SET_IF = Verb(b"ms", "meta_set", 2, changes=True, by_outcome=True)
META_DELETE_IF = Verb(b"md", "meta", 2, changes=True, by_outcome=True)
META_COUNT_IF = Verb(b"ma", "meta", 2, changes=True, by_outcome=True)

#: A login with a wrong password. The `line` of its Request is the refusal, which the client gets after a delay (service.py).
WRONG_PASSWORD = Verb(b"set", "wrong_password", 0, 0)

#: The name of each command, by its number.
COMMANDS = tuple([name.decode() for name in _NUMBERS])

#: The answer to a request that gmproxy itself failed to answer (gmproxy.internal_errors).
INTERNAL_ERROR = b"SERVER_ERROR internal error\r\n"

#: Where a request stands. PRIMARY and BACKUP name the server that is being asked, COPY is what the backup gets of a
#: change that the primary also gets. UNREADY waits for its key to be refilled before the primary is asked.
PRIMARY, BACKUP, COPY, UNREADY = range(4)
STAGES = ("primary", "backup", "copy", "unready")


class Asker:
    """Whoever asks, and is told of the answer. What a class derives from this in the compiled build stands in its .pxd."""

    __slots__ = ()

    def answered(self, request):
        """`request.reply` is there. Returns the client session that waits for no more replies by this, or None. Called by
        Request.complete alone, once for each request."""
        raise NotImplementedError

    def abandoned(self, request):
        """Instead of `answered`: gmproxy itself failed on `request`, and there will be no reply. Answers INTERNAL_ERROR to whatever this
        object asked `request` for. Returns the same as `answered`. It must not raise."""
        raise NotImplementedError

    def resume(self):
        """What a client session does that was returned so. Called from the loop's callbacks only."""
        raise NotImplementedError


class Edge:
    """How the client that asked hears of an answer, where that is not the line the server gave. For the compiled build as above."""

    __slots__ = ()

    def render(self, request):
        """The bytes that the client gets for the answered `request`; b"" if it is not to hear of it."""
        raise NotImplementedError


class Parser:
    """The requests of one client, in whatever dialect. For the compiled build as above.

    `stream.feed(chunk)` takes what arrived; `next_request()` gives the next whole request, or None while more bytes are needed.
    Raises EndOfTalk when the client cannot be understood any more.

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


class Reader:
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


class EndOfTalk(Exception):
    """Nothing that the client says from here on can be understood. It gets the `last_words`, and the connection is closed."""

    last_words = b""


class Request:
    """One question and, later, its answer.

    verb      what is asked (a Verb); None for a request that is answered without asking anybody
    key       the key, or the first of several that the client named; b"" if the command has none
    keys      all keys of a retrieval of more than one key, in the client's order, or those of them that one server is asked for; else None
    line      what the server gets: the command line, without noreply, and the data block if there is one, each with CRLF
    quiet     True: the client said noreply
    edge      an Edge if the client gets the reply in another form; None: as it is
    reply     the complete answer of the server, or None while there is none
    mapped    for several keys: True if `reply` is as the server gave it, and `keys` know where in it their values are; False if it
              is an error, or was pieced together
    owner     who asked (an Asker); None if nobody waits for the answer, or has it already
    lane      which of a backend's links carries it (the same for all requests of one client, for their order)
    stage     PRIMARY, BACKUP, COPY or UNREADY
    retried   True once it was sent a second time
    twin      for a change that also goes to a backup: that request, and for that one the change itself (copies.py)
    failure   the reason word, once a server failed on it
    """

    __slots__ = ("verb", "key", "keys", "line", "quiet", "edge", "reply", "mapped", "owner", "lane", "stage", "retried", "twin",
                 "failure", "start_mark")

    def __init__(self, verb, key, line):
        self.begin(verb, key, line)

    def begin(self, verb, key, line):
        self.verb = verb
        self.key = key
        self.keys = None
        self.line = line
        self.quiet = False
        self.edge = None
        self.reply = None
        self.mapped = False
        self.owner = None
        self.lane = 0
        self.stage = PRIMARY
        self.retried = False
        self.twin = None
        self.failure = None
        self.start_mark = 0

    def complete(self):
        """`reply` is there: give it to the owner. Returns the client session that waits for no more replies by this, or None.

        The owner gets it once, however often this is called. If the owner fails, what it stands for is answered INTERNAL_ERROR. May be
        called from a callback of the loop; never waits.
        """
        owner = self.owner
        if owner is None:
            return None
        self.owner = None
        try:
            return owner.answered(self)
        except Exception:
            internal_errors.record("request.complete")
            return owner.abandoned(self)

    def abandon(self):
        """gmproxy itself failed on this request: the owner gets INTERNAL_ERROR for it, unless it has a reply already. Returns the same as
        `complete`; may be called from where that may."""
        owner = self.owner
        if owner is None:
            return None
        self.owner = None
        self.reply = INTERNAL_ERROR
        self.mapped = False
        return owner.abandoned(self)

    def __repr__(self):
        name = self.verb.name.decode() if self.verb else "-"
        return f"<Request {name} {self.key!r} stage={self.stage} reply={self.reply!r:.40}>"


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
