"""Metrics, health and the status page, over HTTP; and twemproxy's JSON on a port of its own.

Runs in the first worker, beside its clients, and speaks for all workers. It only looks: orders are for the control socket.
"""

import ipaddress
import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import gevent
from gevent.event import AsyncResult

from gmproxy import internal_errors
from gmproxy.config import configuration
from gmproxy.monitoring import (
    control_commands,
    http_server,
    prometheus,
    report,
    twemproxy_stats,
)

PAGE = Path(__file__).with_name("page.html")

#: Keys in one question where they go.
MAX_KEYS = 100

#: How long the other workers may take; they are left out of an answer sooner.
ANSWER_TIMEOUT = 3.0

#: Seconds for which a report is kept and served again: making one takes milliseconds in every worker.
REPORT_KEPT = 0.5

#: Characters of an unknown host name that the log gets.
MAX_HOST = 100

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

log = logging.getLogger("gmproxy")


def is_known(host: str | None, names: Iterable[str]) -> bool:
    """True if `host`, as in a Host field, is an address, localhost or one of `names` (in lower case).

    A page of another site can have its own name resolve to our address, and then read what we answer, with the browser of somebody who
    can reach us (DNS rebinding). The browser says in the Host field which name it was.
    """
    if host is None:  # no browser leaves it out
        return True
    name = re.sub(r":[0-9]*$", "", host).rstrip(".").lower()
    if name and (name == "localhost" or name in names):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class Kept:
    """What make() gives, for all who ask within `seconds`. One make() is under way at a time, in a greenlet of its own: it goes on when one
    of those who wait for it is gone."""

    def __init__(self, make: Callable[[], Any], seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._value: Any = None
        self._until = 0.0
        self._making: Any = None

    def get(self) -> Any:
        """Called in a greenlet; may wait as long as make() does, and ANSWER_TIMEOUT more at most. Raises LookupError if that failed."""
        if time.monotonic() >= self._until:
            if self._making is None:
                self._making = gevent.spawn(self._run)
            self._making.join(2 * ANSWER_TIMEOUT)
        if self._value is None:
            raise LookupError("no report")
        return self._value

    def _run(self) -> None:
        try:
            self._value = self._make()
            self._until = time.monotonic() + self._seconds
        except Exception:
            internal_errors.record("admin.report")
            self._value = None
        finally:
            self._making = None


class Admin:
    """`worker`: the gmproxy.process.worker.Worker that we run in."""

    def __init__(self, worker):
        self._worker = worker
        self._servers = {}  # place -> http.Connections
        self._config = None
        self._kept = Kept(lambda: self._ask("report"), REPORT_KEPT)
        self._rendered = (None, {})  # (report, {path: the rendered response})
        self._paths = {
            "/": self._page, "/metrics": self._metrics, "/healthz": self._health, "/stats.json": self._twemproxy_stats,
            "/config": self._configuration, "/report.json": self._report_as_json, "/route": self._route,
        }

    def serve(self, config, new):
        """Serve at the places that `config` names; `new`: {place: listening socket} of those that are not served yet, now ours."""
        self._config = config
        for place in [place for place in self._servers if place not in (config.admin, config.stats_port)]:
            self._servers.pop(place).stop()
        for place, sock in new.items():
            green = gevent.socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
            green.setblocking(False)
            server = http_server.Server(green, self._application) if place == config.admin else http_server.Connections(green, self._tell)
            server.start()
            self._servers[place] = server

    def stop(self):
        for server in self._servers.values():
            server.stop()
        self._servers = {}

    # -- what the service says

    def _ask(self, command, words=()):
        """What all workers answer together; or this one, if the others do not in time."""
        call_workers = self._worker.context.call_workers
        if call_workers is not None:
            answer = AsyncResult()
            call_workers(command, list(words), answer.set)
            with gevent.Timeout(ANSWER_TIMEOUT, False):
                told = answer.get()
                if told is not None:
                    return told
        return control_commands.joined(command, [self._worker.run_command(command, list(words))])

    def _report(self):
        return self._kept.get()

    def _render(self, path: str, render: Callable[[dict], bytes]) -> bytes:
        """`render(report)`, bytes, once for each report."""
        told = self._report()
        if self._rendered[0] is not told:
            self._rendered = told, {}
        rendered = self._rendered[1]
        if path not in rendered:
            rendered[path] = render(told)
        return rendered[path]

    # -- HTTP

    def _application(self, environ: dict[str, Any], start_response: Callable) -> list[bytes]:
        """WSGI; called in a greenlet of the connection."""
        try:
            status, kind, body = self._answer(environ)
        except Exception:
            internal_errors.record("admin.answer")
            status, kind, body = "500 Internal Server Error", TEXT, b"internal error, see the log\n"
        fields = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]
        if status.startswith("405 "):
            fields.append(("Allow", "GET, HEAD"))
        start_response(status, fields)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[str, str, bytes]:
        """(status, type, body)"""
        path, host = environ["PATH_INFO"] or "/", environ.get("HTTP_HOST")
        if not (self._config.admin.startswith("/") or is_known(host, self._config.admin_host.split(","))):
            log.warning("admin host refused host=%r", host[:MAX_HOST])
            return "403 Forbidden", TEXT, b"this name is not known: see --admin-host\n"
        if path not in self._paths:
            return "404 Not Found", TEXT, f"there is {', '.join(self._paths)}\n".encode()
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "405 Method Not Allowed", TEXT, b"ask with GET\n"
        return self._paths[path](parse_qs(environ["QUERY_STRING"]))

    def _page(self, query):
        if not PAGE.exists():
            return "404 Not Found", TEXT, b"the status page is not installed\n"
        return "200 OK", "text/html; charset=utf-8", PAGE.read_bytes()

    def _metrics(self, query):
        return "200 OK", prometheus.CONTENT_TYPE, self._render("/metrics", lambda told: prometheus.render(told, self._worker.context.workers))

    def _health(self, query):
        troubles = report.troubles(self._report(), self._worker.context.workers)
        if troubles:
            return "503 Service Unavailable", TEXT, "".join(f"{trouble}\n" for trouble in troubles).encode()
        return "200 OK", TEXT, b"ok\n"

    def _twemproxy_stats(self, query):
        return "200 OK", JSON, self._render("/stats.json", twemproxy_stats.render)

    def _configuration(self, query):
        configs = [pool.config for pool in self._worker.pools.values()]
        return "200 OK", TEXT, f"{configuration.describe(configs)}\n".encode()

    def _report_as_json(self, query):
        return "200 OK", JSON, self._render("/report.json", lambda told: json.dumps(told).encode())

    def _route(self, query):
        keys = query.get("key", [])
        if not 1 <= len(keys) <= MAX_KEYS:
            return "400 Bad Request", TEXT, f"ask /route?key=KEY, with up to {MAX_KEYS} keys\n".encode()
        return "200 OK", JSON, json.dumps(self._worker.run_command("route", keys)).encode()

    # -- twemproxy's port

    def _tell(self, sock, address):
        """The counters, and then the end."""
        with gevent.Timeout(http_server.WRITE_TIMEOUT, OSError("the answer is not read")):
            sock.sendall(self._render("/stats.json", twemproxy_stats.render) + b"\n")
