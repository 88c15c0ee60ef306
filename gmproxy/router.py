"""From a request to the servers it concerns, and from their answers to one answer.

    get, set, ...       the primary of the key
    several keys        one grouped request for each server, asked at the same time, joined to one answer
    any change          also goes to the key's backup; its answer is not awaited
    primary failed      the backup answers: a read is asked again there, a change was already copied to it
    primary's miss      while its memory may be empty: the backup answers and the primary is refilled (refill.py)
    flush_all           every server

A request that no server could answer is a miss if it only reads, else SERVER_ERROR <reason> <server>.
"""

from gmproxy.accel import pick
from gmproxy.protocol.values import END, blocks_by_key, in_order

_message = pick("message")
new_request = _message.Request
new_refill = pick("refill").Refill
VERBS = _message.VERBS
PRIMARY, BACKUP, COPY = _message.PRIMARY, _message.BACKUP, _message.COPY

SET = VERBS[b"set"]
TOUCH = VERBS[b"touch"]
STORED = b"STORED\r\n"

#: A gat is sent in lines of at most so many bytes of keys.
LONGEST_GAT = 1900


class Router:
    """
    backends, backups        lists of Backend
    locator, backup_locator  gmproxy.ring.Locator: key -> index into them
    """

    __slots__ = ("backends", "backups", "locator", "backup_locator", "_copyists", "_place", "options", "misses_for_errors", "copies_lost")

    def __init__(self, options):
        self.options = options
        self.backends = []
        self.backups = []
        self._copyists = []  # backups that `backup_locator` is about
        self._place = None
        self.locator = None
        self.backup_locator = None
        self.misses_for_errors = 0
        self.copies_lost = 0

    def serve(self, backends, place, backups, backup_locator):
        """Route to these servers from now on. `place(live=indexes or None)` is the Placement of keys on those that live.

        May be called again: requests in flight end where they are, and ask the last backups if there are none any more.
        """
        self.backends = backends
        self.backups = backups
        if backups:
            self._copyists = backups
            self.backup_locator = backup_locator
        self._place = place
        self.locator = place().locator
        if any(backend.health.ejected for backend in backends):
            self.health_changed()

    def health_changed(self):
        """A primary was ejected or restored. With auto_eject_hosts the others share its keys meanwhile."""
        if not self.options.auto_eject_hosts:
            return
        live = {index for index, backend in enumerate(self.backends) if not backend.health.ejected}
        if live:  # else, as twemproxy, go on with the last ring
            self.locator = self._place(live=live).locator

    # -- requests

    def route(self, request):
        """Send `request` on its way. Its owner hears when the answer is there, perhaps before this returns."""
        if request.keys is not None:
            self._split(request, self.backends, self.locator, PRIMARY)
            if self.backups and request.verb.changes:
                for key in request.keys:
                    self._copy_touch(request, key)
            return
        backend = self.backends[self.locator.locate(request.key)]
        if self.backups and request.verb.changes:
            self._copy(request)
        backend.submit(request)

    def flush_all(self, request):
        """Ask every server and every backup."""
        servers = self.backends + self.backups
        fan_out = FanOut(request, len(servers))
        for backend in servers:
            part = new_request(request.verb, b"", request.line)
            part.owner = fan_out
            part.lane = request.lane
            part.stage = BACKUP  # there is nobody else to ask
            backend.submit(part)

    def _split(self, request, servers, locator, stage):
        """Ask each of `servers` for its keys of `request`. Returns the session that is ready by this, if any."""
        current = [-1] * len(servers)  # server -> the group that its next key joins
        groups = []
        owners = []                    # group -> server
        order = []                     # key -> group
        room = 0
        for key in request.keys:
            index = locator.locate(key)
            number = current[index]
            if request.verb.changes:  # gat: memcached gives up a long line that is no get
                room += len(key) + 1
                if room > LONGEST_GAT:
                    number = -1
                    room = len(key) + 1
                    current = [-1] * len(servers)
            if number < 0:
                number = current[index] = len(groups)
                groups.append([])
                owners.append(index)
            groups[number].append(key)
            order.append(number)
        gather = Gather(request, order, len(groups))
        for group in groups:
            part = new_request(request.verb, group[0], b"%b%b\r\n" % (request.line, b" ".join(group)))
            part.keys = group
            part.owner = gather
            part.lane = request.lane
            part.stage = stage
            gather.parts.append(part)
        session = None
        for index, part in zip(owners, list(gather.parts)):
            session = servers[index].submit(part) or session
        return session

    # -- backups

    def _backup_of(self, key):
        return self._copyists[self.backup_locator.locate(key)]

    def _copy(self, request):
        """Let the backup make the same change."""
        if request.verb.conditional:
            request.owner = CopyIfStored(request.owner, self)
            return
        if request.verb.values:
            self._copy_touch(request, request.key)
            return
        copy = new_request(request.verb, request.key, request.line)
        copy.lane = request.lane
        copy.stage = COPY
        request.copy = copy
        self._backup_of(request.key).submit(copy)

    def copy_value(self, request):
        """Let the backup have the value that the primary stored for a conditional `request`."""
        command, _, block = request.line.partition(b"\r\n")
        words = command.split(b" ")
        copy = new_request(SET, request.key, b"set %b\r\n%b" % (b" ".join(words[1:5]), block))
        copy.lane = request.lane
        copy.stage = COPY
        self._backup_of(request.key).submit(copy)

    def _copy_touch(self, request, key):
        """What a gat changes is the life of the item: the backup need not send the value for that."""
        exptime = request.line.split(b" ", 2)[1]
        copy = new_request(TOUCH, key, b"touch %b %b\r\n" % (key, exptime))
        copy.lane = request.lane
        copy.stage = COPY
        self._backup_of(key).submit(copy)

    def missed(self, request, backend):
        """The primary has no value for a key of `request`, but its memory may be empty: ask the backup."""
        if request.stage != PRIMARY:
            return request.owner.answered(request)
        return new_refill(request, backend, self._backup_of).ask()

    # -- failures

    def failed(self, request, backend, reason):
        """`backend` could not answer. Returns the session that waits for no more replies by this, if any."""
        request.failure = reason
        if request.stage == COPY:
            self.copies_lost += 1
            if request.owner is None:
                return None
        elif request.stage == PRIMARY and self.backups:
            if request.copy is not None:
                return self._answer_of_copy(request, backend)
            if request.verb.values or request.verb.conditional:
                return self._ask_backup(request)
        return self._give_up(request, backend, reason)

    def _answer_of_copy(self, request, backend):
        """The change did not reach the primary, or nobody knows: what the backup says of its copy is the answer."""
        copy = request.copy
        if copy.failure is not None:
            return self._give_up(request, backend, request.failure)
        if copy.reply is None:
            copy.owner = Heir(request)
            return None
        request.reply = copy.reply
        return request.owner.answered(request)

    def _ask_backup(self, request):
        if request.keys is not None:
            question = new_request(request.verb, request.key, request.owner.request.line)
            question.keys = request.keys
            question.owner = Heir(request)
            question.lane = request.lane
            return self._split(question, self.backups, self.backup_locator, BACKUP)
        request.stage = BACKUP
        request.retried = False
        return self._backup_of(request.key).submit(request)

    def _give_up(self, request, backend, reason):
        if request.verb.miss is not None and self.options.on_get_error == "miss":
            self.misses_for_errors += 1
            request.reply = request.verb.miss
            request.places = request.ends = None
        else:
            request.reply = b"SERVER_ERROR %b %b\r\n" % (reason.encode(), backend.label.encode())
        return request.owner.answered(request) if request.owner is not None else None


