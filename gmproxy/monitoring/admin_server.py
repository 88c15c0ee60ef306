"""Metrics, health and the status page over HTTP, and twemproxy's JSON on its own port.

Runs in the first worker, beside its clients, and reports on all workers. It is read-only: what changes the service is a control command.
"""

import ipaddress
import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs

import gevent
from gevent.event import AsyncResult

from gmproxy import internal_errors
from gmproxy.config import description
from gmproxy.config.configuration import Config
from gmproxy.monitoring import control_commands, history, http_server, prometheus, twemproxy_stats
from gmproxy.monitoring.interfaces import MonitoredWorker, Report, Response
from gmproxy.monitoring.report import degradations, health_problems

#: (status, content type, body)
HttpResponse = tuple[str, str, bytes]

#: Of WSGI: (status, [(name of a field, value)]).
StartResponse = Callable[[str, list[tuple[str, str]]], Callable[[bytes], None]]

Result = TypeVar("Result")

PAGE = Path(__file__).with_name("page.html")

#: Maximum number of keys in a request for routes.
MAX_KEYS = 100

#: Seconds within which the other workers must reply; after that, the response is this worker's alone.
WORKERS_TIMEOUT = 3.0

#: Seconds for which a report is cached: making one takes milliseconds in every worker.
REPORT_CACHED = 0.5

#: Logged characters of a refused Host field.
MAX_HOST = 100

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

log = logging.getLogger("gmproxy")


