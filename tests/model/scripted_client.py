"""A client of the model: it sends the steps of its script and keeps the history of its commands."""

from model.adapter import Worker
from model.clients import Command, Script, operations, take_reply
from model.explorer import Violation
from model.promises import ERROR, Operation

#: What a command of a client counts as whose connection is closed.
NO_REPLY = b"SERVER_ERROR no reply\r\n"


class Client:
    """
    number    1, 2 ...; a reader at the end has 0 or less
    worker    that it is connected to
    history   (key, Operation) of all commands with replies
    """

    def __init__(self, number: int, script: Script, worker: Worker) -> None:
        self.number = number
        self.worker = worker
        self.history: list[tuple[bytes, Operation]] = []
        self._steps = list(script)
        self._end = worker.accept()
        self._waiting: list[Command] = []
        self._received = b""
        self._last_reply = b""
        self._began = 0
        self._turn = 0
        self._settled = 0

    def may_send(self) -> bool:
        return bool(self._steps) and not self._waiting

    def is_finished(self) -> bool:
        return not self._steps and not self._waiting

    def words(self) -> str:
        return ", ".join(as_words(command.line) for command in self._next_commands())

    def _next_commands(self) -> list[Command]:
        step = self._steps[0]
        return step(self._last_reply) if callable(step) else step

    def send(self, now: int) -> None:
        """Within Proxy.acting of its worker."""
        commands = self._next_commands()
        del self._steps[0]
        self.ask(commands, now)

    def ask(self, commands: list[Command], now: int) -> None:
        self._began = now
        self._waiting = list(commands)
        self._end.send(b"".join(command.line for command in commands))

    def receive(self, now: int) -> list[Operation]:
        """Read the replies that have arrived. Returns the operations that have ended."""
        self._received += self._end.receive()
        before = len(self.history)
        while self._received:
            if not self._waiting:
                raise Violation(f"client {self.number} has got {self._received!r} without having asked")
            taken = take_reply(self._waiting[0], self._received)
            if taken is None:
                break
            reply, self._received = taken
            self._end_command(reply, now)
        return [operation for _, operation in self.history[before:]]

    def _end_command(self, reply: bytes, now: int) -> None:
        self._last_reply = reply
        self._turn += 1
        self.history += operations(self._waiting.pop(0), reply, self._began, now, self.number, self._turn)

    def settle(self, now: int) -> None:
        """No request is in progress that was sent for this client: the operations since the last call have ended now, on all servers."""
        if not self._waiting:
            for index in range(self._settled, len(self.history)):
                key, operation = self.history[index]
                self.history[index] = key, operation._replace(ended=now)
            self._settled = len(self.history)

    def disconnect(self, now: int) -> None:
        """Its worker has died: it gets no more replies, and sends nothing more."""
        self._steps = []
        while self._waiting:
            self._end_command(NO_REPLY, now)

    def adopted(self, now: int) -> None:
        """Another worker has taken over what the worker of this client has left: only now its commands with an error have ended."""
        self.history = [(key, each._replace(ended=now) if each.outcome == ERROR else each) for key, each in self.history]


def as_words(request: bytes) -> str:
    """A request as text for a path."""
    return request.rstrip(b"\r\n").replace(b"\r\n", b" / ").decode()
