"""HTTP for the admin listener: GET and HEAD, answered from memory, one request at a time.

It runs in a process that serves memcached clients, so everything that a client of this listener can cause has a limit: connections, bytes of
a header, seconds for each step, and between two requests of one connection memcached clients have their turn.
"""

import ipaddress
import logging
import re
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gevent
from gevent.server import StreamServer

from gmproxy import internal_errors
from gmproxy.accepting import Patient
from gmproxy.descriptors import ADMIN_CONNECTIONS
from gmproxy.net import host_and_port

#: A connection on which nothing is asked is closed after so many seconds.
IDLE_TIMEOUT = 30.0

#: Seconds from the first byte of a request to the end of its header.
HEADER_TIMEOUT = 5.0

#: Seconds that an answer may take to be read.
WRITE_TIMEOUT = 10.0

#: Seconds to wait, after the last answer, until it was read: to close while something is unread would lose it.
LINGER_TIMEOUT = 1.0

#: Bytes of a request line with its header fields. Browsers send 1 or 2 KiB.
MAX_HEADER = 16 * 1024

#: Seconds between an answer and the next request on the same connection, so that others are served in between.
PAUSE = 0.001

BAD_REQUEST = "400 Bad Request"
TIMED_OUT = "408 Request Timeout"
TOO_LARGE = "431 Request Header Fields Too Large"
FAILED = "500 Internal Server Error"

TEXT = "text/plain; charset=utf-8"

_RECEIVED_AT_ONCE = 4096
_END = re.compile(rb"\r?\n\r?\n")

log = logging.getLogger("gmproxy")


class Question(NamedTuple):
    """
    method, path, query   as they were sent
    host                  whom the client believes to ask, or None where it did not say
    keep                  True if the client may ask more on this connection
    """

    method: str
    path: str
    query: str
    host: str | None
    keep: bool


class Answer(NamedTuple):
    status: str
    kind: str
    body: bytes


