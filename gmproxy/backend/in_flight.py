"""What the requests in flight on a connection mean: how much waits and, if the connection failed, which may be sent again, and whether the server
may still make their writes.

All functions: loop callback or greenlet; none changes the queue.
"""

from gmproxy.protocol.request import Request, RequestQueue


def _modifies(request: Request) -> bool:
    """True for writes, and for what must not be sent twice."""
    return request.command.is_write or not request.command.idempotent


def awaits_writes(waiting: RequestQueue) -> bool:
    """True if the server may still make a write, or a flush_all, that waits for its reply."""
    return any(_modifies(request) for request in reversed(waiting))


def overtaken_requests(waiting: RequestQueue, sent: int) -> set[Request]:
    """The requests behind which a write of one of their keys was sent, if the kernel took `sent` bytes of the connection. Such a read must not be
    sent again: it would return what its client wrote after it."""
    overtaken = set()
    written: set[bytes] = set()
    for request in reversed(waiting):
        if request.sent_at_byte >= sent:
            continue
        keys = request.all_keys()
        if written and (b"" in written or not written.isdisjoint(keys)):
            overtaken.add(request)
        if _modifies(request):
            written.update(keys)  # the key of flush_all is b""
    return overtaken


def queue_sizes(waiting: RequestQueue, queued: int, sent: int) -> tuple[int, int]:
    """(requests that are not completely sent, bytes of all requests in `waiting`). `queued`, `sent`: bytes submitted to the connection, and
    bytes that the kernel took of these."""
    oldest = waiting.first()
    if oldest is None:
        return 0, 0
    unsent = 0
    end = queued
    for request in reversed(waiting):
        if end <= sent:
            break
        unsent += 1
        end = request.sent_at_byte
    return unsent, queued - oldest.sent_at_byte
