"""The proxy's own requests to a memcached server, on a connection apart from those of clients: probe it, identify its process, delete keys.

Greenlets only: every request blocks until its reply, for up to the timeout of the connection.
"""

import socket
from collections import namedtuple
from collections.abc import Callable, Collection
from typing import Any

from gmproxy.backend.connect import connect as connect_socket
from gmproxy.errors import CLOSED, PROTOCOL, RESET, TIMEOUT, BackendError
from gmproxy.placement.server_spec import Server
from gmproxy.protocol import internal_commands
from gmproxy.protocol.binary import packets
from gmproxy.protocol.numbers import plain_number
from gmproxy.transport.deadline import Deadline, receive, send_all

#: A server, by its reply to `stats`. `pid` and `uptime` (seconds) are None if the reply lacks them.
Identity = namedtuple("Identity", "pid uptime version")

#: Maximum bytes of a reply. That of memcached to `stats` is below 4 KiB.
MAX_REPLY = 256 * 1024
RECV_SIZE = 16 * 1024

_ERRORS = (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")


def connect(server: Server, options: Any, connect_timeout: float, timeout: float) -> "ControlConnection":
    """Connect to `server`, with the protocol and the user of the `options` of its pool. `connect_timeout`, `timeout`: seconds for the connection, and
    for each request. Raises BackendError."""
    sock = connect_socket(server, connect_timeout, users=options.server_auth_file, protocol=options.backend_protocol)
    return (_BinaryConnection if options.backend_protocol == "binary" else _TextConnection)(sock, timeout)


def introduce_proxy(sock: socket.socket, options: Any) -> bool:
    """Report to the backup at the connected, non-blocking `sock` that its client is a proxy that sends copies. A backup that is a gmproxy
    then does not copy them again. Returns True if it is one. Raises BackendError; `sock` stays open."""
    connection = (_BinaryConnection if options.backend_protocol == "binary" else _TextConnection)(sock, options.timeout)
    return bool(connection.stats(internal_commands.WE_COPY_TO_YOU))


class ControlConnection:
    """The connected, non-blocking `sock`, with `timeout` seconds for each request. A context manager, which closes it. All methods raise
    BackendError."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self._timeout = timeout

    def __enter__(self) -> "ControlConnection":
        return self

    def __exit__(self, *failure: object) -> None:
        self._sock.close()

    def ping(self) -> None:
        """Raises BackendError unless a memcached replies."""
        raise NotImplementedError

    def identify(self) -> Identity:
        facts = dict(self.stats())
        return Identity(_number(facts.get("pid")), _number(facts.get("uptime")), facts.get("version", ""))

    def stats(self, arguments: bytes = b"") -> list[tuple[str, str]]:
        """[(name, value)] of the reply to `stats` with `arguments`. An error line is an empty reply."""
        raise NotImplementedError

    def delete(self, keys: Collection[bytes], rest: float = 0.0) -> None:
        """Delete `keys`. The replies are read after `rest` seconds: by then all of them have arrived, mostly, and few receive calls are needed."""
        raise NotImplementedError

    def flush(self) -> None:
        """flush_all."""
        raise NotImplementedError

    def _exchange(self, name: str, data: bytes, is_complete: Callable[[bytes], object], rest: float = 0.0) -> bytes:
        """Send `data` and return the reply, once it `is_complete`. `name`: of the command, for the log."""
        deadline = Deadline(self._timeout)
        try:
            send_all(self._sock, data, deadline)
            if rest:
                deadline.sleep(rest)
            reply = b""
            while not is_complete(reply):
                if len(reply) > MAX_REPLY:
                    raise BackendError(PROTOCOL, f"reply to {name} longer than {MAX_REPLY} bytes")
                chunk = receive(self._sock, RECV_SIZE, deadline)
                if not chunk:
                    raise BackendError(CLOSED)
                reply += chunk
            return reply
        except TimeoutError:
            raise BackendError(TIMEOUT, f"no reply to {name}") from None
        except OSError as error:
            raise BackendError(RESET, str(error)) from error


class _TextConnection(ControlConnection):
    def ping(self) -> None:
        reply = self._exchange("version", b"version\r\n", lambda reply: reply.endswith(b"\r\n"))
        if not reply.startswith(b"VERSION "):
            raise BackendError(PROTOCOL, f"unexpected reply to version: {reply[:60]!r}")

    def stats(self, arguments: bytes = b"") -> list[tuple[str, str]]:
        line = b"stats %b\r\n" % arguments if arguments else b"stats\r\n"
        reply = self._exchange(
            "stats", line, lambda reply: reply.endswith((b"END\r\n", b"ERROR\r\n", b"RESET\r\n")) or reply.startswith(_ERRORS)
        )
        lines = [line.split(b" ", 2) for line in reply.split(b"\r\n")]
        return [_stat(words[1], words[2]) for words in lines if len(words) == 3 and words[0] == b"STAT"]

    def delete(self, keys: Collection[bytes], rest: float = 0.0) -> None:
        reply = self._exchange("delete", internal_commands.delete_all(keys), lambda reply: reply.count(b"\n") >= len(keys), rest)
        for line in set(reply.splitlines()) - internal_commands.DELETED_REPLIES:
            raise BackendError(PROTOCOL, f"unexpected reply to delete: {line[:60]!r}")

    def flush(self) -> None:
        reply = self._exchange("flush_all", b"flush_all\r\n", lambda reply: reply.endswith(b"\r\n"))
        if reply != b"OK\r\n":
            raise BackendError(PROTOCOL, f"unexpected reply to flush_all: {reply[:60]!r}")


class _BinaryConnection(ControlConnection):
    def ping(self) -> None:
        self._exchange_each("version", [packets.request_packet(packets.VERSION)])

    def stats(self, arguments: bytes = b"") -> list[tuple[str, str]]:
        def is_complete(replies: list[Any]) -> bool:
            return bool(replies) and not (replies[-1].key and replies[-1].status == packets.OK)

        replies = self._exchange_packets("stats", packets.request_packet(packets.STAT, arguments), is_complete)
        return [_stat(reply.key, reply.value) for reply in replies if reply.key]

    def delete(self, keys: Collection[bytes], rest: float = 0.0) -> None:
        self._exchange_each("delete", [packets.request_packet(packets.DELETE, key) for key in keys], (packets.OK, packets.NOT_FOUND), rest)

    def flush(self) -> None:
        self._exchange_each("flush_all", [packets.request_packet(packets.FLUSH)])

    def _exchange_each(self, name: str, requests: list[bytes], expected: tuple[int, ...] = (packets.OK,), rest: float = 0.0) -> None:
        """Send `requests`, each of which gets one reply, with one of the statuses `expected`."""
        for reply in self._exchange_packets(name, b"".join(requests), lambda replies: len(replies) >= len(requests), rest):
            if reply.status not in expected:
                raise BackendError(PROTOCOL, f"unexpected reply to {name}: {reply.value[:60]!r}")

    def _exchange_packets(self, name: str, data: bytes, are_complete: Callable[[list[Any]], object], rest: float = 0.0) -> list[Any]:
        """As _exchange, with the parsed packets of the reply."""
        try:
            return packets.parse_packets(self._exchange(name, data, lambda reply: are_complete(packets.parse_packets(reply)), rest))
        except ValueError as error:
            raise BackendError(PROTOCOL, str(error)) from None


def _stat(name: bytes, value: bytes) -> tuple[str, str]:
    return name.decode("ascii", "replace"), value.decode("ascii", "replace")


def _number(text: str | None) -> int | None:
    return plain_number(text) if text else None
