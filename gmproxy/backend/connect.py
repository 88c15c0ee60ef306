"""Connections to memcached servers. Everything that waits here does so in a greenlet of its own, until a deadline."""

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

#: Bytes of the line, or packet, in which a server says whether it lets us in.
MAX_WELCOME = 1024

#: Seconds until a unix socket whose server accepts too slowly is tried again: the kernel reports nothing when there is room.
UNIX_RETRY = 0.01

#: What this process or machine lacks, and no server can help: descriptors, memory, room in the kernel.
_LACKS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN}

_IN_PROGRESS = {errno.EINPROGRESS, errno.EALREADY, errno.EINTR}


def connect(
    server: Server, timeout: float, keepalive: bool = True, users: Credentials | None = None, protocol: str = "text"
) -> socket.socket:
    """A connected, non-blocking socket to `server` (gmproxy.placement.server_spec.Server). For greenlets.

    `timeout` seconds are for all of it: the lookup of the name, and the connection to whichever of its addresses answers. A login has as
    long again. `users`, a gmproxy.config.credentials.Credentials with one user, says who we are where the server wants to know; by SASL where the
    `protocol` is binary.

    Raises BackendError("connecting") or ("login"), and LocalError ("connecting", or "overload" for what we lack) where the server
    is not to blame.
    """
    try:
        sock = _open(server, Deadline(timeout))
        try:
            if not server.unix_path:
                tcp.tune(sock, keepalive)
            if users:
                _LOGINS[protocol](_Welcome(sock, Deadline(timeout)), *users.single())
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise _trouble(error) from error
    except MemoryError as error:
        raise LocalError(OVERLOAD, "out of memory") from error
    return sock


def _trouble(error: OSError) -> BackendError:
    """The BackendError that stands for an OSError."""
    detail = error.strerror or str(error)
    return LocalError(OVERLOAD, detail) if error.errno in _LACKS else BackendError(CONNECTING, detail)


def _open(server: Server, deadline: Deadline) -> socket.socket:
    if server.unix_path:
        return _open_unix(server.unix_path, deadline)
    addresses = names.addresses(server.host, server.port, deadline)
    trouble: OSError | BackendError = OSError(errno.EHOSTUNREACH, "no address")  # replaced: there is at least one
    for number, address in enumerate(addresses):
        try:
            sock = _open_tcp(address, deadline.share(len(addresses) - number))
        except LocalError as error:
            trouble = error
        except OSError as error:
            if error.errno in _LACKS:
                raise  # the next address would meet the same
            if not isinstance(trouble, LocalError):
                trouble = error
        else:
            names.reached(server.host, address)
            return sock
    raise trouble


def _open_tcp(address: Address, deadline: Deadline) -> socket.socket:
    """Raises OSError, or LocalError for want of a local port."""
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        status = sock.connect_ex(where)
        if status in _IN_PROGRESS:
            deadline.wait_writable(sock.fileno())
            status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status == errno.EADDRNOTAVAIL and _has_source(address):
            raise LocalError(OVERLOAD, "no local port is free")
        if status:
            raise OSError(status, os.strerror(status))
    except BaseException:
        sock.close()
        raise
    return sock


def _has_source(address: Address) -> bool:
    """True if this machine has an address from which it could reach `address`. Else, as without IPv6, connect() says what it says where
    all local ports are in use. Nothing is sent: UDP has ports of its own."""
    family, where = address
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            return sock.connect_ex(where) == 0
    except OSError:
        return True  # we lack more than a port


def _open_unix(path: str, deadline: Deadline) -> socket.socket:
    """Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while status := sock.connect_ex(path):
            if status == errno.EAGAIN:  # the server has not accepted those before us
                deadline.sleep(UNIX_RETRY)
            elif status != errno.EINTR:
                raise OSError(status, os.strerror(status))
    except BaseException:
        sock.close()
        raise
    return sock


class _Welcome:
    """The first words with a server, until the `deadline`. `sock` is connected and does not block."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def ask(self, question: bytes, is_whole: Callable[[bytes], object]) -> bytes:
        """The answer, once it `is_whole`. Raises OSError, BackendError."""
        send_all(self._sock, question, self._deadline)
        answer = b""
        while not is_whole(answer):
            chunk = receive(self._sock, MAX_WELCOME, self._deadline)
            answer += chunk
            if not chunk or len(answer) > MAX_WELCOME:
                raise BackendError(LOGIN, f"the server said {answer[:60]!r}" if answer else "the server closed the connection")
        return answer


def _log_in(welcome: _Welcome, user: bytes, password: bytes) -> None:
    """Only a server that asks who we are is told: one that does not would keep the password as an item that anybody can read."""
    if welcome.ask(b"version\r\n", _is_line).startswith(b"VERSION "):
        return
    login = b"%b %b" % (user, password)
    answer = welcome.ask(b"set login 0 0 %d\r\n%b\r\n" % (len(login), login), _is_line)
    if answer != b"STORED\r\n":
        raise BackendError(LOGIN, f"the server said {answer!r}")


def _log_in_by_sasl(welcome: _Welcome, user: bytes, password: bytes) -> None:
    """Here, too, only a server that asks is told: one without SASL does not know of any mechanisms."""
    mechanisms = _ask_binary(welcome, packets.request_packet(packets.SASL_MECHANISMS))
    if mechanisms.status == packets.UNKNOWN_COMMAND:
        return
    if packets.PLAIN not in mechanisms.value.split():
        raise BackendError(LOGIN, f"the server lets nobody in by {packets.PLAIN.decode()}, but by {mechanisms.value!r}")
    answer = _ask_binary(welcome, packets.request_packet(packets.SASL_AUTH, packets.PLAIN, value=b"\0%b\0%b" % (user, password)))
    if answer.status != packets.OK:
        raise BackendError(LOGIN, f"the server said {answer.value!r}")


_LOGINS = {"text": _log_in, "binary": _log_in_by_sasl}


def _is_line(answer: bytes) -> bool:
    return answer.endswith(b"\r\n")


def _ask_binary(welcome: _Welcome, question: bytes) -> Any:
    try:
        return packets.parse_packets(welcome.ask(question, packets.parse_packets))[0]
    except ValueError as error:
        raise BackendError(LOGIN, str(error)) from None
