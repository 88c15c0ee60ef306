"""What the admin listener makes of a request's header."""

import pytest

from gmproxy.admin.http import BAD_REQUEST, Question, Refused, is_known, parse


@pytest.mark.parametrize("head, question", [
    (b"GET / HTTP/1.1\r\nHost: a:1", Question("GET", "/", "", "a:1", True)),
    (b"GET /route?key=a HTTP/1.1\r\nHost: a\r\nConnection: close", Question("GET", "/route", "key=a", "a", False)),
    (b"HEAD /metrics HTTP/1.0", Question("HEAD", "/metrics", "", None, False)),
    (b"GET /metrics HTTP/1.0\nconnection: Keep-Alive", Question("GET", "/metrics", "", None, True)),
    (b"GET http://b:2/config?x HTTP/1.1\r\nHost: a", Question("GET", "/config", "x", "b:2", True)),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3", Question("POST", "/", "", "a", False)),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", Question("POST", "/", "", "a", False)),
    (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0", Question("GET", "/", "", "a", True)),
])
def test_questions(head, question):
    assert parse(head) == question


@pytest.mark.parametrize("head", [
    b"", b"GET", b"GET /", b"GET / HTTP/2.0", b"GET / HTTP/1.1", b"GET  / HTTP/1.1\r\nHost: a", b"get a\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b",
    b"GET / HTTP/1.1\r\nHost : a", b"GET / HTTP/1.1\r\nHost: a\r\n folded", b"GET / HTTP/1.1\r\nHost: a\r\nno colon", b"GET http://[ HTTP/1.1\r\nHost: a",
    b"\x16\x03\x01\x02\x00", b"set k 0 0 1",
])
def test_no_questions(head):
    with pytest.raises(Refused) as refused:
        parse(head)
    assert refused.value.status == BAD_REQUEST


@pytest.mark.parametrize("host", [None, "127.0.0.1", "10.0.0.1:8211", "[::1]", "[::1]:8211", "localhost", "LOCALHOST:8211", "localhost.",
                                  "proxy.example", "Proxy.Example:8211", "proxy.example."])
def test_hosts_that_are_answered(host):
    assert is_known(host, ["proxy.example"])


@pytest.mark.parametrize("host", ["", "evil.example", "evil.example:8211", "proxy.example.evil.example", "localhost.evil.example", "127.0.0.1.evil.example",
                                  "xproxy.example", "[evil]", "::1.evil", "127.0.0.1@evil.example", "evil.example:127.0.0.1"])
def test_hosts_that_are_not(host):
    assert not is_known(host, ["proxy.example"])
    assert not is_known(host, [""])
