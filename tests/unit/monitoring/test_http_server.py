"""How the admin listener handles requests: its limits around pywsgi, in the process of the test."""

import logging
import re
from types import SimpleNamespace

import gevent.socket
import pytest
from support.timing import PATIENCE

from gmproxy.monitoring import http_server
from gmproxy.monitoring.admin_server import AdminServer, is_known

CLOSES = "Connection: close"


@pytest.fixture
def server():
    """An HttpServer that does not accept. `asked`: the requests that its application received, [(method, path, query, Host)]."""

    def application(environ, start_response):
        made.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"], environ.get("HTTP_HOST")))
        if environ["PATH_INFO"] == "/fault":
            raise ZeroDivisionError
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    listening = gevent.socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    made = http_server.HttpServer(listening, application)
    made.asked = []
    yield made
    made.stop()


def talk(server, data, ends=True):
    """What a connection receives that sends `data` and then, with `ends`, half-closes."""
    client, ours = gevent.socket.socketpair()
    with gevent.Timeout(PATIENCE), client:
        server.do_handle(ours, "")
        client.sendall(data)
        if ends:
            client.shutdown(gevent.socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b"")).decode()


def statuses(answers):
    return re.findall("HTTP/1.1 ([0-9]+)", answers)


@pytest.mark.parametrize(
    "head, asked, closes",
    [
        (b"GET / HTTP/1.1\r\nHost: a:1", ("GET", "/", "", "a:1"), False),
        (b"\r\n\nGET / HTTP/1.1\nHost: a", ("GET", "/", "", "a"), False),
        (b"GET /route?key=a HTTP/1.1\r\nHost: a\r\nConnection: close", ("GET", "/route", "key=a", "a"), True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: TE, Close", ("GET", "/", "", "a"), True),
        (b"GET /metrics HTTP/1.0", ("GET", "/metrics", "", None), True),
        (b"GET /metrics HTTP/1.0\nconnection: Keep-Alive", ("GET", "/metrics", "", None), False),
        (b"GET http://b:2/config?x HTTP/1.1\r\nHost: a", ("GET", "/config", "x", "b:2"), False),
        (b"GET http://b HTTP/1.0", ("GET", "", "", "b"), True),
        (b"GET //b/config HTTP/1.1\r\nHost: a", ("GET", "/config", "", "b"), False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b", ("GET", "/", "", "a,b"), False),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3", ("POST", "/", "", "a"), True),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue", ("POST", "/", "", "a"), True),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", ("POST", "/", "", "a"), True),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked", ("POST", "/", "", "a"), True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0", ("GET", "/", "", "a"), False),
    ],
)
def test_requests(server, head, asked, closes):
    """A second request is served unless the connection ends, and no part of a body is parsed as a request."""
    answers = talk(server, head + b"\r\n\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert server.asked == ([asked] if closes else [asked, ("GET", "/2", "", "a")])
    assert statuses(answers) == ["200"] * len(server.asked)
    assert (CLOSES.lower() in answers.lower()) is closes


@pytest.mark.parametrize("field", [b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"])
def test_a_body_is_not_waited_for(server, monkeypatch, field):
    monkeypatch.setattr(http_server, "WRITE_TIMEOUT", 2 * PATIENCE)
    assert statuses(talk(server, b"POST / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n", ends=False)) == ["200"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET",
        b"GET /",
        b"GET / HTTP/2.0",
        b"GET / HTTP/1",
        b"GET / HTTP/x.y",
        b"GET / HTTP/1.1",
        b"get a",
        b"GET / HTTP/1.1\r\nHost : a",
        b"GET / HTTP/1.1\r\nno colon\r\nHost: a",
        b"GET http://[ HTTP/1.1\r\nHost: a",
        b"\x16\x03\x01\x02\x00",
        b"set k 0 0 1",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: many",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 1",
        b"GET / HTTP/1.1\r\nHost: a" + b"\r\nx: y" * 200,
    ],
)
def test_bad_requests(server, head, capfd, caplog):
    caplog.set_level(logging.INFO, "gmproxy")
    answers = talk(server, head + b"\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", ends=False)
    assert answers == "HTTP/1.1 400 Bad Request\r\nContent-Length: 16\r\nConnection: close\r\n\r\n400 Bad Request\n"
    assert server.asked == []
    assert capfd.readouterr() == ("", ""), "pywsgi prints nothing"
    assert [record.getMessage() for record in caplog.records] == ["admin request refused client=unix status='400 Bad Request'"]


@pytest.mark.parametrize(
    "head, status",
    [
        (b"GET /" + b"a" * http_server.MAX_HEADER, "431"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a", "414"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"y" * http_server.MAX_HEADER, "431"),
        (b"GET / HTTP/1.1\r\nHost: a" + b"\r\nx: y" * http_server.MAX_HEADER, "431"),
        (b"\r\n" * http_server.MAX_HEADER, "431"),
    ],
)
def test_long_headers(server, head, status):
    """Bytes that are not read do not prevent the client from receiving its response."""
    assert statuses(talk(server, head + b"\r\n\r\n")) == [status]
    assert server.asked == []


def test_a_header_may_be_as_long_as_the_limit(server):
    head = b"GET / HTTP/1.1\r\nHost: a\r\nx: "
    assert statuses(talk(server, head + b"y" * (http_server.MAX_HEADER - len(head) - 4) + b"\r\n\r\n")) == ["200"]


@pytest.mark.parametrize("data", [b"", b"\r\n", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_a_client_that_ends_before_its_request_gets_nothing(server, data):
    assert talk(server, data) == ""
    assert server.asked == []


def test_a_request_that_does_not_end_is_refused(server, monkeypatch):
    monkeypatch.setattr(http_server, "HEADER_TIMEOUT", 0.05)
    assert statuses(talk(server, b"GET / HTTP/1.1\r\nHost: ", ends=False)) == ["408"]


def test_an_idle_connection_is_closed(server, monkeypatch):
    monkeypatch.setattr(http_server, "IDLE_TIMEOUT", 0.05)
    assert statuses(talk(server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ends=False)) == ["200"]
    assert talk(server, b"", ends=False) == ""


def test_a_client_that_does_not_read_is_closed(server, monkeypatch, capfd, internal_errors_counted):
    monkeypatch.setattr(http_server, "WRITE_TIMEOUT", 0.05)
    server.application = lambda environ, start_response: start_response("200 OK", []) and [b"x" * 10_000_000]
    before = internal_errors_counted()
    client, ours = gevent.socket.socketpair()
    with gevent.Timeout(PATIENCE), client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        server.do_handle(ours, "")
        (greenlet,) = server._open
        greenlet.join(PATIENCE)
    assert not server._open
    assert internal_errors_counted() == before
    assert capfd.readouterr() == ("", "")


def test_the_longest_inactive_connection_makes_room(server):
    """Also if it does not read, in the middle of a response: its greenlet ends."""
    server.max_connections = 2
    server.application = lambda environ, start_response: start_response("200 OK", []) and [b"x" * 10_000_000]
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    deaf, ours = gevent.socket.socketpair()
    idle, other = gevent.socket.socketpair()
    with gevent.Timeout(PATIENCE), deaf, idle:
        deaf.sendall(request)
        server.do_handle(ours, "")
        assert deaf.recv(5) == b"HTTP/"
        server.do_handle(other, "")
        (first, second) = server._open
        gevent.sleep(0)
        assert len(talk(server, request)) > 10_000_000
        first.join(PATIENCE)
        assert first.successful()
        assert list(server._open) == [second]


def test_what_the_application_raises_ends_the_connection_and_is_counted(server, capfd, caplog, internal_errors_counted):
    before = internal_errors_counted()
    assert talk(server, b"GET /fault HTTP/1.1\r\nHost: a\r\n\r\n") == ""
    assert internal_errors_counted() == before + 1
    assert "internal error where=accept.serve" in caplog.text
    assert capfd.readouterr() == ("", "")


def test_a_fault_behind_a_path_is_answered_500_without_its_traceback(server, caplog, internal_errors_counted):
    admin = AdminServer(None)
    admin._config = SimpleNamespace(admin="127.0.0.1:1", admin_host="")
    admin._paths["/fault"] = lambda query: 1 / 0
    server.application = admin._application
    before = internal_errors_counted()
    request = b"GET /fault HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers = talk(server, request + request.replace(b"GET", b"HEAD"))
    assert statuses(answers) == ["500", "500"], "and the connection goes on"
    assert answers.count("internal error: see the log\n") == 1
    assert "Zero" not in answers
    assert answers.count("Content-Length: 28\r\n") == 2
    assert internal_errors_counted() == before + 2
    assert "internal error where=admin.answer" in caplog.text


@pytest.mark.parametrize(
    "host",
    [
        None,
        "127.0.0.1",
        "10.0.0.1:8211",
        "[::1]",
        "[::1]:8211",
        "localhost",
        "LOCALHOST:8211",
        "localhost.",
        "proxy.example",
        "Proxy.Example:8211",
        "proxy.example.",
    ],
)
def test_hosts_that_are_answered(host):
    assert is_known(host, ["proxy.example"])


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8211",
        "proxy.example.evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "xproxy.example",
        "[evil]",
        "::1.evil",
        "127.0.0.1@evil.example",
        "evil.example:127.0.0.1",
    ],
)
def test_hosts_that_are_not(host):
    assert not is_known(host, ["proxy.example"])
    assert not is_known(host, [""])
