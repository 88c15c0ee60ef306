"""Connections that are reset, closed or never accepted, and whether there is IPv6."""

import socket
import struct
from contextlib import contextmanager, suppress

import pytest

from support.servers import HOST, has_ipv6
from support.timing import PATIENCE

#: With this option close() sends RST and discards unsent bytes.
LINGER_RESET = struct.pack("ii", 1, 0)


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


def reset(sock):
    """Close `sock` so that its peer receives RST. Never raises."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    with suppress(OSError):
        sock.close()


def is_closed(sock):
    """Wait until the peer of `sock` closes it, also with a reset. Returns False if bytes arrive instead."""
    sock.settimeout(PATIENCE)
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True


@contextmanager
def full_listener(port=0):
    """(host, port) of a listener whose queue is full: connecting to it times out, as behind a firewall that drops packets."""
    with socket.socket() as listener:
        listener.bind((HOST, port))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()
        for sock in waiting:
            sock.close()
