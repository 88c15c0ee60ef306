"""Reads a key listing from one memcached as fast as it arrives: a client that reads slowly must not slow down the server (process/dump_locks.py)."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from gmproxy.backend.connect import connect
from gmproxy.errors import CLOSED, PROTOCOL, RESET, TIMEOUT, BackendError
from gmproxy.placement.server_spec import Server
from gmproxy.protocol.key_dump import KeyDump
from gmproxy.protocol.limits import MAX_REPLY_LINE
from gmproxy.transport.deadline import Deadline, receive, send_all

RECV_SIZE = 256 * 1024

#: Seconds within which the server must send more.
MAX_SILENCE = 5.0

#: Bytes at the end of a reply that show whether it is complete.
TAIL = 16


class Items(NamedTuple):
    """The lines of items in a Spill.

    begin, end   offsets of the first byte, and of the byte after the last
    number       of lines
    """

    begin: int
    end: int
    number: int


class Listing(Protocol):
    """Gets a reply. `size`: bytes written so far."""

    size: int


def read_dump(
    server: Server, options: Any, dump: KeyDump, line: bytes, listing: Listing, write: Callable[[Any, bytes], Any]
) -> Items | bytes:
    """Send `line`, the command of `dump`, to `server` and write the reply to the empty `listing`, with `write(listing, chunk)`. Returns its
    Items; or the one line with which the server refused the listing.

    Greenlet only: blocks until the reply is complete. Raises BackendError; OSError or SpillFull if `listing` cannot be written."""
    with connect(server, options.connect_timeout, users=options.server_auth_file) as sock:
        head = tail = b""
        lines = 0
        try:
            send_all(sock, line, Deadline(MAX_SILENCE))
        except OSError as error:
            raise _backend_error(error) from error
        while not dump.is_whole(tail):
            try:
                chunk = receive(sock, RECV_SIZE, Deadline(MAX_SILENCE))
            except OSError as error:
                raise _backend_error(error) from error
            if not chunk:
                raise BackendError(CLOSED)
            if b"\n" not in head:
                head = chunk = head + chunk
                if b"\n" not in head:
                    if len(head) > MAX_REPLY_LINE:
                        raise BackendError(PROTOCOL, f"reply line longer than {MAX_REPLY_LINE} bytes")
                    continue
                if dump.is_refusal(head):
                    return head[: head.index(b"\n") + 1]
            tail = (tail + chunk)[-TAIL:]
            lines += chunk.count(b"\n")
            write(listing, chunk)
    begin = dump.items_from(head)
    return Items(begin, listing.size - len(dump.end), lines - 1 - bool(begin))


def _backend_error(error: OSError) -> BackendError:
    if isinstance(error, TimeoutError):
        return BackendError(TIMEOUT, f"no more of the key listing for {MAX_SILENCE:g} s")
    return BackendError(RESET, str(error))
