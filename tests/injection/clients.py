"""Clients that accept any reply that memcached's protocol allows, and report violations: no reply, two replies, a wrong value.

An `Actor` sends the requests of a part of the scenario; a `Bystander` writes and reads its own keys all the time.
"""

import itertools
import threading
import time
from collections.abc import Callable

from support import packets
from support.talk import Talk, storage
from support.timing import PATIENCE, join

#: Seconds after which a missing reply will never arrive: every timeout of the proxy under test is much shorter.
HUNG_AFTER = PATIENCE / 2

#: Seconds between two requests of a bystander: on a host with two processors the proxy needs time for other clients.
REST = 0.002

INTERNAL = b"SERVER_ERROR internal error"


class Wrong(Exception):
    """A client received what it must never receive. It fails the test."""


class Actor:
    """One client. It connects again after its connection was closed.

    closed      how often the proxy closed its connection
    internal    replies with an internal error
    answered    all replies
    last_error  why the connection was lost the last time
    """

    def __init__(self, connect: Callable[[], Talk], login: bytes = b"") -> None:
        self.closed = self.internal = self.answered = 0
        self.last_error: Exception | None = None
        self._connect = connect
        self._login = login
        self._talk: Talk | None = None

    def __enter__(self) -> "Actor":
        return self

    def __exit__(self, *failure: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        if self._talk is not None:
            self._talk.close()
            self._talk = None

    @property
    def is_victim(self) -> bool:
        return bool(self.closed or self.internal)

    def ask(self, request: bytes, answers: int = 1) -> list[bytes] | None:
        """The replies to `request`, or None if the connection was closed. Raises Wrong if replies are missing or too many."""
        return self._in_turn(request, lambda talk: [self._read_text(talk) for _ in range(answers)])

    def list_keys(self) -> list[bytes] | None:
        """The same for a listing of keys, whose lines but the last end in LF."""

        def read(talk: Talk) -> list[bytes]:
            line = talk.read_line()
            return [line + talk.read_line() if line == b"OK\r\n" else line]

        return self._in_turn(b"lru_crawler metadump all\r\n", read)

    def ask_packets(self, request: bytes) -> list[packets.Answer] | None:
        """The same for packets of the binary protocol."""
        return self._in_turn(b"", lambda talk: packets.ask(talk, request))

    def say(self, request: bytes) -> None:
        """Send `request`, which has no reply. The next `ask` notices if one arrives."""
        self._in_turn(request, lambda talk: [])

    def _in_turn(self, request: bytes, read: Callable[[Talk], list]) -> list | None:
        try:
            if self._talk is None:
                self._talk = self._connect()
                self._talk.socket.settimeout(HUNG_AFTER)
                if self._login:
                    self._talk.ask(self._login)
            self._talk.send(request)
            answers = read(self._talk)
        except (AssertionError, OSError) as error:
            self.hang_up()
            if "nothing more comes" in str(error) or isinstance(error, TimeoutError):
                raise Wrong(f"no answer to {request[:200]!r}: {error}") from None
            self.closed += 1
            self.last_error = error
            return None
        self.answered += len(answers)
        return answers

    def _read_text(self, talk: Talk) -> bytes:
        """One reply: a line, with the values before it or the data block after it."""
        answer = line = talk.read_line()
        while line.startswith((b"VALUE ", b"STAT ", b"ITEM ")):
            if line.startswith(b"VALUE "):
                answer += talk.read_exactly(int(line.split()[3]) + 2)
            line = talk.read_line()
            answer += line
        if line.startswith(b"VA "):
            answer += talk.read_exactly(int(line.split()[1]) + 2)
        self.internal += line.startswith(INTERNAL)
        return answer


class Bystander(Actor):
    """Writes and reads its own keys, in a thread, and checks the values that it reads."""

    KEYS = 5

    def __init__(self, name: str, connect: Callable[[], Talk], login: bytes = b"") -> None:
        super().__init__(connect, login)
        self.trouble: list[str] = []
        self._name = name
        self._over = threading.Event()
        self._allowed: dict[bytes, set[bytes]] = {b"%s:%d" % (name.encode(), number): set() for number in range(self.KEYS)}
        self._thread = threading.Thread(target=self._run, name=name)

    def __str__(self) -> str:
        state = "alive" if self._thread.is_alive() else "ended"
        return f"{self._name}: {self.answered} answered, {self.closed} closed, {self.last_error!r}, {state}"

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            join(self._thread)
        self.hang_up()

    def forgive(self) -> None:
        """Forget the closed connections, the internal errors and the troubles so far."""
        self.closed = self.internal = 0
        self.trouble = []

    def _run(self) -> None:
        for number in itertools.count():
            if self._over.is_set():
                return
            try:
                self._take_turn(number)
            except Wrong as error:
                self.trouble.append(f"{self._name}: {error}")
            except ConnectionError as error:
                self.closed += 1
                self.last_error = error
            time.sleep(REST)

    def _take_turn(self, number: int) -> None:
        keys = list(self._allowed)
        key = keys[number % len(keys)]
        if number % 3 == 0:
            self._write(key, b"%s=%d" % (key, number))
        elif number % 3 == 1:
            self._read([key])
        else:
            self._read(keys)

    def _write(self, key: bytes, data: bytes) -> None:
        self._allowed[key].add(data)  # the set may be executed, even if the reply is an error
        answers = self.ask(storage(b"set", key, data))
        if answers == [b"STORED\r\n"]:
            self._allowed[key] = {data}
        elif answers is not None and not answers[0].startswith((b"SERVER_ERROR ",)):
            raise Wrong(f"a set was answered {answers[0]!r}")

    def _read(self, keys: list[bytes]) -> None:
        answers = self.ask(b"get %b\r\n" % b" ".join(keys))
        if answers is None:
            return
        rest = answers[0]
        while rest.startswith(b"VALUE "):
            line, _, rest = rest.partition(b"\r\n")
            _, key, _, length = line.split()
            data, rest = rest[: int(length)], rest[int(length) + 2 :]
            if key not in keys or data not in self._allowed[key]:
                raise Wrong(f"{key!r} is {data!r}, and may be {self._allowed.get(key)}")
        if rest != b"END\r\n" and not rest.startswith(b"SERVER_ERROR "):
            raise Wrong(f"a get ends with {rest!r}")
