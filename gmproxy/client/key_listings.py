"""Key listings for clients: read from one primary after the other. Each server is read for one listing of the whole service at a time.

The reply of a server is read as fast as it arrives (backend/dump_reader.py), and then sent to the client as fast as that reads. So a slow client
does not slow down a server. If a server fails, the client gets none of its keys, and an error line in place of the last line: so it does not take
the listing for complete.
"""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import gevent
from gevent.threadpool import ThreadPool

from gmproxy.backend.dump_reader import Items, Listing, read_dump
from gmproxy.errors import EJECTED, TIMEOUT, BackendError
from gmproxy.protocol.key_dump import BUSY, OK, KeyDump
from gmproxy.system.spill import Spill, SpillFull
from gmproxy.transport.deadline import Deadline
from gmproxy.transport.plain import PLAIN

#: Maximum number of listings at a time of a pool in each worker; further ones get BUSY. Each has at most MAX_SPILL bytes on disk.
MAX_LISTINGS = 4
MAX_SPILL = 1024 * 1024 * 1024

#: Seconds that a listing waits for other listings of a server, or for a crawl of the server itself, before it gets BUSY; and between attempts.
BUSY_WAIT = 2.0
BUSY_PAUSE = 0.02

#: Seconds for which a server that did not complete a listing gets no other one: that could stop it for good.
PAUSE_AFTER_TIMEOUT = 60.0

#: Bytes read from disk and sent to a client at a time.
SEND_SIZE = 256 * 1024

log = logging.getLogger("gmproxy")


class ClientLost(Exception):
    """The client has disconnected, or does not read."""


