"""Reads a listing of keys from one memcached, as fast as it comes: a client that takes it slowly must never be felt there (process/dump_locks.py)."""

from collections.abc import Callable
from typing import Any, NamedTuple

from gmproxy.backend.connect import connect
from gmproxy.errors import CLOSED, PROTOCOL, RESET, TIMEOUT, BackendError
from gmproxy.placement.server_spec import Server
from gmproxy.protocol.key_dump import KeyDump
from gmproxy.protocol.limits import MAX_REPLY_LINE
from gmproxy.system.spill import Spill
from gmproxy.transport.deadline import Deadline, receive, send_all

RECV_SIZE = 256 * 1024

#: Seconds in which a server must send something more.
SILENCE = 5.0

#: Bytes at the end of an answer that show whether it is whole.
TAIL = 16


class Items(NamedTuple):
    """Where in a Spill the lines of items are.

    begin, end   from the one offset to the other
    number       how many there are
    """

    begin: int
    end: int
    number: int


def read_dump(
    server: Server, options: Any, dump: KeyDump, line: bytes, spill: Spill, write: Callable[[Spill, bytes], Any]
) -> Items | bytes:
    """Send `line` to `server` and write the answer to `spill`, which is empty, with `write(spill, chunk)`. Returns the Items in it; or the one line
    with which the server refused.

    For greenlets. Raises BackendError; and OSError and SpillFull if that of `spill` cannot be written."""
    with connect(server, options.connect_timeout, users=options.server_auth_file) as sock:
        head = tail = b""
        lines = 0
        try:
            send_all(sock, line, Deadline(SILENCE))
        except OSError as error:
            raise _trouble(error) from error
        while not dump.is_whole(tail):
            try:
                chunk = receive(sock, RECV_SIZE, Deadline(SILENCE))
            except OSError as error:
                raise _trouble(error) from error
            if not chunk:
                raise BackendError(CLOSED)
            if b"\n" not in head:
                head = chunk = head + chunk
                if b"\n" not in head:
                    if len(head) > MAX_REPLY_LINE:
                        raise BackendError(PROTOCOL, "a line without end")
                    continue
                if dump.is_refusal(head):
                    return head[: head.index(b"\n") + 1]
            tail = (tail + chunk)[-TAIL:]
            lines += chunk.count(b"\n")
            write(spill, chunk)
    begin = dump.items_from(head)
    return Items(begin, spill.size - len(dump.end), lines - 1 - bool(begin))


def _trouble(error: OSError) -> BackendError:
    """The BackendError that stands for an OSError of the connection."""
    if isinstance(error, TimeoutError):
        return BackendError(TIMEOUT, "no more of a listing of keys")
    return BackendError(RESET, str(error))
