"""Many answers become one: of a retrieval that was split by server, and of a command that went to every server."""

from gmproxy.protocol.key_list import KeyPartition
from gmproxy.protocol.request import ReplySink, Request
from gmproxy.protocol.value_blocks import END, blocks_by_key, in_order


class Gather(ReplySink):
    """Joins the answers to the parts of a retrieval: all their values, in the order asked, with one END.

    memcached answers in that order, and there are clients (Cache::Memcached::Fast) that lose what comes in another.
    """

    __slots__ = ("request", "division", "left", "parts")

    def begin(self, request: Request, division: KeyPartition) -> None:
        """Before anything else: a GATHERER makes it so."""
        self.request = request
        self.division = division
        self.left = len(division.owners)
        self.parts = []

    def on_reply(self, part: Request) -> ReplySink | None:
        self.left -= 1
        if self.left:
            return None
        request = self.request
        if request.sink is not None:  # else it was abandoned
            request.reply = self._join()
        self.parts = None  # they refer to this object: let go, or only the garbage collector could
        return request.complete()

    def on_internal_error(self, part: Request) -> ReplySink | None:
        return self.request.abandon()

    def _join(self) -> bytes:
        parts = self.parts
        if len(parts) == 1:
            return parts[0].reply
        for part in parts:
            if not part.has_value_offsets:
                return self._piece_together()
        return self.division.merge_replies(parts)

    def _piece_together(self) -> bytes:
        """Block by block: some of the answers are not as a server gave them."""
        found = {}
        for part in self.parts:
            if part.error is not None and not part.reply.endswith(END):
                return part.reply  # on_get_error = error: the client wants to know
        for part in self.parts:
            for key, blocks in blocks_by_key(part.reply).items():
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
    """One answer for a command that went to every server: OK if all of them said so, else the first that did not."""

    __slots__ = ("request", "left", "trouble")

    def __init__(self, request: Request, left: int) -> None:
        self.request = request
        self.left = left
        self.trouble = None

    def on_reply(self, part: Request) -> ReplySink | None:
        self.left -= 1
        if part.reply != b"OK\r\n" and self.trouble is None:
            self.trouble = part.reply
        if self.left:
            return None
        self.request.reply = self.trouble or b"OK\r\n"
        return self.request.complete()

    def on_internal_error(self, part: Request) -> ReplySink | None:
        return self.request.abandon()
