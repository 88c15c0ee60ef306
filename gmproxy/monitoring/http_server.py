"""HTTP for the admin listener: gevent's pywsgi, with limits.

It shares its process with memcached clients. So there are limits for the number of connections, the size of a header and the time of each
step, and memcached clients are served between two requests of one connection.
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

from gmproxy.transport.accept import AcceptRetry, LimitedConnections
from gmproxy.transport.tcp import host_and_port

#: Seconds after which an idle connection is closed.
IDLE_TIMEOUT = 30.0

#: Seconds from the first byte of a request to the end of its header.
HEADER_TIMEOUT = 5.0

#: Seconds within which a client must receive the header of a response, and then its body.
WRITE_TIMEOUT = 10.0

#: Seconds to wait for the client to close the connection after the last response. If it were closed here with unread data, the client could lose
#: the response.
LINGER_TIMEOUT = 1.0

#: Maximum size of a request line with its header fields, in bytes. Browsers send 1 or 2 KiB.
MAX_HEADER = 16 * 1024

#: Seconds between a response and the next request on the same connection: other clients are served in between.
PAUSE = 0.001

_RECEIVED_AT_ONCE = 4096

log = logging.getLogger("gmproxy")


class HeaderRefused(Exception):
    """The header of a request is too long, or did not arrive in time. args[0] is the HTTP status. The connection is closed."""


class ConnectionServer(AcceptRetry, LimitedConnections, StreamServer):
    """ConnectionServer(listening socket, handle): calls handle(socket, address) in a greenlet for each connection."""


def linger(sock: Any) -> None:
    """Close `sock` for sending, and wait for the client to close it. Greenlet only: blocks for up to LINGER_TIMEOUT. Raises OSError."""
    with gevent.Timeout(LINGER_TIMEOUT, False):
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(_RECEIVED_AT_ONCE):
            gevent.sleep(PAUSE)  # a recv with data does not switch to other greenlets


class HttpHandler(WSGIHandler):
    """One connection, in a greenlet. The whole header of a request is read, within the limits, before pywsgi parses it; no body is read."""

    path: str

    def handle_one_request(self) -> bool | None:
        """True if another request may follow. Raises OSError; any other exception is an internal error."""
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
        """The next request line, or "" at the end of the connection. Raises OSError, HeaderRefused."""
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
        """Called by pywsgi for the parsed header fields."""
        return super().MessageClass(self._fields, 0)

    def read_request(self, raw_requestline: str) -> bool:
        """Raises ValueError if it is not an HTTP/1 request: then pywsgi sends status 400."""
        try:
            super().read_request(raw_requestline)
        except Exception as error:  # pywsgi would print any other exception, such as that of http.client for too many fields
            raise ValueError("not an HTTP request") from error
        headers = self.headers
        if "Host" not in headers and self.request_version != "HTTP/1.0":
            raise ValueError("no Host field, or HTTP/0.9")
        target = urlsplit(self.path)
        if target.netloc:  # http://host/path: overrides the Host field
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

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        """As in WSGI."""
        headers = [*headers, ("Connection", "close")] if self.close_connection else headers
        write: Callable[[bytes], None] = super().start_response(status, headers, exc_info)
        return write

    def handle_error(self, t: Any, v: Any, tb: Any) -> None:
        """Called by pywsgi for an exception while a response is made or sent. LimitedConnections handles it; pywsgi would print a traceback,
        and continue in a killed greenlet."""
        raise v


class HttpServer(AcceptRetry, LimitedConnections, WSGIServer):
    """HTTP on the listening socket `sock`, which it takes over. The WSGI `application` is called in a greenlet."""

    handler_class = HttpHandler

    def __init__(self, sock: Any, application: Callable[[dict[str, Any], Any], list[bytes]]) -> None:
        # Without SERVER_NAME, pywsgi would look up the host name, which blocks.
        super().__init__(sock, application, log=None, error_log=None, environ={"SERVER_NAME": "gmproxy"})
