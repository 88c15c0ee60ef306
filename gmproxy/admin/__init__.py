"""Metrics, health and the status page, over HTTP; and twemproxy's JSON on a port of its own.

Runs in the first worker, beside its clients, and speaks for all workers. It only looks: orders are for the control socket.
"""

import json
import logging
from pathlib import Path
from urllib.parse import parse_qs

import gevent
from gevent.event import AsyncResult
from gevent.pywsgi import WSGIServer
from gevent.server import StreamServer

from gmproxy import conf, operations, report
from gmproxy.admin import prometheus, twemproxy

PAGE = Path(__file__).with_name("page.html")

#: Questions under way at the same time; more wait in the kernel's queue.
MAX_CONNECTIONS = 32

#: A connection is closed after so many seconds in which nothing was asked, or not to its end, or an answer not taken.
IDLE_TIMEOUT = 30.0

#: Keys in one question where they go.
MAX_KEYS = 100

#: How long the other workers may take; they are left out of an answer sooner.
ANSWER_TIMEOUT = 3.0

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

log = logging.getLogger("gmproxy")


class Admin:
    """`worker`: the gmproxy.worker.Worker that we run in."""

    def __init__(self, worker):
        self._worker = worker
        self._servers = {}  # place -> StreamServer
        self._config = None
        self._paths = {
            "/": self._page, "/metrics": self._metrics, "/healthz": self._health, "/stats.json": self._twemproxy_stats,
            "/config": self._configuration, "/report.json": self._report_as_json, "/route": self._route,
        }

    def serve(self, config, new):
        """Serve at the places that `config` names; `new`: {place: listening socket} of those that are not served yet, now ours."""
        self._config = config
        for place in [place for place in self._servers if place not in (config.admin, config.stats_port)]:
            self._servers.pop(place).stop(0)
        for place, sock in new.items():
            green = gevent.socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
            green.setblocking(False)
            if place == config.admin:
                server = WSGIServer(green, self._answer, log=None, error_log=log, spawn=MAX_CONNECTIONS, handler_class=Handler)
            else:
                server = StreamServer(green, self._tell, spawn=MAX_CONNECTIONS)
            server.start()
            self._servers[place] = server

    def stop(self):
        for server in self._servers.values():
            server.stop(0)
        self._servers = {}

    # -- what the service says

    def _ask(self, command, words=()):
        """What all workers answer together; or this one, if the others do not in time."""
        ask = self._worker.share.ask
        if ask is not None:
            answer = AsyncResult()
            ask(command, list(words), answer.set)
            with gevent.Timeout(ANSWER_TIMEOUT, False):
                told = answer.get()
                if told is not None:
                    return told
        return operations.joined(command, [self._worker.command(command, list(words))])

    def _report(self):
        return self._ask("report")

    # -- HTTP

    def _answer(self, environ, start_response):
        path = environ.get("PATH_INFO") or "/"
        method = environ["REQUEST_METHOD"]
        if path not in self._paths:
            status, kind, body = "404 Not Found", TEXT, f"there is {', '.join(self._paths)}\n".encode()
        elif method not in ("GET", "HEAD"):
            status, kind, body = "405 Method Not Allowed", TEXT, b"ask with GET\n"
        else:
            status, kind, body = self._paths[path](parse_qs(environ.get("QUERY_STRING", "")))
        start_response(status, [
            ("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ])
        return [b"" if method == "HEAD" else body]

    def _page(self, query):
        if not PAGE.exists():
            return "404 Not Found", TEXT, b"the status page is not installed\n"
        return "200 OK", "text/html; charset=utf-8", PAGE.read_bytes()

    def _metrics(self, query):
        return "200 OK", prometheus.CONTENT_TYPE, prometheus.render(self._report(), self._worker.share.workers)

    def _health(self, query):
        troubles = report.troubles(self._report(), self._worker.share.workers)
        if troubles:
            return "503 Service Unavailable", TEXT, "".join(f"{trouble}\n" for trouble in troubles).encode()
        return "200 OK", TEXT, b"ok\n"

    def _twemproxy_stats(self, query):
        return "200 OK", JSON, twemproxy.render(self._report())

    def _configuration(self, query):
        configs = [pool.config for pool in self._worker.pools.values()]
        return "200 OK", TEXT, f"{conf.describe(configs)}\n".encode()

    def _report_as_json(self, query):
        return "200 OK", JSON, json.dumps(self._report()).encode()

    def _route(self, query):
        keys = query.get("key", [])
        if not 1 <= len(keys) <= MAX_KEYS:
            return "400 Bad Request", TEXT, f"ask /route?key=KEY, with up to {MAX_KEYS} keys\n".encode()
        return "200 OK", JSON, json.dumps(self._worker.command("route", keys)).encode()

    # -- twemproxy's port

    def _tell(self, sock, address):
        """The counters, and then the end."""
        try:
            with gevent.Timeout(IDLE_TIMEOUT, False):
                sock.sendall(twemproxy.render(self._report()) + b"\n")
        except OSError:
            pass


class Handler(WSGIServer.handler_class):
    """Lets nobody keep a connection for ever."""

    def handle_one_request(self):
        """As long as the wait for a request and its answer may take; a connection on which one follows the other is kept."""
        with gevent.Timeout(IDLE_TIMEOUT, False):
            return super().handle_one_request()
        return None  # that ends the connection
