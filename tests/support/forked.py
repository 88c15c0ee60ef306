"""A forked process that calls functions when the test says so: for what belongs to a process, such as record locks."""

import os
import pickle
import signal
import socket
from collections.abc import Callable
from typing import Any

from support.timing import PATIENCE, eventually


class Forked:
    """A copy of this process. Use it in a `with`: at the end it is killed, if it still lives.

    `functions`: what it can call, by name. They and what they refer to are copied by the fork.
    """

    def __init__(self, **functions: Callable[..., Any]) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            try:
                ours.close()
                _serve(theirs, functions)
            finally:
                os._exit(0)
        theirs.close()
        ours.settimeout(PATIENCE)
        self._socket = ours
        self._replies = ours.makefile("rb")
        self._is_alive = True

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *failure: object) -> None:
        self.kill()
        self._replies.close()
        self._socket.close()

    def begin(self, name: str, *arguments: Any) -> None:
        """Have it call the function `name`. Does not wait."""
        self._socket.sendall(pickle.dumps((name, arguments)))

    def result(self) -> Any:
        """What the function returned, or the exception that it raised, which is returned as well."""
        return pickle.load(self._replies)

    def call(self, name: str, *arguments: Any) -> Any:
        self.begin(name, *arguments)
        return self.result()

    def stop(self) -> None:
        """Stop it, and wait until it is stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        eventually(lambda: os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)[0], what="it is stopped")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill it, and wait for its end. Does nothing if it has been killed already."""
        if self._is_alive:
            self._is_alive = False
            os.kill(self.pid, number)
            eventually(lambda: os.waitpid(self.pid, os.WNOHANG)[0], what="it has ended")


def _serve(sock: socket.socket, functions: dict[str, Callable[..., Any]]) -> None:
    with sock, sock.makefile("rb") as calls:
        while True:
            try:
                name, arguments = pickle.load(calls)
            except EOFError:
                return
            try:
                result = functions[name](*arguments)
            except Exception as error:
                result = error
            sock.sendall(pickle.dumps(result))
