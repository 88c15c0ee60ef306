"""gevent's loop with the interface of the master's loop: a single process serves its control socket with the same code."""

from typing import Any

import gevent

from gmproxy import internal_errors
from gmproxy.system.select_loop import Callback, EventLoop

#: The event bits of gevent's io watchers.
_READ, _WRITE = 1, 2


class GeventLoop(EventLoop):
    """Callbacks of descriptors are loop callbacks: they must not block. Timers and tasks run in greenlets, which may."""

    def __init__(self) -> None:
        self._watchers: dict[Any, dict[int, Any]] = {}  # source -> event -> gevent's watcher
        self._on_error: dict[Any, Callback] = {}

    def add_reader(self, source: Any, callback: Callback, on_error: Callback) -> None:
        self._on_error[source] = on_error
        self._add(source, _READ, callback)

    def add_writer(self, source: Any, callback: Callback) -> None:
        self._add(source, _WRITE, callback)

    def remove_reader(self, source: Any) -> None:
        self._remove_event(source, _READ)

    def remove_writer(self, source: Any) -> None:
        self._remove_event(source, _WRITE)

    def remove(self, source: Any) -> None:
        self._on_error.pop(source, None)
        for watcher in self._watchers.pop(source, {}).values():
            watcher.stop()
            watcher.close()

    def _add(self, source: Any, event: int, callback: Callback) -> None:
        watchers = self._watchers.setdefault(source, {})
        if event not in watchers:
            descriptor = source if isinstance(source, int) else source.fileno()
            watchers[event] = gevent.get_hub().loop.io(descriptor, event)
        watchers[event].stop()
        watchers[event].start(self._run, source, callback)

    def _remove_event(self, source: Any, event: int) -> None:
        watcher = self._watchers.get(source, {}).pop(event, None)
        if watcher is not None:
            watcher.stop()
            watcher.close()

    def _run(self, source: Any, callback: Callback) -> None:
        try:
            callback()
        except Exception:
            internal_errors.record("loop.callback")
            internal_errors.guarded("loop.on_error", self._on_error.get(source, lambda: self.remove(source)))()

    # -- time and tasks

    def call_later(self, seconds: float, callback: Callback) -> gevent.Greenlet:
        return gevent.spawn_later(seconds, internal_errors.guarded("loop.timer", callback))

    def cancel(self, timer: "gevent.Greenlet | None") -> None:
        if timer is not None and timer is not gevent.getcurrent():  # a callback may cancel the timer that called it
            timer.kill(block=False)

    def run_task(self, task: Callback) -> None:
        gevent.spawn(internal_errors.guarded("loop.task", task))
