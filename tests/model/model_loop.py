"""Replaces gevent's loop: it runs the callbacks of a file descriptor or a timer when the model reports that bytes have arrived or time has passed.
Independent of gmproxy."""

from collections import deque
from collections.abc import Callable
from typing import Any

from greenlet import greenlet


class ModelLoop:
    """The part of gevent's loop that gmproxy uses.

    timers   the started timers of more than 0 seconds, in the order in which they were started. (The others fire at once.)
    """

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self._callbacks: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._watchers: dict[int, _Watcher] = {}  # the started watchers, by file descriptor

    def run_callback(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._callbacks.append((call, arguments))

    def io(self, fd: int, events: int) -> "_Watcher":
        return _Watcher(self._watchers, fd)

    def timer(self, seconds: float, repeat: float = 0.0) -> "Timer":
        return Timer(self, seconds, repeat)

    def run(self) -> None:
        """Run all callbacks."""
        while self._callbacks:
            call, arguments = self._callbacks.popleft()
            call(*arguments)

    def is_idle(self) -> bool:
        """True if no callback is to be run."""
        return not self._callbacks

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


class Timer:
    """active   True while it is started"""

    def __init__(self, loop: ModelLoop, seconds: float, repeat: float) -> None:
        self.active = False
        self._loop = loop
        self._at_once = seconds <= 0
        self._repeats = repeat > 0
        self._call: Callable[[], Any] = lambda: None

    def start(self, call: Callable[..., Any], *arguments: Any, **update: Any) -> None:
        self._call = lambda: call(*arguments)
        if self._at_once:
            self._loop.run_callback(self._call)
        elif not self.active:
            self.active = True
            self._loop.timers.append(self)

    again = start

    def stop(self) -> None:
        if self.active:
            self.active = False
            self._loop.timers.remove(self)

    close = stop

    def fire(self) -> None:
        """Its time has passed."""
        if not self._repeats:
            self.stop()
        self._call()


class Task(greenlet):
    """The result of gevent.spawn."""

    def kill(self, block: bool = True) -> None:
        pass