class Refused(Exception):
    """The request cannot be understood, or not waited for. The connection ends."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


def parse(head: bytes) -> Question:
    """The question in `head`, a request line and header fields without the empty line. Raises Refused."""
    first, *fields = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    words = first.split(" ")
    if len(words) != 3 or not re.fullmatch(r"HTTP/1\.[0-9]", words[2]):
        raise Refused(BAD_REQUEST)
    found: dict[str, str] = {}
    for field in fields:
        name, colon, value = field.partition(":")
        name = name.lower()
        if not colon or not re.fullmatch(r"[!#-'*+.^_`|~0-9a-z-]+", name) or (name == "host" and name in found):
            raise Refused(BAD_REQUEST)
        found[name] = value.strip()
    try:
        target = urlsplit(words[1])
    except ValueError:
        raise Refused(BAD_REQUEST) from None
    host = target.netloc or found.get("host")
    if host is None and words[2] != "HTTP/1.0":
        raise Refused(BAD_REQUEST)
    connection = found.get("connection", "").lower()
    has_body = found.get("content-length", "0") != "0" or "transfer-encoding" in found
    keep = not has_body and ("keep-alive" in connection if words[2] == "HTTP/1.0" else "close" not in connection)
    return Question(words[0], target.path, target.query, host, keep)


def is_known(host: str | None, names: Iterable[str]) -> bool:
    """True if `host`, as in a Host field, is an address, localhost or one of `names` (in lower case).

    A page of another site can have its own name resolve to our address, and then read what we answer, with the browser of somebody who
    can reach us (DNS rebinding). The browser says in the Host field which name it was.
    """
    if host is None:  # no browser leaves it out
        return True
    name = re.sub(r":[0-9]*$", "", host).rstrip(".").lower()
    if name and (name == "localhost" or name in names):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class Connections(Patient, StreamServer):
    """A server that keeps ADMIN_CONNECTIONS connections at most: for the next one it closes the one that has waited longest, for a question
    or for its answer to be read. So idle clients, half requests, and clients that do not read keep nobody away.

    `serve(sock, address)` is called in a greenlet for each; the socket is closed when it returns.
    """

    max_accept = 4  # one turn of the loop: clients of the proxy come first

    def __init__(self, sock: Any, serve: Callable[[Any, Any], None]) -> None:
        self._open: dict[Any, Any] = {}  # greenlet -> its socket; first the one whose last step is longest ago
        super().__init__(sock, serve)

    def do_handle(self, sock: Any, address: Any) -> None:
        """Called from the loop. Never raises: what fails costs this connection."""
        try:
            while len(self._open) >= ADMIN_CONNECTIONS:
                self._end(next(iter(self._open)))
            greenlet = gevent.Greenlet(self._serve, sock, address)
            self._open[greenlet] = sock
            greenlet.start()
        except Exception:
            internal_errors.record("admin.do_handle")
            sock.close()

    def stop(self, timeout: float | None = None) -> None:
        """Accept no more, and close all connections."""
        self.close()
        for greenlet in list(self._open):
            self._end(greenlet)

    def _end(self, greenlet: Any) -> None:
        sock = self._open.pop(greenlet)
        greenlet.kill(block=False)
        sock.close()

    def _serve(self, sock: Any, address: Any) -> None:
        greenlet = gevent.getcurrent()
        try:
            self._handle(sock, address)
        except OSError:
            pass  # the client is gone
        except Exception:
            internal_errors.record("admin.serve")
        finally:
            self._open.pop(greenlet, None)
            sock.close()

    def takes_a_step(self) -> None:
        """Called by `serve`, in its greenlet: a question has come, or an answer was taken."""
        greenlet = gevent.getcurrent()
        if greenlet in self._open:
            self._open[greenlet] = self._open.pop(greenlet)


class Server(Connections):
    """HTTP on the listening socket `sock`, which becomes ours. `answer(Question)` gives an Answer; it is called in a greenlet."""

    def __init__(self, sock: Any, answer: Callable[[Question], Answer]) -> None:
        super().__init__(sock, self._talk)
        self._answer = answer

    def _talk(self, sock: Any, address: Any) -> None:
        unread = b""
        keep = True
        while keep:
            try:
                head, unread = self._receive(sock, unread)
                if not head:
                    return
                question = parse(head)
            except Refused as refused:
                log.info("admin request refused client=%s status=%r", host_and_port(address), refused.status)
                self._send(sock, Answer(refused.status, TEXT, f"{refused.status}\n".encode()), False, False)
                break
            self.takes_a_step()
            keep = question.keep
            self._send(sock, self._answered(question), keep, question.method == "HEAD")
            self.takes_a_step()
            gevent.sleep(PAUSE)
        with gevent.Timeout(LINGER_TIMEOUT, False):
            sock.shutdown(1)
            while sock.recv(_RECEIVED_AT_ONCE):
                gevent.sleep(PAUSE)  # a recv that finds something does not wait

    def _receive(self, sock: Any, unread: bytes) -> tuple[bytes, bytes]:
        """(the next request line with its header fields, what came after it); (b"", b"") if there is no further request. Raises Refused."""
        data = unread.lstrip(b"\r\n")
        if not data:
            with gevent.Timeout(IDLE_TIMEOUT, False):
                data = sock.recv(_RECEIVED_AT_ONCE).lstrip(b"\r\n")
            if not data:
                return b"", b""
        with gevent.Timeout(HEADER_TIMEOUT, False):
            while (end := _END.search(data)) is None:
                if len(data) > MAX_HEADER:
                    raise Refused(TOO_LARGE)
                chunk = sock.recv(_RECEIVED_AT_ONCE)
                if not chunk:
                    return b"", b""
                data += chunk
            if end.start() > MAX_HEADER:
                raise Refused(TOO_LARGE)
            return data[:end.start()], data[end.end():]
        raise Refused(TIMED_OUT)

    def _answered(self, question: Question) -> Answer:
        try:
            return self._answer(question)
        except Exception:
            internal_errors.record("admin.answer")
            return Answer(FAILED, TEXT, b"internal error, see the log\n")

    @staticmethod
    def _send(sock: Any, answer: Answer, keep: bool, head_only: bool) -> None:
        lines = [
            f"HTTP/1.1 {answer.status}", f"Date: {formatdate(usegmt=True)}", f"Content-Type: {answer.kind}",
            f"Content-Length: {len(answer.body)}", "Cache-Control: no-store", "X-Content-Type-Options: nosniff",
            f"Connection: {'keep-alive' if keep else 'close'}",
        ]
        if answer.status.startswith("405 "):
            lines.append("Allow: GET, HEAD")
        with gevent.Timeout(WRITE_TIMEOUT, OSError("the answer is not read")):
            sock.sendall("\r\n".join([*lines, "", ""]).encode() + (b"" if head_only else answer.body))
