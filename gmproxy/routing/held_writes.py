"""Writes that wait until fills of other workers have ended.

Such a fill may have been sent to the primary already, and a delete that overtakes it there would be undone. A worker does not learn when the fill of
another one ends: it looks once a tick.
"""

from collections.abc import Callable
from typing import Any

from gmproxy import internal_errors
from gmproxy.backend.backend import Backend
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.request import ReplySink, Request, Route, resume_all


class HeldWrites:
    """Those of one pool, on all its routes. Methods: loop callback or greenlet, unless they say otherwise.

    requests   all writes that are held, for a fill of this worker as well (fill.py): later requests of the same client for their keys wait for them
    """

    def __init__(self, requests: "set[Request]", options: Any) -> None:
        """`options` of the pool."""
        self.requests = requests
        self._options = options
        self._waiting: dict[Request, _Waiting] = {}

    def hold(
        self,
        request: Request,
        must_wait: "Callable[[], bool]",
        release: "Callable[[Request], Any]",
        release_late: "Callable[[Request], Any]",
    ) -> None:
        """Hold `request` as long as `must_wait()`; then `release(request)` sends it, or `release_late(request)` if that took the pool's timeout. Both
        return as Route.send."""
        self._waiting[request] = _Waiting(must_wait, release, release_late)
        self.requests.add(request)

    def release_due(self, now: float) -> None:
        """Release the writes that need not wait any longer. `now`: monotonic seconds. Loop callback only. Never raises."""
        ready = []
        for request, waiting in list(self._waiting.items()):
            session = self._release_if_due(request, waiting, now)
            if session is not None:
                ready.append(session)
        resume_all(ready)

    def _release_if_due(self, request: Request, waiting: "_Waiting", now: float) -> ReplySink | None:
        """Returns the session that waits for no further reply, or None. Never raises."""
        if waiting.since is None:
            waiting.since = now
        is_late = now - waiting.since >= self._options.timeout  # the process of the fill has died, or its server hangs
        try:
            if not is_late and waiting.must_wait():
                return None
            self.forget(request)
            if request.sink is None:
                return None  # it was abandoned
            session: ReplySink | None = waiting.release_late(request) if is_late else waiting.release(request)
            return session
        except Exception:
            internal_errors.record("held_writes.release")
            self.forget(request)
            return request.abandon()

    def forget(self, request: Request) -> None:
        """It is not held any longer."""
        self.requests.discard(request)
        self._waiting.pop(request, None)


class _Waiting:
    """The arguments of `hold`, and when the request was looked at first (monotonic seconds)."""

    __slots__ = ("must_wait", "release", "release_late", "since")

    def __init__(
        self, must_wait: "Callable[[], bool]", release: "Callable[[Request], Any]", release_late: "Callable[[Request], Any]"
    ) -> None:
        self.must_wait = must_wait
        self.release = release
        self.release_late = release_late
        self.since: float | None = None


class AwaitFills(Route):
    """For writes: holds those of a key that another worker fills on `primary`, and sends the others on.

    held     the HeldWrites of the pool
    release  sends a write that was held, by the routes that the pool has then
    """

    __slots__ = ("primary", "next_route", "held", "release")

    def __init__(self, primary: Backend, next_route: Route, held: HeldWrites, release: Callable[[Request], ReplySink | None]) -> None:
        self.primary = primary
        self.next_route = next_route
        self.held = held
        self.release = release

    def send(self, request: Request) -> ReplySink | None:
        notes = self.primary.notes
        if notes.any_fills_are_elsewhere() and self._must_wait(request):
            self._hold(request)
            return None
        return self.next_route.send(request)

    def _hold(self, request: Request) -> None:
        self.held.hold(request, lambda: self._must_wait(request), self.release, self._send_late)

    def _must_wait(self, request: Request) -> bool:
        notes = self.primary.notes
        for key in request.all_keys():
            if notes.fills_are_elsewhere(key):
                return True
        return False

    def _send_late(self, request: Request) -> ReplySink | None:
        """The fill may still arrive, behind the write: what it brings is deleted again. Returns as Route.send."""
        for key in request.all_keys():
            self.primary.missed_key(key)
        return self.next_route.send(request)

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        return self.next_route.explain(key, is_write)
