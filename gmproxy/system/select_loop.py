"""A loop over descriptors and timers for a process without gevent: the master's.

What it calls may raise: the exception is recorded as an internal error, and the loop goes on.
"""

import selectors
import time
from collections.abc import Callable
from typing import Any

from gmproxy import internal_errors

#: The loop looks up at least every so many seconds.
LONGEST_WAIT = 60.0

#: A descriptor whose callback raised, or that cannot be served at the moment, is looked at again after this time, in seconds: it is likely to be
#: readable still, and the loop would do nothing else.
PAUSE = 1.0

Call = Callable[[], Any]


class Loop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, _Watched] = {}  # by number of the descriptor
        self._timers: list[_Timer] = []  # unsorted: there are only a few

    def turn(self) -> None:
        """Wait for something to come or to be due, and call what is to be called. An Exception that this raises is recorded."""
        due = min((timer.when for timer in self._timers), default=time.monotonic() + LONGEST_WAIT)
        for key, events in self._selector.select(max(0.0, due - time.monotonic())):
            watched = key.data
            for event in (selectors.EVENT_WRITE, selectors.EVENT_READ):
                # not if it was taken out by what came before it
                if events & event and self._watched.get(key.fd) is watched and event in watched.calls:
                    self._run(watched, watched.calls[event])
        now = time.monotonic()
        for timer in [timer for timer in self._timers if timer.when <= now]:
            if timer in self._timers:
                self._timers.remove(timer)
                internal_errors.guarded("loop.timer", timer.call)()

    def _run(self, watched: "_Watched", call: Call) -> None:
        try:
            call()
        except Exception:
            internal_errors.record("loop.callback")
            if watched.failed is None:
                self.pause(watched.source)
            else:
                internal_errors.guarded("loop.failed", watched.failed)()

    # -- descriptors

    def watch(self, source: Any, call: Call, failed: Call | None = None) -> None:
        """Have `call` called when `source`, a socket or the number of a descriptor, can be read.

        Should a callback for `source` raise, `failed` is called, whose part it is to forget it; without one it is paused.
        """
        watched = self._add(source, selectors.EVENT_READ, call)
        watched.failed = failed

    def watch_writing(self, source: Any, call: Call) -> None:
        """Have `call` called when `source` can be written."""
        self._add(source, selectors.EVENT_WRITE, call)

    def forget(self, source: Any) -> None:
        """Before it is closed, or after; no matter what was watched."""
        try:
            key = self._selector.unregister(source)
        except (KeyError, ValueError):
            return
        self._watched.pop(key.fd, None)

    def forget_reading(self, source: Any) -> None:
        self._remove(source, selectors.EVENT_READ)

    def forget_writing(self, source: Any) -> None:
        self._remove(source, selectors.EVENT_WRITE)

    def pause(self, source: Any) -> None:
        """Do not look at `source` for PAUSE seconds."""
        try:
            watched = self._selector.get_key(source).data
        except (KeyError, ValueError):
            return
        self.forget(source)

        def again() -> None:
            if watched.number not in self._watched and not _is_closed(source):
                for event, call in watched.calls.items():
                    self._add(source, event, call).failed = watched.failed

        self.after(PAUSE, again)

    def sources(self) -> list[Any]:
        return [watched.source for watched in self._watched.values()]

    def close(self) -> None:
        self._selector.close()

    def _add(self, source: Any, event: int, call: Call) -> "_Watched":
        try:
            watched = self._selector.get_key(source).data
        except KeyError:
            key = self._selector.register(source, event, _Watched(source))
            watched = key.data
            watched.number = key.fd
            self._watched[key.fd] = watched
        watched.calls[event] = call
        self._selector.modify(source, sum(watched.calls), watched)
        return watched

    def _remove(self, source: Any, event: int) -> None:
        try:
            watched = self._selector.get_key(source).data
        except (KeyError, ValueError):
            return
        watched.calls.pop(event, None)
        if watched.calls:
            self._selector.modify(source, sum(watched.calls), watched)
        else:
            self.forget(source)

    # -- time

    def after(self, seconds: float, call: Call) -> "_Timer":
        """Have `call` called once. Returns what `cancel` takes."""
        timer = _Timer(time.monotonic() + seconds, call)
        self._timers.append(timer)
        return timer

    def every(self, seconds: float, call: Call) -> None:
        """Have `call` called again and again, also after it has raised."""
        def again() -> None:
            self.after(seconds, again)
            call()

        self.after(seconds, again)

    def cancel(self, timer: "_Timer | None") -> None:
        if timer in self._timers:
            self._timers.remove(timer)


class _Watched:
    """A descriptor: what is called for each kind of event."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.number = -1
        self.calls: dict[int, Call] = {}
        self.failed: Call | None = None


class _Timer:
    def __init__(self, when: float, call: Call) -> None:
        self.when = when
        self.call = call


def _is_closed(source: Any) -> bool:
    return not isinstance(source, int) and source.fileno() < 0