def is_known(host: str | None, names: Iterable[str]) -> bool:
    """True if `host`, the value of a Host field or None, is an address, localhost or one of `names` (in lower case).

    DNS rebinding: another site lets its own name resolve to this address, and its page then reads the metrics with the browser of a user who
    can reach this listener. The browser sends the site's name in the Host field.
    """
    if host is None:  # every browser sends it
        return True
    name = re.sub(r":[0-9]*$", "", host).rstrip(".").lower()
    if name and (name == "localhost" or name in names):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class CachedResult(Generic[Result]):
    """Caches the result of make() for `seconds`. At most one make() runs at a time. It has its own greenlet, so it continues if a greenlet that
    waits for it is killed."""

    def __init__(self, make: Callable[[], Result], seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._value: Result | None = None
        self._until = 0.0
        self._making: gevent.Greenlet | None = None

    def get(self) -> Result:
        """The cached or new result. Greenlet only: it waits for make(), up to 2 * WORKERS_TIMEOUT. Raises LookupError if there is no result."""
        if time.monotonic() >= self._until:
            making = self._making
            if making is None:
                making = self._making = gevent.spawn(self._make_now)
            making.join(2 * WORKERS_TIMEOUT)
        if self._value is None:
            raise LookupError("no report")
        return self._value

    def _make_now(self) -> None:
        try:
            self._value = self._make()
            self._until = time.monotonic() + self._seconds
        except Exception:
            internal_errors.record("admin.report")
            self._value = None
        finally:
            self._making = None


class AdminServer:
    """The admin listener and twemproxy's port, in the first worker. `worker`: the worker of this process."""

    def __init__(self, worker: MonitoredWorker) -> None:
        self._worker = worker
        self._servers: dict[str, http_server.HttpServer | http_server.ConnectionServer] = {}  # by address
        self._config: Config
        self._cached_report: CachedResult[Report] = CachedResult(lambda: self._command_all("report"), REPORT_CACHED)
        self._history = history.History()
        self._historian: gevent.Greenlet | None = None  # adds to it; runs while there is an admin listener
        self._rendered: tuple[Report | None, dict[str, bytes]] = (None, {})  # (report, {path: the rendered response})
        self._paths: dict[str, Callable[[dict[str, list[str]]], HttpResponse]] = {
            "/": self._page,
            "/metrics": self._metrics,
            "/healthz": self._health,
            "/stats.json": self._twemproxy_counters,
            "/config": self._configuration,
            "/report.json": self._report_as_json,
            "/history.json": self._history_as_json,
            "/route": self._route,
        }

    def follow_config(self, config: Config, new: Mapping[str, socket.socket]) -> None:
        """Serve exactly the addresses in `config`. `new`: {address: listening socket} for those that are not served yet; takes over the sockets.
        Called at start-up and at a reload. Greenlet only."""
        self._config = config
        for address in [address for address in self._servers if address not in (config.admin, config.stats_port)]:
            self._servers.pop(address).stop()
        for address, sock in new.items():
            green = gevent.socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
            green.setblocking(False)
            server = (
                http_server.HttpServer(green, self._application)
                if address == config.admin
                else http_server.ConnectionServer(green, self._send_counters)
            )
            server.start()
            self._servers[address] = server
        if config.admin and self._historian is None:
            self._historian = gevent.spawn(self._keep_history)
        elif not config.admin:
            self._stop_history()

    def close_listeners(self) -> None:
        """Close the listeners and all connections to them. Does not wait."""
        for server in self._servers.values():
            server.stop()
        self._servers = {}
        self._stop_history()

    # -- the report

    def _command_all(self, command: str, arguments: Sequence[str] = ()) -> Response:
        """The merged response of all workers, or that of this worker if the others do not reply. Greenlet only: blocks for up to WORKERS_TIMEOUT."""
        call_workers = self._worker.context.call_workers
        if call_workers is not None:
            pending: AsyncResult[Response | None] = AsyncResult()
            call_workers(command, list(arguments), pending.set)
            with gevent.Timeout(WORKERS_TIMEOUT, False):
                response: Response | None = pending.get()
                if response is not None:
                    return response
        return control_commands.merge_responses(command, [self._worker.run_command(command, list(arguments))])

    def _report(self) -> Report:
        return self._cached_report.get()

    def _render(self, path: str, render: Callable[[Report], bytes]) -> bytes:
        """The result of render(report), cached for each report and `path`."""
        report = self._report()
        if self._rendered[0] is not report:
            self._rendered = report, {}
        rendered = self._rendered[1]
        if path not in rendered:
            rendered[path] = render(report)
        return rendered[path]

    def _keep_history(self) -> None:
        """The history greenlet; ends when it is killed. A point that cannot be made is left out. It does not use the cached report, so that the
        age of a cached report does not depend on the history."""
        while True:
            try:
                self._history.add_report(self._command_all("report"))
            except Exception:
                internal_errors.record("admin.history")
            gevent.sleep(history.INTERVAL)

    def _stop_history(self) -> None:
        """Stop and clear the history: without an admin listener nothing reads it."""
        if self._historian is not None:
            self._historian.kill(block=False)
            self._historian = None
            self._history = history.History()

    # -- HTTP

    def _application(self, environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        """The WSGI application. Runs in the greenlet of a connection."""
        try:
            status, kind, body = self._answer(environ)
        except Exception:
            internal_errors.record("admin.answer")
            status, kind, body = "500 Internal Server Error", TEXT, b"internal error: see the log\n"
        fields = [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if status.startswith("405 "):
            fields.append(("Allow", "GET, HEAD"))
        start_response(status, fields)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: dict[str, Any]) -> HttpResponse:
        path: str = environ["PATH_INFO"] or "/"
        host: str | None = environ.get("HTTP_HOST")
        if not (self._config.admin.startswith("/") or is_known(host, self._config.admin_host.split(","))):
            log.warning("admin host refused host=%r", (host or "")[:MAX_HOST])
            return "403 Forbidden", TEXT, b"unknown host name in the Host field: add it with --admin-host\n"
        if path not in self._paths:
            return "404 Not Found", TEXT, f"unknown path: expected one of {', '.join(self._paths)}\n".encode()
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "405 Method Not Allowed", TEXT, b"expected GET or HEAD\n"
        return self._paths[path](parse_qs(environ["QUERY_STRING"]))

    def _page(self, query: dict[str, list[str]]) -> HttpResponse:
        if not PAGE.exists():
            return "404 Not Found", TEXT, b"the status page is not installed\n"
        return "200 OK", "text/html; charset=utf-8", PAGE.read_bytes()

    def _metrics(self, query: dict[str, list[str]]) -> HttpResponse:
        return (
            "200 OK",
            prometheus.CONTENT_TYPE,
            self._render("/metrics", lambda report: prometheus.render(report, self._worker.context.workers)),
        )

    def _health(self, query: dict[str, list[str]]) -> HttpResponse:
        problems = health_problems(self._report(), self._worker.context.workers)
        if problems:
            return "503 Service Unavailable", TEXT, "".join(f"{problem}\n" for problem in problems).encode()
        lines = degradations(self._report()) or ["ok"]
        return "200 OK", TEXT, "".join(f"{line}\n" for line in lines).encode()

    def _twemproxy_counters(self, query: dict[str, list[str]]) -> HttpResponse:
        return "200 OK", JSON, self._render("/stats.json", twemproxy_stats.render)

    def _configuration(self, query: dict[str, list[str]]) -> HttpResponse:
        configs = [pool.config for pool in self._worker.pools.values()]
        return "200 OK", TEXT, f"{description.describe(configs)}\n".encode()

    def _report_as_json(self, query: dict[str, list[str]]) -> HttpResponse:
        return "200 OK", JSON, self._render("/report.json", lambda report: json.dumps(report).encode())

    def _history_as_json(self, query: dict[str, list[str]]) -> HttpResponse:
        return "200 OK", JSON, self._history.as_json()

    def _route(self, query: dict[str, list[str]]) -> HttpResponse:
        keys = query.get("key", [])
        if not 1 <= len(keys) <= MAX_KEYS:
            return "400 Bad Request", TEXT, f"expected /route?key=KEY, with at most {MAX_KEYS} keys\n".encode()
        return "200 OK", JSON, json.dumps(self._worker.run_command("route", keys)).encode()

    # -- twemproxy's port

    def _send_counters(self, sock: Any, address: Any) -> None:
        """Send the counters; the connection is closed afterwards. Greenlet only: it waits. Raises OSError, also if the client does not read them
        within WRITE_TIMEOUT."""
        with gevent.Timeout(http_server.WRITE_TIMEOUT, OSError("the client does not read the reply")):
            sock.sendall(self._render("/stats.json", twemproxy_stats.render) + b"\n")
        http_server.linger(sock)  # an HTTP client has sent a request, and to close with unread bytes would reset the connection