class _Refused(Exception):
    """`reply`: the line that the client gets in place of the last one."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


class KeyListings:
    """Those of the primaries of `router`. `options`: of the pool."""

    def __init__(self, router: Any, options: Any, worker_context: Any) -> None:
        self._router = router
        self._options = options
        self._locks = worker_context.dump_locks
        self._running = 0
        self._threads: ThreadPool | None = None

    def servers(self) -> int:
        return len(self._router.backends)

    def refusal(self, dump: KeyDump) -> bytes | None:
        """The error line if there can be no such listing now; else None. Loop callback or greenlet."""
        if self._options.disable_dumping:
            return dump.not_allowed
        if self._options.backend_protocol == "binary":
            return b"CLIENT_ERROR the binary protocol of the server does not support %b\r\n" % dump.name
        return BUSY if self._running >= MAX_LISTINGS else None

    def send_listing(self, dump: KeyDump, session: Any) -> bytes:
        """Send the listing, without its last line, to the client of `session`, which waits for the reply and sends nothing meanwhile. Returns the
        last line; b"" if the client is lost. Greenlet only: blocks until the listing is sent."""
        self._running += 1
        try:
            self._send_all(dump, session, list(self._router.backends))
        except _Refused as refused:
            return refused.reply
        except ClientLost:
            return b""
        finally:
            self._running -= 1
        return dump.end

    def _send_all(self, dump: KeyDump, session: Any, backends: Sequence[Any]) -> None:
        lines = {index: dump.line(index, 0) for index in range(len(backends))}
        for index in (index for index, line in lines.items() if line):
            if backends[index].health.ejected:
                raise _Refused(_server_error(EJECTED, backends[index].label))
        items_sent = 0
        is_first = True
        for index, backend in enumerate(backends):
            line = dump.line(index, items_sent)
            if line is None:
                continue
            with Spill(MAX_SPILL) as spill:
                items = self.read_listing(dump, line, backend, spill, self.write_spill)
                if not isinstance(items, Items):
                    is_plain = is_first or items.startswith((b"BUSY", b"SERVER_ERROR"))
                    raise _Refused(items if is_plain else b"SERVER_ERROR %b replied %b" % (backend.label.encode(), items))
                if is_first and items.begin:
                    _send(session, OK, self._options.client_write_timeout)
                is_first = False
                items_sent += items.number
                self._send_items(session, spill, items)

    def _send_items(self, session: Any, spill: Spill, items: Items) -> None:
        for begin in range(items.begin, items.end, SEND_SIZE):
            size = min(SEND_SIZE, items.end - begin)
            _send(session, self.read_spill(spill, begin, size), self._options.client_write_timeout)

    # -- one server

    def read_listing(self, dump: KeyDump, line: bytes, backend: Any, listing: Listing, write: Callable[[Any, bytes], Any]) -> Items | bytes:
        """Write the reply of `backend` to `line`, the command of `dump`, to `listing` (gmproxy.backend.dump_reader.read_dump), once no other listing
        of the server is read. Returns its Items, or the error line. Greenlet only: blocks until the listing is complete."""
        deadline = Deadline(BUSY_WAIT)
        while True:
            items = self._try_to_read(dump, line, backend, listing, write)
            if isinstance(items, Items) or not items.startswith(b"BUSY") or not deadline.left():
                return items
            gevent.sleep(BUSY_PAUSE)

    def _try_to_read(self, dump: KeyDump, line: bytes, backend: Any, listing: Listing, write: Callable[[Any, bytes], Any]) -> Items | bytes:
        is_locked = dump.is_crawl
        if is_locked and not self._locks.acquire(backend.label):
            return BUSY
        pause = 0.0
        try:
            return read_dump(backend.server, backend.options, dump, line, listing, write)
        except BackendError as error:
            if error.reason == TIMEOUT:
                pause = PAUSE_AFTER_TIMEOUT
            log.warning("keys not listed server=%s reason=%s detail=%r", backend.label, error.reason, error.detail)
            return _server_error(error.reason, backend.label)
        except (OSError, SpillFull) as error:
            log.warning("keys not listed server=%s reason=disk detail=%r", backend.label, str(error))
            return b"SERVER_ERROR no room for the keys of %b\r\n" % backend.label.encode()
        finally:
            if is_locked:
                self._locks.release(backend.label, pause)

    def write_spill(self, spill: Spill, chunk: bytes) -> None:
        """Append `chunk`. Greenlet only: may block on the disk. Raises OSError, SpillFull."""
        self._on_disk(spill, len(chunk), spill.write, chunk)

    def read_spill(self, spill: Spill, begin: int, size: int) -> bytes:
        """Up to `size` bytes at `begin`. Greenlet only: may block on the disk. Raises OSError."""
        chunk: bytes = self._on_disk(spill, 0, spill.read, begin, size)
        return chunk

    def _on_disk(self, spill: Spill, more: int, call: Any, *arguments: Any) -> Any:
        """call(*arguments), in a thread if it may wait for a disk. `more`: bytes that it writes."""
        if not spill.is_on_disk_with(more):
            return call(*arguments)
        if self._threads is None:
            self._threads = ThreadPool(1)
        result = self._threads.apply(_result_or_error, (call, arguments))
        if isinstance(result, Exception):
            raise result
        return result


def _result_or_error(call: Any, arguments: Sequence[Any]) -> Any:
    """call(*arguments), or the exception if the disk fails: gevent prints a traceback of what is raised in a thread."""
    try:
        return call(*arguments)
    except (OSError, SpillFull) as error:
        return error


def _server_error(reason: str, label: str) -> bytes:
    return f"SERVER_ERROR {reason} {label}\r\n".encode()


def _send(session: Any, data: bytes, seconds: float) -> None:
    """Send `data` to the client of `session`. Raises ClientLost if that takes longer than `seconds`."""
    deadline = Deadline(seconds)
    at = 0
    try:
        while at < len(data):
            at += PLAIN.send(session.fd, data, at)
            if at < len(data):
                deadline.wait_writable(session.fd)
    except OSError as error:
        if isinstance(error, TimeoutError):
            log.warning("client dropped reason=slow bytes=%d", len(data) - at)
        _end_connection(session.fd)
        raise ClientLost from error
    finally:
        session.count_written(at)


def _end_connection(fd: int) -> None:
    """Its session receives the end of the stream, and closes the descriptor."""
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
        sock.shutdown(socket.SHUT_RDWR)
