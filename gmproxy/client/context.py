"""What all clients of one listen address share: the router, the options, the commands that the proxy answers itself."""

import functools
import logging
from typing import Any

import gevent

from gmproxy import internal_errors
from gmproxy.backend.connection import resume_all
from gmproxy.backend.server_stats import ServerStats
from gmproxy.client import stats
from gmproxy.client.key_listings import KeyListings
from gmproxy.client.sessions import Sessions
from gmproxy.client.stats import ServerReplies
from gmproxy.config.configuration import UNNAMED
from gmproxy.protocol import internal_commands
from gmproxy.protocol.key_dump import KeyDump, Refused, parse_key_dump
from gmproxy.protocol.limits import MAX_HELD, MAX_HELD_BY_ONE
from gmproxy.protocol.request import INTERNAL_ERROR, ReplySink, Request
from gmproxy.transport import tcp

log = logging.getLogger("gmproxy")

#: Seconds until a client hears that its password is wrong. It alone waits: this slows down who tries many passwords, and no other client.
WRONG_PASSWORD_DELAY = 1.0

FLUSH_REFUSED = b"CLIENT_ERROR flush_all not allowed\r\n"


class PoolContext:
    """
    worker_context  this process's part of the service
    clients       that are connected here (a gmproxy.client.sessions.Sessions)
    connections   accepted so far; `rejected`: turned away because there were too many;
                  `dropped`: closed because of `held`, the bytes that wait for slow clients
    auth_cmds     logins, with whatever password; `auth_errors`: with a wrong one
    yields        times that a client's requests waited for a turn of the others
    accept_failures   times that no client was accepted for a moment, for lack of descriptors or memory
    """

    def __init__(self, options: Any, router: Any, worker_context: Any) -> None:
        self.options = options
        self.router = router
        self.worker_context = worker_context
        self.server_stats = ServerStats(router, options)
        self.key_listings = KeyListings(router, options, worker_context)
        self.clients = Sessions(self)
        self.connections = 0
        self.rejected = 0
        self.dropped = 0
        self.auth_cmds = 0
        self.auth_errors = 0
        self.yields = 0
        self.accept_failures = 0
        self.held = 0
        self.flushes = 0

    @property
    def max_clients(self) -> int:
        """At the same time, in all workers: as -n says, but no more than there are descriptors for."""
        room = self.worker_context.max_clients * self.worker_context.workers
        return min(self.options.max_connections or room, room)

    def room(self) -> int:
        """How many more clients may be let in; who comes after them must be turned away."""
        counts = self.worker_context.client_counts
        if counts is None:
            clients = len(self.clients)
        else:
            self.clients.publish_count()
            clients = counts.clients_of_pool(self.options.name)
        return max(min(self.max_clients - clients, self.worker_context.room()), 0)

    def hold(self, more: int, by_one: int) -> bool:
        """`more` bytes, or fewer if negative, wait for a client, for which `by_one` wait by now. False if that is too much, and the client
        must be closed. Never raises; called from sessions and from loop callbacks."""
        total = self.worker_context.add_held_bytes(more)
        self.held += more
        if more <= 0 or (total <= MAX_HELD and by_one <= MAX_HELD_BY_ONE):
            return True
        self.dropped += 1
        log.warning("client dropped reason=memory held=%d bytes=%d", total, by_one)
        return False

    def reset_counters(self) -> None:
        internal_errors.forget()
        self.connections = self.rejected = self.dropped = self.flushes = 0
        self.auth_cmds = self.auth_errors = self.yields = self.accept_failures = 0
        self.clients.reset_traffic()
        self.router.counters.misses_for_errors = self.router.counters.fragments = 0
        for backend in self.router.backends + self.router.backups:
            backend.reset_counters()

    def answer_locally(self, request: Request) -> None:
        """Answer a request without a key, now or later."""
        kind = request.command.kind
        if kind == "flush" and not self.options.disable_flush_all:
            self.flushes += 1
            self.router.flush_all(request)
            return
        if kind == "wrong_password":
            self._refuse_later(request)
            return
        if kind == "login":
            self.auth_cmds += 1
            request.reply = request.line
        elif kind == "flush":
            request.reply = FLUSH_REFUSED
        elif request.command.name == b"version":
            request.reply = stats.MAGENT_VERSION if self._as_magent() else stats.VERSION
        elif request.keys == [internal_commands.WE_COPY_TO_YOU]:
            request.sink.serve_proxy()
            request.reply = stats.SERVES_PROXY
        elif kind == "lru_crawler" or request.keys[:1] == [stats.CACHEDUMP]:
            if self._begin_listing(request):
                return
        elif stats.is_about_servers(request.keys) and not self._as_magent():
            gevent.spawn(self._ask_servers, request)
            return
        elif self.worker_context.call_workers is not None and stats.question(request.keys):
            self._ask_workers(request, {})
            return
        else:
            request.reply = stats.answer(self, request.keys, self._as_magent())
        request.complete()

    def _refuse_later(self, request: Any) -> None:
        """The client of `request` has sent a wrong password: it is answered after WRONG_PASSWORD_DELAY."""
        timer = gevent.get_hub().loop.timer(WRONG_PASSWORD_DELAY)
        timer.start(self._refuse, timer, request)
        self.auth_cmds += 1
        self.auth_errors += 1
        try:
            log.warning("wrong password client=%s", tcp.peer_name(request.sink.fd))
        except Exception:  # the refusal is on its way, in the client's own protocol
            internal_errors.record("service.wrong_password")

    @staticmethod
    def _refuse(timer: Any, request: Any) -> None:
        """Called from the loop."""
        try:
            timer.close()
        except Exception:  # the refusal is what the client waits for, in its own protocol
            internal_errors.record("service.refuse")
        request.reply = request.line
        session = request.complete()
        if session is not None:
            resume_all([session])

    def _begin_listing(self, request: Request) -> bool:
        """`request` is for a listing of keys. False if it has a reply at once."""
        try:
            name = request.command.name
            dump = parse_key_dump(name, request.keys, self.key_listings.servers())
            request.reply = stats.ERROR if request.renderer is not None else self.key_listings.refusal(dump)
        except Refused as refused:
            request.reply = refused.reply
        if request.reply is not None:
            return False
        gevent.spawn(self._list_keys, request, dump)
        return True

    def _list_keys(self, request: Any, dump: KeyDump) -> None:
        """In a greenlet of its own. Its session sends nothing before it has this reply, so what is sent here comes before."""
        try:
            request.reply = self.key_listings.send_listing(dump, request.sink)
            session = request.complete()
        except Exception:
            internal_errors.record("service.list_keys")
            session = request.abandon()
        gevent.get_hub().loop.run_callback(self._resume, session)

    def _ask_servers(self, request: Request) -> None:
        """In a greenlet of its own."""
        try:
            replies = self.server_stats.ask(b" ".join(request.keys[:1]))
            if self.worker_context.call_workers is not None and stats.question(request.keys):
                self._ask_workers(request, replies)
            else:
                gevent.get_hub().loop.run_callback(self._told, request, replies, None)
        except Exception:
            internal_errors.record("service.ask_servers")
            gevent.get_hub().loop.run_callback(self._resume, request.abandon())

    def _ask_workers(self, request: Request, replies: ServerReplies) -> None:
        title = self.options.name or UNNAMED
        self.worker_context.call_workers(stats.question(request.keys), [title], functools.partial(self._told, request, replies))

    def _told(self, request: Request, replies: ServerReplies, whole: Any) -> None:
        """Called from the loop: `whole` is what all workers say together, or None if they do not answer in time."""
        try:
            request.reply = stats.answer(self, request.keys, self._as_magent(), whole, replies, self.server_stats.latest())
        except Exception:
            internal_errors.record("service.stats")
            request.reply = INTERNAL_ERROR
        self._resume(request.complete())

    @staticmethod
    def _resume(session: ReplySink | None) -> None:
        """Called from the loop: all answers that `session` waits for are there, if it is one."""
        if session is not None:
            resume_all([session])

    def _as_magent(self) -> bool:
        return self.options.compat == "magent"
