"""Event loops: the interface that the code of the control socket is written for, and the loop of a process without gevent, the master.

A single process, which has gevent, offers the same interface (process/gevent_loop.py).
"""

import selectors
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from gmproxy import internal_errors

#: The loop runs through at least once in this many seconds.
LONGEST_WAIT = 60.0

#: A descriptor whose callback raised, or that cannot be served at the moment, is not watched for this time, in seconds: it is likely to be
#: readable still, and the loop would do nothing else.
PAUSE = 1.0

Callback = Callable[[], Any]


class EventLoop(ABC):
    """Watches descriptors and timers. A source is a socket or the number of a descriptor.

    A callback of a descriptor must not wait. One that raises costs nothing else: the exception is recorded as an internal error. The methods may
    be called from callbacks; none of them waits.
    """

    @abstractmethod
    def add_reader(self, source: Any, callback: Callback, on_error: Callback) -> None:
        """Have `callback` called when `source` can be read. If a callback for `source` raises, `on_error` is called, which has to remove it."""

    @abstractmethod
    def add_writer(self, source: Any, callback: Callback) -> None:
        """Have `callback` called when `source` can be written."""

    @abstractmethod
    def remove_reader(self, source: Any) -> None:
        """Does nothing if there is none."""

    @abstractmethod
    def remove_writer(self, source: Any) -> None:
        """Does nothing if there is none."""

    @abstractmethod
    def remove(self, source: Any) -> None:
        """Remove reader and writer, if there are any. The source may have been closed already."""

    @abstractmethod
    def call_later(self, seconds: float, callback: Callback) -> Any:
        """Have `callback` called once. Returns a timer for `cancel`."""

    @abstractmethod
    def cancel(self, timer: Any) -> None:
        """A timer that has expired, or None, is ignored."""

    @abstractmethod
    def run_task(self, task: Callback) -> None:
        """Call `task`, which may wait where a greenlet may: at once in a loop that has no greenlets, else in a greenlet of its own."""


class SelectLoop(EventLoop):
    """A loop over a selector. Call `run_once` again and again."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, _Watched] = {}  # by number of the descriptor
        self._timers: list[_Timer] = []  # unsorted: there are only a few

    def run_once(self) -> None:
        """Wait for an event or a timer, and call the callbacks that are due."""
        due = min((timer.when for timer in self._timers), default=time.monotonic() + LONGEST_WAIT)
        for key, events in self._selector.select(max(0.0, due - time.monotonic())):
            watched: _Watched = key.data
            for event in (selectors.EVENT_WRITE, selectors.EVENT_READ):
                # not if a callback before it has removed it
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
        """Without `on_error` a source whose callback raised is paused."""
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
        """Do not watch `source` for PAUSE seconds."""
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
        """What is watched at the moment."""
        return [watched.source for watched in self._watched.values()]

    def close(self) -> None:
        """Close the selector; the sources stay open."""
        self._selector.close()

    def _add(self, source: Any, event: int, callback: Callback) -> "_Watched":
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
        """Have `callback` called again and again, also after it has raised."""

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
    """A source, and its callback for each kind of event."""

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
