"""What all clients of one listen address share: the router, the options, the commands that the proxy answers itself."""

import time

from gmproxy import stats

FLUSH_REFUSED = b"CLIENT_ERROR flush_all not allowed\r\n"


class Service:
    """
    sessions      of the clients that are connected (a set of Session)
    max_clients   at the same time
    connections   accepted so far; `rejected`: turned away because there were too many;
                  `dropped`: closed because of `held`, the bytes that wait for slow clients
    """

    def __init__(self, options, router, max_clients):
        self.options = options
        self.router = router
        self.max_clients = options.max_connections or max_clients
        self.sessions = set()
        self.connections = 0
        self.rejected = 0
        self.dropped = 0
        self.held = 0
        self.flushes = 0
        self.started_at = time.monotonic()

    def reset_counters(self):
        self.connections = self.rejected = self.dropped = self.flushes = 0
        for backend in self.router.backends + self.router.backups:
            backend.reset_counters()

    def command(self, request):
        """Answer a request without a key, now or later."""
        kind = request.verb.kind
        if kind == "flush" and not self.options.disable_flush_all:
            self.flushes += 1
            self.router.flush_all(request)
            return
        if kind == "flush":
            request.reply = FLUSH_REFUSED
        elif request.verb.name == b"version":
            request.reply = stats.MAGENT_VERSION if self._as_magent() else stats.VERSION
        elif self._as_magent() and not request.keys:
            request.reply = stats.magent_answer(self)
        else:
            request.reply = stats.answer(self, request.keys)
        request.owner.answered(request)

    def _as_magent(self):
        return self.options.compat == "magent"
