"""HTTP for the admin listener: gevent's pywsgi, with limits.

It runs in a process that serves memcached clients, so everything that a client of this listener can cause has a limit: connections, bytes of
a header, seconds for each step, and between two requests of one connection memcached clients have their turn.
"""

import logging
import socket
from collections.abc import Callable
from http import HTTPStatus
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import gevent
from gevent.pywsgi import WSGIHandler, WSGIServer
from gevent.server import StreamServer

from gmproxy.transport.accept import Limited, Patient
from gmproxy.transport.tcp import host_and_port

#: Seconds until a connection without a request is closed.
IDLE_TIMEOUT = 30.0

#: Seconds from the first byte of a request to the end of its header.
HEADER_TIMEOUT = 5.0

#: Seconds that the client may take to receive the header of a response, and again for its body.
WRITE_TIMEOUT = 10.0

#: Seconds to wait, after the last response, until the client has closed: to close while something is unread would lose the response.
LINGER_TIMEOUT = 1.0

#: Bytes of a request line with its header fields. Browsers send 1 or 2 KiB.
MAX_HEADER = 16 * 1024

#: Seconds between a response and the next request on the same connection, so that others are served in between.
PAUSE = 0.001

_RECEIVED_AT_ONCE = 4096

log = logging.getLogger("gmproxy")


class HeaderRefused(Exception):
    """The header of a request is too long or too late. The only argument is the status. The connection ends."""


class ConnectionServer(Patient, Limited, StreamServer):
    """Calls a function for each connection: ConnectionServer(listening socket, handle)."""


def linger(sock: Any) -> None:
    """Send no more, and wait up to LINGER_TIMEOUT for the client to close `sock`. For greenlets. Raises OSError."""
    with gevent.Timeout(LINGER_TIMEOUT, False):
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(_RECEIVED_AT_ONCE):
            gevent.sleep(PAUSE)  # a recv that finds something does not wait


class HttpHandler(WSGIHandler):
    """One connection. The whole header of a request is read, within the limits, before pywsgi parses it; no body is ever read."""

    path: str

    def handle_one_request(self) -> bool | None:
        """True if another request may follow. Raises OSError, and what pywsgi or the application should not have raised."""
        try:
            result = super().handle_one_request()
        except HeaderRefused as refused:
            result = refused.args
        self.server.note_activity()
        if result is True:
            gevent.sleep(PAUSE)
            return True
        if result is not None:
            self._refuse(HTTPStatus(int(result[0])))
        linger(self.socket)
        return None

    def _refuse(self, status: HTTPStatus) -> None:
        line = f"{status.value} {status.phrase}"
        log.info("admin request refused client=%s status=%r", host_and_port(self.client_address), line)
        self.socket.sendall(f"HTTP/1.1 {line}\r\nContent-Length: {len(line) + 1}\r\nConnection: close\r\n\r\n{line}\n".encode())

    def read_requestline(self) -> str:
        """The next request line; "" if none comes. Raises OSError, HeaderRefused."""
        self.socket.settimeout(IDLE_TIMEOUT)
        if not self.rfile.peek(1):
            return ""
        with gevent.Timeout(HEADER_TIMEOUT, HeaderRefused(408)):
            line = self._read_header()
        self.socket.settimeout(WRITE_TIMEOUT)
        return line

    def _read_header(self) -> str:
        lines: list[bytes] = []
        left = MAX_HEADER
        while line := self.rfile.readline(left + 1):
            left -= len(line)
            if left < 0:
                raise HeaderRefused(431)
            if line not in (b"\r\n", b"\n"):
                lines.append(line)
            elif lines:  # empty lines before a request are skipped
                self._fields = BytesIO(b"".join(lines[1:]) + line)
                return lines[0].decode("latin-1")
        return ""

    def MessageClass(self, *_: Any) -> Any:
        """Called by pywsgi to parse the header fields."""
        return super().MessageClass(self._fields, 0)

    def read_request(self, raw_requestline: str) -> bool:
        """Raises ValueError for what is not a request of HTTP/1: pywsgi answers 400."""
        try:
            super().read_request(raw_requestline)
        except Exception as error:  # pywsgi prints others than ValueError; http.client has an error of its own for too many fields
            raise ValueError("not a request") from error
        headers = self.headers
        if "Host" not in headers and self.request_version != "HTTP/1.0":
            raise ValueError("no Host, or HTTP/0.9")
        target = urlsplit(self.path)
        if target.netloc:  # http://host/path: that host counts
            del headers["Host"]
            headers["Host"] = target.netloc
            self.path = target._replace(scheme="", netloc="").geturl()
        if "close" in headers.get("Connection", "").lower():
            self.close_connection = True
        if "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0":
            self.close_connection = True
            self.content_length = None  # pywsgi would read all of the body
            del headers["Transfer-Encoding"], headers["Content-Length"]
        self.server.note_activity()
        return True

    def start_response(self, status: str, headers: list, exc_info: Any = None) -> Callable[[bytes], None]:
        """As WSGI has it."""
        return super().start_response(status, [*headers, ("Connection", "close")] if self.close_connection else headers, exc_info)

    def handle_error(self, t: Any, v: Any, tb: Any) -> None:
        """Called by pywsgi for all that was raised while a response was made or sent: Limited deals with it. pywsgi would print a traceback,
        and go on in a greenlet that was killed."""
        raise v


class HttpServer(Patient, Limited, WSGIServer):
    """HTTP on the listening socket `sock`, which becomes ours. `application` is one of WSGI; it is called in a greenlet."""

    handler_class = HttpHandler

    def __init__(self, sock: Any, application: Callable) -> None:
        # Without a name pywsgi would ask the resolver for it, and everybody would wait.
        super().__init__(sock, application, log=None, error_log=None, environ={"SERVER_NAME": "gmproxy"})
