"""Connections to memcached servers. The first floor that knows sockets; everything here may wait, in a greenlet of its own."""

import socket

from gmproxy.errors import CONNECTING, BackendError

#: A connection that is silent for this long is asked by the kernel whether the peer is still there; seconds.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 10
KEEPALIVE_COUNT = 3


def connect(server, timeout, keepalive=True):
    """A connected, non-blocking socket to `server` (gmproxy.address.Server), within `timeout` seconds.

    Raises BackendError("connecting").
    """
    try:
        if server.unix_path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(timeout)
                sock.connect(server.unix_path)
            except BaseException:
                sock.close()
                raise
        else:
            sock = socket.create_connection((server.host, server.port), timeout)
            tune(sock, keepalive)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be asked for
        raise BackendError(CONNECTING, getattr(error, "strerror", None) or str(error)) from error
    sock.setblocking(False)
    return sock


def tune(sock, keepalive=True):
    """Options of every TCP connection: send at once and, with `keepalive`, notice a peer that vanished."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not keepalive:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