class Gather:
    """Joins the answers to the parts of a retrieval: all their values, in the order asked, with one END.

    memcached answers in that order, and there are clients (Cache::Memcached::Fast) that lose what comes in another.
    """

    __slots__ = ("request", "order", "left", "parts")

    def __init__(self, request, order, left):
        self.request = request
        self.order = order  # for each key of the request: in which part it is
        self.left = left
        self.parts = []

    def answered(self, part):
        self.left -= 1
        if self.left:
            return None
        request = self.request
        request.reply = self._join()
        self.parts.clear()  # they refer to this object: let go, or only the garbage collector could
        return request.owner.answered(request)

    def _join(self):
        parts = self.parts
        if len(parts) == 1:
            self.request.places = parts[0].places
            self.request.ends = parts[0].ends
            return parts[0].reply
        merged = True
        for part in parts:
            if not part.reply.endswith(END) and part.failure is not None:
                return part.reply  # on_get_error = error: the client wants to know
            if part.ends is None or not part.reply.endswith(END):
                merged = False
        return self._merge() if merged else self._piece_together()

    def _merge(self):
        """By the offsets in the parts' answers; what stands together in one part is taken in one piece."""
        parts = self.parts
        asked = [0] * len(parts)  # part -> how many of its keys have been passed
        taken = [0] * len(parts)  # part -> how many of its values have been taken
        pieces = []
        last = -1                 # the part that the piece being gathered is of,
        start = end = 0           # and where in its reply the piece is
        for number in self.order:
            part = parts[number]
            place = asked[number]
            asked[number] = place + 1
            value = taken[number]
            if value < len(part.places) and part.places[value] == place:
                taken[number] = value + 1
                if number != last:
                    if last >= 0:
                        pieces.append(parts[last].reply[start:end])
                    last = number
                    start = part.ends[value - 1] if value else 0
                end = part.ends[value]
        if last >= 0:
            pieces.append(parts[last].reply[start:end])
        pieces.append(END)
        return b"".join(pieces)

    def _piece_together(self):
        """Block by block: some of the answers are not as a server gave them."""
        found = {}
        for part in self.parts:
            for key, blocks in blocks_by_key(part.reply).items():
                found.setdefault(key, []).extend(blocks)
        return in_order(self.request.keys, found)


class CopyIfStored:
    """Stands between a conditional change and whoever asked for it: what the primary stored goes to the backup too."""

    __slots__ = ("owner", "router")

    def __init__(self, owner, router):
        self.owner = owner
        self.router = router

    def answered(self, request):
        if request.reply == STORED and request.stage == PRIMARY:
            self.router.copy_value(request)
        request.owner = self.owner
        return self.owner.answered(request)


class FanOut:
    """One answer for a command that went to every server: OK if all of them said so, else the first that did not."""

    __slots__ = ("request", "left", "trouble")

    def __init__(self, request, left):
        self.request = request
        self.left = left
        self.trouble = None

    def answered(self, part):
        self.left -= 1
        if part.reply != b"OK\r\n" and self.trouble is None:
            self.trouble = part.reply
        if self.left:
            return None
        self.request.reply = self.trouble or b"OK\r\n"
        return self.request.owner.answered(self.request)


class Heir:
    """Hands the answer of one request to another that could not get its own."""

    __slots__ = ("request",)

    def __init__(self, request):
        self.request = request

    def answered(self, other):
        request = self.request
        self.request = None  # it may refer to `other`, and that to this object
        request.reply = other.reply
        request.places = request.ends = None
        return request.owner.answered(request)
