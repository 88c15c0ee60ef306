"""Opens connections to memcached servers, and logs in. Greenlets only: everything here blocks, until a deadline."""

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from gmproxy.backend.resolver import Address, names
from gmproxy.config.credentials import Credentials
from gmproxy.errors import CONNECTING, LOGIN, OVERLOAD, BackendError, LocalError
from gmproxy.placement.server_spec import Server
from gmproxy.protocol.binary import packets
from gmproxy.transport import tcp
from gmproxy.transport.deadline import Deadline, receive, send_all

#: Maximum bytes of a reply while logging in.
MAX_LOGIN_REPLY = 1024

#: Seconds until a unix socket with a full backlog is tried again: the kernel does not report when there is room.
UNIX_RETRY = 0.01

#: Errors for which the server is not to blame: this process or machine lacks file descriptors, memory or kernel buffers.
_LOCAL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN}

_IN_PROGRESS = {errno.EINPROGRESS, errno.EALREADY, errno.EINTR}


def connect(
    server: Server, timeout: float, keepalive: bool = True, users: Credentials | None = None, protocol: str = "text"
) -> socket.socket:
    """A connected, non-blocking socket to `server`. Greenlet only: blocks for up to `timeout` seconds, and again as long for the login.

    The timeout covers the lookup of the name and the connection attempts to all of its addresses. `users` has the one user to log in as where
    the server requires authentication: by SASL if `protocol` is "binary", else by memcached's ASCII authentication.

    Raises BackendError("connecting") or BackendError("login"); LocalError("connecting") or LocalError("overload") where the server is not to
    blame.
    """
    try:
        sock = _open(server, Deadline(timeout))
        try:
            if not server.unix_path:
                tcp.tune(sock, keepalive)
            if users:
                _LOGINS[protocol](_LoginExchange(sock, Deadline(timeout)), *users.single())
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise _backend_error(error) from error
    except MemoryError as error:
        raise LocalError(OVERLOAD, "out of memory") from error
    return sock


def _backend_error(error: OSError) -> BackendError:
    detail = error.strerror or str(error)
    return LocalError(OVERLOAD, detail) if error.errno in _LOCAL else BackendError(CONNECTING, detail)


def _open(server: Server, deadline: Deadline) -> socket.socket:
    if server.unix_path:
        return _open_unix(server.unix_path, deadline)
    addresses = names.addresses(server.host, server.port, deadline)
    failure: OSError | BackendError = OSError(errno.EHOSTUNREACH, "no address")  # replaced: there is at least one address
    for number, address in enumerate(addresses):
        try:
            sock = _open_tcp(address, deadline.share(len(addresses) - number))
        except LocalError as error:
            failure = error
        except OSError as error:
            if error.errno in _LOCAL:
                raise  # the next address would fail in the same way
            if not isinstance(failure, LocalError):
                failure = error
        else:
            names.reached(server.host, address)
            return sock
    raise failure


def _open_tcp(address: Address, deadline: Deadline) -> socket.socket:
    """Raises OSError; LocalError if no local port is free."""
    family, sockaddr = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        status = sock.connect_ex(sockaddr)
        if status in _IN_PROGRESS:
            deadline.wait_writable(sock.fileno())
            status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status == errno.EADDRNOTAVAIL and _has_route(address):
            raise LocalError(OVERLOAD, "no local port is free")
        if status:
            raise OSError(status, os.strerror(status))
    except BaseException:
        sock.close()
        raise
    return sock


def _has_route(address: Address) -> bool:
    """True if this machine has a source address for `address`. Without one, as without IPv6, connect() fails with EADDRNOTAVAIL as if all local ports
    were in use. Nothing is sent, and no TCP port is used: connecting a UDP socket only looks up the route."""
    family, sockaddr = address
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            return sock.connect_ex(sockaddr) == 0
    except OSError:
        return True  # more is lacking than a port


def _open_unix(path: str, deadline: Deadline) -> socket.socket:
    """Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while status := sock.connect_ex(path):
            if status == errno.EAGAIN:  # its backlog is full
                deadline.sleep(UNIX_RETRY)
            elif status != errno.EINTR:
                raise OSError(status, os.strerror(status))
    except BaseException:
        sock.close()
        raise
    return sock


class _LoginExchange:
    """Requests and replies over the connected, non-blocking `sock`, until `deadline`."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def request(self, data: bytes, is_complete: Callable[[bytes], object]) -> bytes:
        """Send `data` and return the reply, once it `is_complete`. Raises OSError, BackendError."""
        send_all(self._sock, data, self._deadline)
        reply = b""
        while not is_complete(reply):
            chunk = receive(self._sock, MAX_LOGIN_REPLY, self._deadline)
            reply += chunk
            if not chunk or len(reply) > MAX_LOGIN_REPLY:
                raise BackendError(LOGIN, f"the server replied {reply[:60]!r}" if reply else "the server closed the connection")
        return reply


def _log_in(exchange: _LoginExchange, user: bytes, password: bytes) -> None:
    """The password is sent only to a server that requires authentication: another one would store it, as an item that every client can read."""
    if exchange.request(b"version\r\n", _is_line).startswith(b"VERSION "):
        return
    login = b"%b %b" % (user, password)
    reply = exchange.request(b"set login 0 0 %d\r\n%b\r\n" % (len(login), login), _is_line)
    if reply != b"STORED\r\n":
        raise BackendError(LOGIN, f"the server replied {reply!r}")


def _log_in_by_sasl(exchange: _LoginExchange, user: bytes, password: bytes) -> None:
    """As _log_in. A server without SASL does not know the command that lists the mechanisms."""
    mechanisms = _request_binary(exchange, packets.request_packet(packets.SASL_MECHANISMS))
    if mechanisms.status == packets.UNKNOWN_COMMAND:
        return
    if packets.PLAIN not in mechanisms.value.split():
        raise BackendError(LOGIN, f"the server does not support SASL {packets.PLAIN.decode()}, only {mechanisms.value!r}")
    reply = _request_binary(exchange, packets.request_packet(packets.SASL_AUTH, packets.PLAIN, value=b"\0%b\0%b" % (user, password)))
    if reply.status != packets.OK:
        raise BackendError(LOGIN, f"the server replied {reply.value!r}")


_LOGINS = {"text": _log_in, "binary": _log_in_by_sasl}


def _is_line(reply: bytes) -> bool:
    return reply.endswith(b"\r\n")


def _request_binary(exchange: _LoginExchange, packet: bytes) -> Any:
    try:
        return packets.parse_packets(exchange.request(packet, packets.parse_packets))[0]
    except ValueError as error:
        raise BackendError(LOGIN, str(error)) from None
