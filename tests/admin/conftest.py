"""The status page in a real browser, over a small HTTP server whose reports are made by the test."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from support.browser import CHROMIUM, Browser
from support.reports import report
from support.timing import join

import gmproxy
from gmproxy.monitoring.history import FIELDS

PAGE = Path(gmproxy.__file__).parent / "monitoring" / "page.html"


@pytest.fixture(scope="session")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no chromium")
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium):
    """A new page, on a screen of its usual size. At the end of the test the browser may have reported no error."""
    chromium.open("about:blank")
    chromium.look()
    chromium.complaints.clear()
    chromium.requests.clear()
    yield chromium
    assert not chromium.complaints


class Site(ThreadingHTTPServer):
    """
    report    the reply to /report.json; a number: the status with which it fails
    history   the reply to /history.json
    route     the reply to /route; text: why it fails
    asked     the arguments of the requests to /route, [{name: value}]
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.report = report()
        self.history = {"interval": 10, "span": 900, "fields": [*FIELDS], "points": []}
        self.route = {}
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        address = urlsplit(self.path)
        site = self.server
        if address.path == "/":
            self.say("text/html; charset=utf-8", PAGE.read_bytes())
        elif address.path == "/report.json" and isinstance(site.report, int):
            self.send_error(site.report)
        elif address.path == "/report.json":
            self.say("application/json", json.dumps(site.report).encode())
        elif address.path == "/history.json":
            self.say("application/json", json.dumps(site.history).encode())
        elif address.path == "/route":
            site.asked.append({name: value for name, [value] in parse_qs(address.query).items()})
            refused = isinstance(site.route, str)
            self.say("application/json", (site.route if refused else json.dumps(site.route)).encode(), 400 if refused else 200)
        else:
            self.send_error(404)

    def say(self, kind, content, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words):
        pass


@pytest.fixture
def site():
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        join(thread)
