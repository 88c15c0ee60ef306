"""What all clients of one listen address share: the router, the options, the commands that the proxy answers itself."""

import functools
import logging

import gevent

from gmproxy import internal_errors, stats
from gmproxy.accel import pick
from gmproxy.clients import Clients
from gmproxy.insides import Insides
from gmproxy.protocol import orders

INTERNAL_ERROR = pick("message").INTERNAL_ERROR
resume_all = pick("link").resume_all

log = logging.getLogger("gmproxy")

FLUSH_REFUSED = b"CLIENT_ERROR flush_all not allowed\r\n"


class Service:
    """
    share         this process's part of the service
    clients       that are connected here (a gmproxy.clients.Clients)
    connections   accepted so far; `rejected`: turned away because there were too many;
                  `dropped`: closed because of `held`, the bytes that wait for slow clients
    """

    def __init__(self, options, router, share):
        self.options = options
        self.router = router
        self.share = share
        self.insides = Insides(router, options)
        self.clients = Clients(self)
        self.connections = 0
        self.rejected = 0
        self.dropped = 0
        self.held = 0
        self.flushes = 0

    @property
    def max_clients(self):
        """At the same time, in all workers."""
        return self.options.max_connections or self.share.room

    def is_full(self):
        board = self.share.board
        return (len(self.clients) if board is None else board.clients(self.options.name)) >= self.max_clients

    def reset_counters(self):
        internal_errors.forget()
        self.connections = self.rejected = self.dropped = self.flushes = 0
        self.clients.reset_traffic()
        self.router.misses_for_errors = self.router.fragments = 0
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
        elif request.keys == [orders.WE_COPY_TO_YOU]:
            request.owner.serve_proxy()
            request.reply = stats.SERVES_PROXY
        elif stats.is_about_servers(request.keys) and not self._as_magent():
            gevent.spawn(self._ask_servers, request)
            return
        elif self.share.ask is not None and stats.question(request.keys):
            self._ask_workers(request, {})
            return
        else:
            request.reply = stats.answer(self, request.keys, self._as_magent())
        request.complete()

    def _ask_servers(self, request):
        """In a greenlet of its own."""
        try:
            heard = self.insides.ask(b" ".join(request.keys[:1]))
            if self.share.ask is not None and stats.question(request.keys):
                self._ask_workers(request, heard)
            else:
                gevent.get_hub().loop.run_callback(self._told, request, heard, None)
        except Exception:
            internal_errors.record("service.ask_servers")
            gevent.get_hub().loop.run_callback(self._resume, request.abandon())

    def _ask_workers(self, request, heard):
        self.share.ask(stats.question(request.keys), [self.options.name], functools.partial(self._told, request, heard))

    def _told(self, request, heard, whole):
        """Called from the loop: `whole` is what all workers say together, or None if they do not answer in time."""
        try:
            request.reply = stats.answer(self, request.keys, self._as_magent(), whole, heard)
        except Exception:
            internal_errors.record("service.stats")
            request.reply = INTERNAL_ERROR
        self._resume(request.complete())

    @staticmethod
    def _resume(session):
        """Called from the loop: all answers that `session` waits for are there, if it is one."""
        if session is not None:
            resume_all([session])

    def _as_magent(self):
        return self.options.compat == "magent"
