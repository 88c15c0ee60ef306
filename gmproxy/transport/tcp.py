"""Options of TCP connections, and the names of their peers."""

import os
import socket

#: A connection without traffic is probed by the kernel after so many seconds, then at this interval, and closed after so many probes.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 10
KEEPALIVE_COUNT = 3

#: An address as the socket module has it: (host, port, ...) for TCP, a path or b"" for a unix socket.
SocketAddress = tuple | str | bytes


def tune(sock: socket.socket, keepalive: bool = True) -> None:
    """Set TCP_NODELAY and, with `keepalive`, TCP keepalive. Accepted connections inherit both from their listening socket."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(keepalive))
    if not keepalive:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)


def host_and_port(address: SocketAddress) -> str:
    """`address` as log lines show it: "host:port", or "unix" for a unix socket."""
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unix"


def peer_name(fd: int) -> str:
    """The peer of the connected socket `fd` as log lines show it: "host:port", "unix" for a unix socket, "gone" if it has disconnected."""
    sock = socket.socket(fileno=fd)
    try:
        return host_and_port(sock.getpeername())
    except OSError:
        return "gone"
    finally:
        sock.detach()


def accept(listening: int) -> tuple[int, SocketAddress] | None:
    """(descriptor, address) of the next connection at the listening socket `listening`, not blocking; None if there is none. Raises OSError.
    For who wants the address, else there is PLAIN.accept."""
    sock = socket.socket(fileno=listening)
    try:
        fd, address = sock._accept()  # type: ignore[attr-defined]
    except BlockingIOError:
        return None
    finally:
        sock.detach()
    os.set_blocking(fd, False)
    return fd, address
