"""What all clients of a pool share: the router, the options, and the commands that the proxy itself replies to."""

import functools
import logging
from typing import Any

import gevent

from gmproxy import internal_errors
from gmproxy.backend.server_stats import ServerStats
from gmproxy.client import stats
from gmproxy.client.key_listings import KeyListings
from gmproxy.client.sessions import Sessions
from gmproxy.client.stats import ServerReplies
from gmproxy.config.configuration import UNNAMED
from gmproxy.protocol import internal_commands
from gmproxy.protocol.key_dump import KeyDump, Refused, parse_key_dump
from gmproxy.protocol.limits import MAX_HELD, MAX_HELD_BY_ONE
from gmproxy.protocol.request import INTERNAL_ERROR, ReplySink, Request, resume_all
from gmproxy.transport import tcp

log = logging.getLogger("gmproxy")

#: Seconds until the reply to a login with a wrong password: this slows down guessing. Other clients do not wait.
WRONG_PASSWORD_DELAY = 1.0

FLUSH_REFUSED = b"CLIENT_ERROR flush_all not allowed\r\n"


class PoolContext:
    """Methods: loop callback or greenlet, unless they say otherwise; none blocks.

    options         of the pool
    router          gmproxy.routing.router.Router
    worker_context  of this process (gmproxy.process.worker_context.WorkerContext)
    clients         those that are connected to this process (gmproxy.client.sessions.Sessions)
    connections     accepted so far
    rejected        clients rejected because there were too many
    dropped         clients closed because too many bytes were held for them
    auth_cmds       logins
    auth_errors     logins with a wrong password
    yields          times that a client with many requests gave way to the others
    accept_failures times that accepting paused for lack of file descriptors or memory
    held            bytes that are held for slow clients now: requests and replies that are not complete or not sent
    flushes         flush_all commands
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
        """Maximum number of clients of the pool in all workers: `-n`, but no more than there are file descriptors for."""
        room: int = self.worker_context.max_clients * self.worker_context.workers
        limit: int = self.options.max_connections or room
        return min(limit, room)

    def room(self) -> int:
        """How many more clients may be accepted. Those after them must be rejected."""
        counts = self.worker_context.client_counts
        if counts is None:
            clients = len(self.clients)
        else:
            self.clients.publish_count()
            clients = counts.clients_of_pool(self.options.name)
        process_room: int = self.worker_context.room()
        return max(min(self.max_clients - clients, process_room), 0)

    def hold(self, more: int, by_one: int) -> bool:
        """Hold `more` bytes (negative: fewer) for a client, for which `by_one` bytes are held then. False if that is too much: the client must be
        closed. Never raises."""
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
        """Complete `request`, which has no key, now or later."""
        kind = request.command.kind
        if kind == "flush" and not self.options.disable_flush_all:
            self.flushes += 1
            self.router.flush_all(request)
            return
        if kind == "wrong_password":
            self._refuse_password_later(request)
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
            if self._start_listing(request):
                return
        elif stats.needs_servers(request.keys) and not self._as_magent():
            gevent.spawn(self._reply_with_servers, request)
            return
        elif self.worker_context.call_workers is not None and stats.worker_command(request.keys):
            self._reply_with_workers(request, {})
            return
        else:
            request.reply = stats.reply(self, request.keys, self._as_magent())
        request.complete()

    def _refuse_password_later(self, request: Any) -> None:
        """Complete `request`, a login with a wrong password, after WRONG_PASSWORD_DELAY."""
        timer = gevent.get_hub().loop.timer(WRONG_PASSWORD_DELAY)
        timer.start(self._refuse_password, timer, request)
        self.auth_cmds += 1
        self.auth_errors += 1
        try:
            log.warning("wrong password client=%s", tcp.peer_name(request.sink.fd))
        except Exception:  # of the log alone: the timer is started
            internal_errors.record("context.wrong_password")

    @staticmethod
    def _refuse_password(timer: Any, request: Any) -> None:
        """Loop callback only."""
        try:
            timer.close()
        except Exception:  # the client still gets its reply
            internal_errors.record("context.refuse_password")
        request.reply = request.line
        session = request.complete()
        if session is not None:
            resume_all([session])

    def _start_listing(self, request: Request) -> bool:
        """Start the key listing for `request`. False if `request` has its reply: there is no such listing."""
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
        """In a greenlet of its own: blocks until the listing is sent. The session sends nothing before it has this reply, so the listing comes
        first."""
        try:
            request.reply = self.key_listings.send_listing(dump, request.sink)
            session = request.complete()
        except Exception:
            internal_errors.record("context.list_keys")
            session = request.abandon()
        gevent.get_hub().loop.run_callback(self._resume, session)

    def _reply_with_servers(self, request: Request) -> None:
        """In a greenlet of its own: blocks until the servers have replied."""
        try:
            replies = self.server_stats.ask(b" ".join(request.keys[:1]))
            if self.worker_context.call_workers is not None and stats.worker_command(request.keys):
                self._reply_with_workers(request, replies)
            else:
                gevent.get_hub().loop.run_callback(self._reply_to_stats, request, replies, None)
        except Exception:
            internal_errors.record("context.reply_with_servers")
            gevent.get_hub().loop.run_callback(self._resume, request.abandon())

    def _reply_with_workers(self, request: Request, replies: ServerReplies) -> None:
        title = self.options.name or UNNAMED
        self.worker_context.call_workers(
            stats.worker_command(request.keys), [title], functools.partial(self._reply_to_stats, request, replies)
        )

    def _reply_to_stats(self, request: Request, replies: ServerReplies, whole: Any) -> None:
        """`whole`: the joined result of all workers; None if they have not replied in time. Loop callback only."""
        try:
            request.reply = stats.reply(self, request.keys, self._as_magent(), whole, replies, self.server_stats.latest())
        except Exception:
            internal_errors.record("context.reply_to_stats")
            request.reply = INTERNAL_ERROR
        self._resume(request.complete())

    @staticmethod
    def _resume(session: ReplySink | None) -> None:
        """Resume `session`, if it is one: it waits for no further reply. Loop callback only."""
        if session is not None:
            resume_all([session])

    def _as_magent(self) -> bool:
        return bool(self.options.compat == "magent")
