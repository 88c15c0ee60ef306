"""Misbehaving clients of the admin listener: memcached clients are served, `/healthz` is available, and the log stays short."""

import json
import re
import socket

import pytest
from support.servers import HOST, free_port
from support.talk import Talk
from support.timing import PATIENCE, Stopwatch, eventually

from gmproxy.monitoring.admin_server import REPORT_CACHED
from gmproxy.monitoring.http_server import HEADER_TIMEOUT, MAX_HEADER
from gmproxy.monitoring.logging_setup import BURST
from gmproxy.system.descriptors import ADMIN_CONNECTIONS

HEALTHY = "HTTP/1.1 200 OK"


@pytest.fixture
def service(memcached, proxy):
    """service(arguments): a proxy whose admin listener is at `.admin`, and the stats port of twemproxy at `.stats`."""

    def start(*arguments):
        admin, stats = free_port(), free_port()
        made = proxy("-s", memcached().address, "--admin", f"{HOST}:{admin}", "--stats-port", stats, *arguments)
        made.admin, made.stats_port = admin, stats
        return made

    return start


def connect(service):
    return Talk(service.admin, timeout=PATIENCE)


def question(path, host="127.0.0.1", version="1.1", more=""):
    return f"GET {path} HTTP/{version}\r\nHost: {host}\r\n{more}\r\n".encode()


def read_answer(talk):
    """(status line, body)"""
    head = talk.read_until(b"\r\n\r\n").decode()
    length = int(re.search(r"Content-Length: (\d+)", head)[1])
    return head.partition("\r\n")[0], talk.read_exactly(length)


def ask(service, path, **how):
    with connect(service) as talk:
        talk.send(question(path, **how))
        return read_answer(talk)


def test_one_report_answers_all_who_ask_in_a_moment(service):
    running = service()
    count = 500
    with connect(running) as talk, running.talk() as client:
        watch = Stopwatch()
        talk.send(question("/report.json") * count)
        client.in_step()
        times = {json.loads(read_answer(talk)[1])["time"] for _ in range(count)}
        assert len(times) <= 2 + watch.seconds / REPORT_CACHED
        client.in_step()


def test_half_questions_do_not_keep_health_away(service):
    running = service()
    half = [connect(running) for _ in range(2 * ADMIN_CONNECTIONS)]
    for talk in half:
        talk.send(b"GET /healthz HTTP/1.1\r\nHost: ")
    for _ in range(3):
        assert ask(running, "/healthz") == (HEALTHY, b"ok\n")
    assert running.descriptors() < 2 * ADMIN_CONNECTIONS
    for talk in half:
        talk.close()


def test_nor_do_those_who_do_not_read(service):
    running = service()
    deaf = [connect(running) for _ in range(2 * ADMIN_CONNECTIONS)]
    for talk in deaf:
        talk.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        talk.send(question("/report.json") * 200)
    for _ in range(3):
        assert ask(running, "/healthz") == (HEALTHY, b"ok\n")
    for talk in deaf:
        talk.close()


def test_twemproxys_port_keeps_few_connections_too(service):
    running = service()
    deaf = [Talk(running.stats_port) for _ in range(3 * ADMIN_CONNECTIONS)]
    with Talk(running.stats_port) as talk:
        assert json.loads(talk.read_until(b"}\n"))["service"]
        assert talk.closed()
    for talk in deaf:
        talk.close()


@pytest.mark.long
def test_half_a_question_is_not_waited_for_long(service):
    running = service()
    with connect(running) as talk:
        watch = Stopwatch()
        talk.send(b"GET / HTTP/1.1\r\nHost: a")
        talk.socket.settimeout(HEADER_TIMEOUT + PATIENCE)
        assert read_answer(talk)[0] == "HTTP/1.1 408 Request Timeout"
        assert watch.seconds > 0.9 * HEADER_TIMEOUT
        assert talk.closed()


@pytest.mark.parametrize("more", ["x: y\r\n" * MAX_HEADER, "x: " + "y" * MAX_HEADER + "\r\n"])
def test_a_long_header_is_refused(service, more):
    assert ask(service(), "/", more=more)[0] == "HTTP/1.1 431 Request Header Fields Too Large"


def test_bad_requests_are_logged_but_not_all_of_them(service):
    running = service()
    for number in range(BURST + 50):
        with connect(running) as talk:
            talk.send(b"nonsense %d\r\n\r\n" % number)
            assert read_answer(talk)[0] == "HTTP/1.1 400 Bad Request"
            assert talk.closed()
    log = running.log()
    assert 0 < log.count("INFO admin request refused client=") <= 2 * BURST  # perhaps in two windows of the limit
    assert len(log) < 30_000
    assert "nonsense" not in log


@pytest.mark.parametrize("workers", [1, 2])
def test_only_hosts_that_are_known_are_answered(service, workers):
    """A page of evil.example, a name that resolves to the address of gmproxy, reads nothing."""
    running = service("--admin-host", "Proxy.example,other", "--workers", workers)
    eventually(lambda: ask(running, "/healthz")[0] == HEALTHY, what="all workers serve")
    for host in ("127.0.0.1", "localhost:8211", "[::1]", "proxy.example", "other:8211", "10.1.2.3"):
        assert ask(running, "/healthz", host=host) == (HEALTHY, b"ok\n")
    for path in ("/", "/metrics", "/config", "/report.json", "/route?key=k", "/healthz", "/stats.json", "/nonsense"):
        status, body = ask(running, path, host="evil.example")
        assert status == "HTTP/1.1 403 Forbidden"
        assert body == b"unknown host name in the Host field: add it with --admin-host\n"
    with connect(running) as talk:
        talk.send(question("http://evil.example/report.json"))
        assert read_answer(talk)[0] == "HTTP/1.1 403 Forbidden"
    assert "WARNING admin host refused host='evil.example'" in running.log()
