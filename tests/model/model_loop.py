"""Replaces gevent's loop: it runs the callbacks of a file descriptor when the model reports that bytes have arrived. Independent of gmproxy."""

from collections import deque
from collections.abc import Callable
from typing import Any

from greenlet import greenlet


class ModelLoop:
    """The part of gevent's loop that gmproxy uses."""

    def __init__(self) -> None:
        self._callbacks: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._watchers: dict[int, _Watcher] = {}  # the started watchers, by file descriptor

    def run_callback(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._callbacks.append((call, arguments))

    def io(self, fd: int, events: int) -> "_Watcher":
        return _Watcher(self._watchers, fd)

    def timer(self, seconds: float) -> "_Timer":
        return _Timer(self, seconds)

    def run(self) -> None:
        """Run all callbacks."""
        while self._callbacks:
            call, arguments = self._callbacks.popleft()
            call(*arguments)

    def is_readable(self, fd: int) -> bool:
        """Call the watcher of `fd`. Returns False if no watcher is started."""
        watcher = self._watchers.get(fd)
        if watcher is not None:
            watcher.call()
        return watcher is not None


class _Watcher:
    def __init__(self, started: dict[int, "_Watcher"], fd: int) -> None:
        self._started = started
        self._fd = fd
        self.call: Callable[[], Any] = lambda: None

    def start(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call = lambda: call(*arguments)
        self._started[self._fd] = self

    def stop(self) -> None:
        if self._started.get(self._fd) is self:
            del self._started[self._fd]

    close = stop


class _Timer:
    """One of 0 seconds fires at once, and any other never does: no time passes in the model."""

    def __init__(self, loop: ModelLoop, seconds: float) -> None:
        self._loop = loop
        self._fires = seconds <= 0

    def start(self, call: Callable[..., Any], *arguments: Any) -> None:
        if self._fires:
            self._loop.run_callback(call, *arguments)

    def stop(self) -> None:
        pass

    close = stop


class Task(greenlet):
    """The result of gevent.spawn."""

    def kill(self, block: bool = True) -> None:
        pass
