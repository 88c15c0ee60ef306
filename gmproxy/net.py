"""Connections to memcached servers. The first floor that knows sockets; everything here may wait, in a greenlet of its own."""

import socket

from gmproxy.errors import CONNECTING, LOGIN, BackendError
from gmproxy.protocol import packets

#: A connection that is silent for this long is asked by the kernel whether the peer is still there; seconds.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 10
KEEPALIVE_COUNT = 3

#: Bytes of the line, or packet, in which a server says whether it lets us in.
MAX_WELCOME = 1024


def connect(server, timeout, keepalive=True, users=None, protocol="text"):
    """A connected, non-blocking socket to `server` (gmproxy.address.Server), each step within `timeout` seconds.

    `users`, a gmproxy.users.Users with one user, says who we are where the server wants to know; by SASL where the `protocol` is binary.

    Raises BackendError("connecting") or ("login").
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
        if users:
            _LOGINS[protocol](sock, *users.only())
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be asked for
        raise BackendError(CONNECTING, getattr(error, "strerror", None) or str(error)) from error
    sock.setblocking(False)
    return sock


def _log_in(sock, user, password):
    """Only a server that asks who we are is told: one that does not would keep the password as an item that anybody can read."""
    try:
        if _ask(sock, b"version\r\n", _is_line).startswith(b"VERSION "):
            return
        login = b"%b %b" % (user, password)
        answer = _ask(sock, b"set login 0 0 %d\r\n%b\r\n" % (len(login), login), _is_line)
        if answer != b"STORED\r\n":
            raise BackendError(LOGIN, f"the server said {answer!r}")
    except BaseException:
        sock.close()
        raise


def _log_in_by_sasl(sock, user, password):
    """Here, too, only a server that asks is told: one without SASL does not know of any mechanisms."""
    try:
        mechanisms = _ask_binary(sock, packets.request(packets.SASL_MECHANISMS))
        if mechanisms.status == packets.UNKNOWN_COMMAND:
            return
        if packets.PLAIN not in mechanisms.value.split():
            raise BackendError(LOGIN, f"the server lets nobody in by {packets.PLAIN.decode()}, but by {mechanisms.value!r}")
        answer = _ask_binary(sock, packets.request(packets.SASL_AUTH, packets.PLAIN, value=b"\0%b\0%b" % (user, password)))
        if answer.status != packets.OK:
            raise BackendError(LOGIN, f"the server said {answer.value!r}")
    except BaseException:
        sock.close()
        raise


_LOGINS = {"text": _log_in, "binary": _log_in_by_sasl}


def _is_line(answer):
    return answer.endswith(b"\r\n")


def _ask_binary(sock, question):
    try:
        return packets.answers(_ask(sock, question, packets.answers))[0]
    except ValueError as error:
        raise BackendError(LOGIN, str(error)) from None


def _ask(sock, question, is_whole):
    sock.sendall(question)
    answer = b""
    while not is_whole(answer):
        chunk = sock.recv(MAX_WELCOME)
        answer += chunk
        if not chunk or len(answer) > MAX_WELCOME:
            raise BackendError(LOGIN, f"the server said {answer[:60]!r}" if answer else "the server closed the connection")
    return answer


def peer(fd):
    """host:port of who is at the other end of the connected socket `fd`; "unix" at a unix socket, "gone" if nobody is."""
    sock = socket.socket(fileno=fd)
    try:
        return host_and_port(sock.getpeername())
    except OSError:
        return "gone"
    finally:
        sock.detach()


def host_and_port(address):
    """As log lines have the `address` of a client; at a unix socket there is none."""
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unix"


def tune(sock, keepalive=True):
    """Options of every TCP connection: send at once and, with `keepalive`, notice a peer that vanished. Connections have them from the
    listening socket that they came by."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(keepalive))
    if not keepalive:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
