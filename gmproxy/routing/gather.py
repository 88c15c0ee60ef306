"""Joins several replies to one: of a multi-get that was split by server, and of a command that was sent to every server."""

from gmproxy.protocol.key_list import KeyPartition
from gmproxy.protocol.request import ReplySink, Request
from gmproxy.protocol.value_blocks import END, blocks_by_key, in_order


class Gather(ReplySink):
    """Joins the replies to the parts of a multi-get: all their values in the order of the request's keys, then END.

    memcached replies in that order, and some client libraries (Cache::Memcached::Fast) lose values that come in another. If a part failed, the
    whole request fails; its reply then has the values of the other parts. Methods: loop callback or greenlet.

    partition   the parts' keys and servers
    parts       a Request for each of them, in the same order; None once the replies are joined
    left        parts without a reply
    failed      parts that failed, or None
    """

    __slots__ = ("request", "partition", "left", "parts", "failed")

    def begin(self, request: Request, partition: KeyPartition) -> None:
        """Must be called first; GATHERER does."""
        self.request = request
        self.partition = partition
        self.left = len(partition.owners)
        self.parts: list[Request] | None = []
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
            request.reply = self._join(parts)
        self.parts = None  # they refer to this object: a reference cycle, which only the garbage collector would free
        if self.failed is None:
            return request.complete()
        first = min(self.failed, key=parts.index)
        return request.fail(first.error, first.failed_server)

    def _join(self, parts: list[Request]) -> bytes:
        if len(parts) == 1:
            reply: bytes = parts[0].reply
            return reply
        for part in parts:
            if not part.has_value_offsets:
                return self._join_blocks(parts)
        return self.partition.merge_replies(parts)

    def _join_blocks(self, parts: list[Request]) -> bytes:
        """As _join, where a reply is missing or is not as the server sent it."""
        blocks: dict[bytes, list[bytes]] = {}
        for part in parts:
            if part.error is not None and part.reply is not None and not part.reply.endswith(END):
                error_line: bytes = part.reply  # of a backup that replied in place of a primary: the client gets that
                return error_line
        for part in parts:
            for key, of_key in blocks_by_key(part.reply or END).items():
                blocks.setdefault(key, []).extend(of_key)
        return in_order(self.request.keys, blocks)


class Gatherer:
    """Makes a Gather; in the compiled build without a Python call, unlike `Gather()`."""

    __slots__ = ()

    def gather(self, request: Request, partition: KeyPartition) -> Gather:
        gather = Gather.__new__(Gather)
        gather.begin(request, partition)
        return gather


GATHERER = Gatherer()


class FanOut(ReplySink):
    """Joins the replies to a command that was sent to every server: OK if all of them are OK, else the first other one, or the first failure.

    left          servers without a reply
    other_reply   the first reply that is not OK, if it came before any failure
    failed        the part that failed first, if that was before any other_reply
    """

    __slots__ = ("request", "left", "other_reply", "failed")

    def __init__(self, request: Request, left: int) -> None:
        self.request = request
        self.left = left
        self.other_reply: bytes | None = None
        self.failed: Request | None = None

    def on_reply(self, part: Request) -> ReplySink | None:
        if part.reply != b"OK\r\n" and self.other_reply is None and self.failed is None:
            self.other_reply = part.reply
        return self._count_part()

    def on_failure(self, part: Request) -> ReplySink | None:
        if self.other_reply is None and self.failed is None:
            self.failed = part
        return self._count_part()

    def on_internal_error(self, part: Request) -> ReplySink | None:
        return self.request.abandon()

    def _count_part(self) -> ReplySink | None:
        self.left -= 1
        if self.left:
            return None
        if self.failed is not None:
            return self.request.fail(self.failed.error, self.failed.failed_server)
        self.request.reply = self.other_reply or b"OK\r\n"
        return self.request.complete()
