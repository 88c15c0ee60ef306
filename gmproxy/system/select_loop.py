"""The event loop of the master, which has no gevent, and its interface.

The code of the control socket uses the interface; a single process has the same interface over gevent's loop (process/gevent_loop.py).
"""

import selectors
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from gmproxy import internal_errors

#: The maximum number of seconds that the loop waits in one turn.
LONGEST_WAIT = 60.0

#: Seconds for which a paused descriptor is not watched. A descriptor is paused if its callback raised or cannot process it at present: it is
#: probably still readable, and the loop would do nothing else.
PAUSE = 1.0

Callback = Callable[[], Any]


class EventLoop(ABC):
    """Watches descriptors and timers. A source is a socket or a file descriptor.

    A callback of a source must not block. An exception that a callback raises is recorded as an internal error, and the loop goes on. The methods
    do not block; they may be called in callbacks.
    """

    @abstractmethod
    def add_reader(self, source: Any, callback: Callback, on_error: Callback) -> None:
        """Call `callback` whenever `source` is readable. If a callback of `source` raises, `on_error` is called and must remove the source."""

    @abstractmethod
    def add_writer(self, source: Any, callback: Callback) -> None:
        """Call `callback` whenever `source` is writable."""

    @abstractmethod
    def remove_reader(self, source: Any) -> None:
        """Stop calling the reader of `source`, if it has one."""

    @abstractmethod
    def remove_writer(self, source: Any) -> None:
        """Stop calling the writer of `source`, if it has one."""

    @abstractmethod
    def remove(self, source: Any) -> None:
        """Remove the reader and the writer of `source`, if it has any. The source may be closed already."""

    @abstractmethod
    def call_later(self, seconds: float, callback: Callback) -> Any:
        """Call `callback` once, after `seconds`. Returns a timer for `cancel`."""

    @abstractmethod
    def cancel(self, timer: Any) -> None:
        """Cancel `timer`. An expired timer, or None, is ignored."""

    @abstractmethod
    def run_task(self, task: Callback) -> None:
        """Call `task`: at once in a loop without greenlets, else in a greenlet of its own, in which it may block."""


class SelectLoop(EventLoop):
    """A loop over a selector. The caller calls `run_once` repeatedly."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, _Watched] = {}  # by descriptor
        self._timers: list[_Timer] = []  # unsorted: there are only a few

    def run_once(self) -> None:
        """One turn: wait for an event or a timer, at most LONGEST_WAIT, and call the callbacks that are due."""
        due = min((timer.when for timer in self._timers), default=time.monotonic() + LONGEST_WAIT)
        for key, events in self._selector.select(max(0.0, due - time.monotonic())):
            watched: _Watched = key.data
            for event in (selectors.EVENT_WRITE, selectors.EVENT_READ):
                # unless an earlier callback of this turn has removed it
                if events & event and self._watched.get(key.fd) is watched and event in watched.callbacks:
                    self._run(watched, watched.callbacks[event])
        now = time.monotonic()
        for timer in [timer for timer in self._timers if timer.when <= now]:
            if timer in self._timers:
                self._timers.remove(timer)
                internal_errors.guarded("loop.timer", timer.callback)()

    def _run(self, watched: "_Watched", callback: Callback) -> None:
        try:
            callback()
        except Exception:
            internal_errors.record("loop.callback")
            if watched.on_error is None:
                self.pause(watched.source)
            else:
                internal_errors.guarded("loop.on_error", watched.on_error)()

    # -- descriptors

    def add_reader(self, source: Any, callback: Callback, on_error: Callback | None = None) -> None:
        """As EventLoop.add_reader; without `on_error`, a source whose callback raises is paused."""
        watched = self._add(source, selectors.EVENT_READ, callback)
        watched.on_error = on_error

    def add_writer(self, source: Any, callback: Callback) -> None:
        self._add(source, selectors.EVENT_WRITE, callback)

    def remove(self, source: Any) -> None:
        try:
            key = self._selector.unregister(source)
        except (KeyError, ValueError):
            return
        self._watched.pop(key.fd, None)

    def remove_reader(self, source: Any) -> None:
        self._remove_event(source, selectors.EVENT_READ)

    def remove_writer(self, source: Any) -> None:
        self._remove_event(source, selectors.EVENT_WRITE)

    def pause(self, source: Any) -> None:
        """Stop watching `source` for PAUSE seconds."""
        try:
            watched = self._selector.get_key(source).data
        except (KeyError, ValueError):
            return
        self.remove(source)

        def resume() -> None:
            if watched.descriptor not in self._watched and not _is_closed(source):
                for event, callback in watched.callbacks.items():
                    self._add(source, event, callback).on_error = watched.on_error

        self.call_later(PAUSE, resume)

    def sources(self) -> list[Any]:
        """The sources that are watched now."""
        return [watched.source for watched in self._watched.values()]

    def close(self) -> None:
        """Close the selector; the sources stay open."""
        self._selector.close()

    def _add(self, source: Any, event: int, callback: Callback) -> "_Watched":
        watched: _Watched
        try:
            watched = self._selector.get_key(source).data
        except KeyError:
            key = self._selector.register(source, event, _Watched(source))
            watched = key.data
            watched.descriptor = key.fd
            self._watched[key.fd] = watched
        watched.callbacks[event] = callback
        self._selector.modify(source, sum(watched.callbacks), watched)
        return watched

    def _remove_event(self, source: Any, event: int) -> None:
        try:
            watched = self._selector.get_key(source).data
        except (KeyError, ValueError):
            return
        watched.callbacks.pop(event, None)
        if watched.callbacks:
            self._selector.modify(source, sum(watched.callbacks), watched)
        else:
            self.remove(source)

    # -- time

    def call_later(self, seconds: float, callback: Callback) -> "_Timer":
        timer = _Timer(time.monotonic() + seconds, callback)
        self._timers.append(timer)
        return timer

    def call_every(self, seconds: float, callback: Callback) -> None:
        """Call `callback` every `seconds`, also after it has raised."""

        def call_again() -> None:
            self.call_later(seconds, call_again)
            callback()

        self.call_later(seconds, call_again)

    def cancel(self, timer: "_Timer | None") -> None:
        if timer in self._timers:
            self._timers.remove(timer)

    def run_task(self, task: Callback) -> None:
        task()


class _Watched:
    """A source with its callbacks. `callbacks`: {selectors.EVENT_READ or EVENT_WRITE: callback}."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.descriptor = -1
        self.callbacks: dict[int, Callback] = {}
        self.on_error: Callback | None = None


class _Timer:
    def __init__(self, when: float, callback: Callback) -> None:
        self.when = when  # monotonic seconds
        self.callback = callback


def _is_closed(source: Any) -> bool:
    return not isinstance(source, int) and source.fileno() < 0
