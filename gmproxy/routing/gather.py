"""Many answers become one: of a retrieval that was split by server, and of a command that went to every server."""

from gmproxy.protocol.key_list import KeyPartition
from gmproxy.protocol.request import ReplySink, Request
from gmproxy.protocol.value_blocks import END, blocks_by_key, in_order


class Gather(ReplySink):
    """Joins the answers to the parts of a retrieval: all their values, in the order asked, with one END. If a part failed, so did the whole, but its
    reply has what the others found.

    memcached answers in that order, and there are clients (Cache::Memcached::Fast) that lose what comes in another.
    """

    __slots__ = ("request", "division", "left", "parts", "failed")

    def begin(self, request: Request, division: KeyPartition) -> None:
        """Before anything else: a GATHERER makes it so."""
        self.request = request
        self.division = division
        self.left = len(division.owners)
        self.parts = []
        self.failed: list[Request] | None = None

    def on_reply(self, part: Request) -> ReplySink | None:
        self.left -= 1
        return None if self.left else self._finish()

    def on_failure(self, part: Request) -> ReplySink | None:
        if self.failed is None:
            self.failed = []
        self.failed.append(part)
        return self.on_reply(part)

    def on_internal_error(self, part: Request) -> ReplySink | None:
        return self.request.abandon()

    def _finish(self) -> ReplySink | None:
        request = self.request
        parts = self.parts
        if request.sink is not None:  # else it was abandoned
            request.reply = self._join()
        self.parts = None  # they refer to this object: let go, or only the garbage collector could
        if self.failed is None:
            return request.complete()
        first = min(self.failed, key=parts.index)
        return request.fail(first.error, first.failed_server)

    def _join(self) -> bytes:
        parts = self.parts
        if len(parts) == 1:
            return parts[0].reply
        for part in parts:
            if not part.has_value_offsets:
                return self._piece_together()
        return self.division.merge_replies(parts)

    def _piece_together(self) -> bytes:
        """Block by block: some of the answers are not as a server gave them, or are not there."""
        found = {}
        for part in self.parts:
            if part.error is not None and part.reply is not None and not part.reply.endswith(END):
                return part.reply  # a backup that was asked in the place of a primary has a complaint: the client is to see it
        for part in self.parts:
            for key, blocks in blocks_by_key(part.reply or END).items():
                found.setdefault(key, []).extend(blocks)
        return in_order(self.request.keys, found)


class Gatherer:
    """Makes a Gather. In the compiled build, unlike a call of the class, this is a step in C."""

    __slots__ = ()

    def gather(self, request: Request, division: KeyPartition) -> Gather:
        gather = Gather.__new__(Gather)
        gather.begin(request, division)
        return gather


GATHERER = Gatherer()


class FanOut(ReplySink):
    """One answer for a command that went to every server: OK if all of them said so, else what the first said that did not, or its failure."""

    __slots__ = ("request", "left", "trouble", "failed")

    def __init__(self, request: Request, left: int) -> None:
        self.request = request
        self.left = left
        self.trouble: bytes | None = None
        self.failed: Request | None = None

    def on_reply(self, part: Request) -> ReplySink | None:
        if part.reply != b"OK\r\n" and self.trouble is None and self.failed is None:
            self.trouble = part.reply
        return self._count()

    def on_failure(self, part: Request) -> ReplySink | None:
        if self.trouble is None and self.failed is None:
            self.failed = part
        return self._count()

    def on_internal_error(self, part: Request) -> ReplySink | None:
        return self.request.abandon()

    def _count(self) -> ReplySink | None:
        self.left -= 1
        if self.left:
            return None
        if self.failed is not None:
            return self.request.fail(self.failed.error, self.failed.failed_server)
        self.request.reply = self.trouble or b"OK\r\n"
        return self.request.complete()
