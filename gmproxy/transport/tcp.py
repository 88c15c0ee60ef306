"""Options of TCP connections, and their peers as log lines show them."""

import os
import socket
from typing import Any

#: TCP keepalive: the kernel probes a connection after KEEPALIVE_IDLE seconds without traffic, then every KEEPALIVE_INTERVAL seconds, and closes
#: it after KEEPALIVE_COUNT probes without a reply.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 10
KEEPALIVE_COUNT = 3

#: An address of the socket module: (host, port, ...) for TCP; a path, or b"", for a unix socket.
SocketAddress = tuple[Any, ...] | str | bytes


def tune(sock: socket.socket, keepalive: bool = True) -> None:
    """Set TCP_NODELAY, and enable or disable TCP keepalive. Accepted connections inherit both from the listening socket. Raises OSError."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(keepalive))
    if not keepalive:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)


def host_and_port(address: SocketAddress) -> str:
    """`address` as in log lines: "host:port", or "unix" for a unix socket."""
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unix"


def peer_name(fd: int) -> str:
    """The peer of the connected socket `fd` as in log lines: "host:port", "unix" for a unix socket, or "disconnected"."""
    sock = socket.socket(fileno=fd)
    try:
        return host_and_port(sock.getpeername())
    except OSError:
        return "disconnected"
    finally:
        sock.detach()


def accept(listening: int) -> tuple[int, SocketAddress] | None:
    """Accept the next connection at the listening socket `listening`, which is non-blocking. Returns (descriptor, address of the peer), the
    descriptor also non-blocking, or None if no connection waits. Raises OSError. Without the address, PLAIN.accept is faster."""
    sock = socket.socket(fileno=listening)
    try:
        fd, address = sock._accept()  # type: ignore[attr-defined]
    except BlockingIOError:
        return None
    finally:
        sock.detach()
    os.set_blocking(fd, False)
    return fd, address
