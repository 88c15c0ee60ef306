"""What the proxy itself has to say to a memcached server, on a connection of its own: is it alive, which process is it, forget these keys."""

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

#: What `stats` tells of a server. `pid` and `uptime` (seconds) are None if it does not say.
Identity = namedtuple("Identity", "pid uptime version")

MAX_ANSWER = 256 * 1024  # bytes; what memcached answers to `stats` is below 4 KiB
RECV_SIZE = 16 * 1024

_ERRORS = (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")


def connect(server: Server, options: Any, connect_timeout: float, timeout: float) -> "ControlConnection":
    """A Conversation with `server` (gmproxy.placement.server_spec.Server), in the protocol and as the user that the `options` of its pool say. Raises
    BackendError."""
    sock = connect_socket(server, connect_timeout, users=options.server_auth_file, protocol=options.backend_protocol)
    return (_BinaryConnection if options.backend_protocol == "binary" else _TextConnection)(sock, timeout)


def introduce_proxy(sock: socket.socket, options: Any) -> bool:
    """Tell the backup at the connected, non-blocking `sock` that its client is a proxy that copies to it, lest it copies that again. Returns
    True if it is a gmproxy itself. In a greenlet. Raises BackendError, with `sock` still open."""
    connection = (_BinaryConnection if options.backend_protocol == "binary" else _TextConnection)(sock, options.timeout)
    return bool(connection.stats(internal_commands.WE_COPY_TO_YOU))


class ControlConnection:
    """A connection of our own to a server, with `timeout` seconds for each question. Use it in a `with`. For greenlets.

    Everything here raises BackendError. `sock` does not block.
    """

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self._timeout = timeout

    def __enter__(self) -> "ControlConnection":
        return self

    def __exit__(self, *failure: object) -> None:
        self._sock.close()

    def ping(self) -> None:
        """Prove that a memcached answers."""
        raise NotImplementedError

    def identify(self) -> Identity:
        """The server's Identity."""
        facts = dict(self.stats())
        return Identity(_number(facts.get("pid")), _number(facts.get("uptime")), facts.get("version", ""))

    def stats(self, arguments: bytes = b"") -> list[tuple[str, str]]:
        """What it says to `stats` with these arguments: [(name, value)]. Nothing, if it does not know them."""
        raise NotImplementedError

    def delete(self, keys: Collection[bytes], rest: float = 0.0) -> None:
        """See to it that the server has none of `keys`. It answers in many pieces: after `rest` seconds they can be read at once."""
        raise NotImplementedError

    def flush(self) -> None:
        """See to it that the server has nothing."""
        raise NotImplementedError

    def _exchange(self, name: str, question: bytes, is_whole: Callable[[bytes], object], rest: float = 0.0) -> bytes:
        """The answer, once it `is_whole`, to what stands in the log as `name`."""
        deadline = Deadline(self._timeout)
        try:
            send_all(self._sock, question, deadline)
            if rest:
                deadline.sleep(rest)
            answer = b""
            while not is_whole(answer):
                if len(answer) > MAX_ANSWER:
                    raise BackendError(PROTOCOL, "an answer without end")
                chunk = receive(self._sock, RECV_SIZE, deadline)
                if not chunk:
                    raise BackendError(CLOSED)
                answer += chunk
            return answer
        except TimeoutError:
            raise BackendError(TIMEOUT, f"no answer to {name}") from None
        except OSError as error:
            raise BackendError(RESET, str(error)) from error


class _TextConnection(ControlConnection):
    def ping(self) -> None:
        answer = self._exchange("version", b"version\r\n", lambda answer: answer.endswith(b"\r\n"))
        if not answer.startswith(b"VERSION "):
            raise BackendError(PROTOCOL, f"version was answered {answer[:60]!r}")

    def stats(self, arguments: bytes = b"") -> list[tuple[str, str]]:
        question = b"stats %b\r\n" % arguments if arguments else b"stats\r\n"
        answer = self._exchange(
            "stats", question, lambda answer: answer.endswith((b"END\r\n", b"ERROR\r\n", b"RESET\r\n")) or answer.startswith(_ERRORS)
        )
        words = [line.split(b" ", 2) for line in answer.split(b"\r\n")]
        return [_fact(name, value) for what, name, value in (each for each in words if len(each) == 3) if what == b"STAT"]

    def delete(self, keys: Collection[bytes], rest: float = 0.0) -> None:
        answer = self._exchange("delete", internal_commands.delete_all(keys), lambda answer: answer.count(b"\n") >= len(keys), rest)
        for line in set(answer.splitlines()) - internal_commands.DELETED_REPLIES:
            raise BackendError(PROTOCOL, f"delete was answered {line[:60]!r}")

    def flush(self) -> None:
        answer = self._exchange("flush_all", b"flush_all\r\n", lambda answer: answer.endswith(b"\r\n"))
        if answer != b"OK\r\n":
            raise BackendError(PROTOCOL, f"flush_all was answered {answer[:60]!r}")


class _BinaryConnection(ControlConnection):
    def ping(self) -> None:
        self._do("version", [packets.request_packet(packets.VERSION)])

    def stats(self, arguments: bytes = b"") -> list[tuple[str, str]]:
        def is_whole(answers: list[Any]) -> bool:
            return bool(answers) and not (answers[-1].key and answers[-1].status == packets.OK)

        return [
            _fact(answer.key, answer.value)
            for answer in self._exchange_packets("stats", packets.request_packet(packets.STAT, arguments), is_whole)
            if answer.key
        ]

    def delete(self, keys: Collection[bytes], rest: float = 0.0) -> None:
        self._do("delete", [packets.request_packet(packets.DELETE, key) for key in keys], (packets.OK, packets.NOT_FOUND), rest)

    def flush(self) -> None:
        self._do("flush_all", [packets.request_packet(packets.FLUSH)])

    def _do(self, name: str, questions: list[bytes], may_answer: tuple[int, ...] = (packets.OK,), rest: float = 0.0) -> None:
        for answer in self._exchange_packets(name, b"".join(questions), lambda answers: len(answers) >= len(questions), rest):
            if answer.status not in may_answer:
                raise BackendError(PROTOCOL, f"{name} was answered {answer.value[:60]!r}")

    def _exchange_packets(self, name: str, question: bytes, are_all: Callable[[list[Any]], object], rest: float = 0.0) -> list[Any]:
        """The Answers to `question`."""
        try:
            return packets.parse_packets(self._exchange(name, question, lambda answer: are_all(packets.parse_packets(answer)), rest))
        except ValueError as error:
            raise BackendError(PROTOCOL, str(error)) from None


def _fact(name: bytes, value: bytes) -> tuple[str, str]:
    return name.decode("ascii", "replace"), value.decode("ascii", "replace")


def _number(text: str | None) -> int | None:
    return plain_number(text) if text else None
