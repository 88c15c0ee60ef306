"""Server strings: every accepted form, and for every bad one a message that quotes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmproxy.placement.server_spec import Server, parse_servers

GOOD = [
    ("cache1", Server("cache1", 11211), "cache1:11211"),
    ("cache1:11300", Server("cache1", 11300), "cache1:11300"),
    ("10.0.0.1:11211:3", Server("10.0.0.1", 11211, 3), "10.0.0.1:11211"),
    ("10.0.0.1:11211:1.5", Server("10.0.0.1", 11211, 1.5), "10.0.0.1:11211"),
    ("10.0.0.1:11211:2.0", Server("10.0.0.1", 11211, 2), "10.0.0.1:11211"),
    ("10.0.0.1:11211:1 server1", Server("10.0.0.1", 11211, 1, "server1"), "10.0.0.1:11211"),
    ("10.0.0.1:11211 server1", Server("10.0.0.1", 11211, 1, "server1"), "10.0.0.1:11211"),
    ("[::1]", Server("::1", 11211), "[::1]:11211"),
    ("[fe80::1%eth0]:1:2 a", Server("fe80::1%eth0", 1, 2, "a"), "[fe80::1%eth0]:1"),
    ("unix:/run/m.sock", Server("/run/m.sock", 0, unix_path="/run/m.sock"), "unix:/run/m.sock"),
    ("unix:/run/m:sock:2 a", Server("/run/m:sock", 0, 2, "a", "/run/m:sock"), "unix:/run/m:sock"),
    ("/run/m.sock:1", Server("/run/m.sock", 0, unix_path="/run/m.sock"), "unix:/run/m.sock"),
]

BAD = [
    ("", "empty server"),
    ("a:1,,b:2", "empty server"),
    ("a:1;", "empty server"),
    (":11211", "the host is empty"),
    ("a:", "the port is empty"),
    ("[::1]:", "the port is empty"),
    ("a:b", "port 'b' is not a number"),
    ("a:+1", "port '+1' is not a number"),
    ("a:1_0", "port '1_0' is not a number"),
    ("a:\u0661", "is not a number"),
    ("a:0", "port 0 is not a number from 1 to 65535"),
    ("a:65536", "port 65536 is not a number from 1 to 65535"),
    ("a:" + "9" * 5000, "is not a number from 1 to 65535"),
    ("a:1:0", "weight 0 is not positive"),
    ("a:1:-1", "weight '-1' is not a positive number"),
    ("a:1:", "weight '' is not a positive number"),
    ("a:1:nan", "weight 'nan' is not a positive number"),
    ("a:1:1e3", "weight '1e3' is not a positive number"),
    ("unix:/run/m:0", "weight 0 is not positive"),
    ("unix:run/m", "absolute path"),
    ("unix:", "absolute path"),
    ("[::1:11211", "closing bracket is missing"),
    ("::1]:11211", "opening bracket is missing"),
    ("[::1]11211", "must follow the bracket"),
    ("[cache1]:1", "'cache1' is not an IPv6 address"),
    ("::1", "an IPv6 address needs brackets"),
    ("fe80:0:0:0:0:0:0:1:11211", "an IPv6 address needs brackets"),
    ("a:1:1 b c", "a name is one word"),
    ('a:1:1 ""', "the name is empty"),
]


@pytest.mark.parametrize("text, server, label", GOOD)
def test_good(text, server, label):
    assert parse_servers(text) == [server]
    assert server.label == label


@pytest.mark.parametrize("text, reason", BAD)
def test_bad(text, reason):
    with pytest.raises(ValueError, match="expected host:port") as error:
        parse_servers(text)
    assert reason in str(error.value)
    assert len(text) > 100 or any(item in str(error.value) for item in text.replace(";", ",").split(","))


def test_lists_keep_their_order():
    servers = parse_servers("b:1, a:2 ; [::1]:3,unix:/c")
    assert [server.label for server in servers] == ["b:1", "a:2", "[::1]:3", "unix:/c"]


def test_default_weight():
    assert [server.weight for server in parse_servers("a:1,b:1:5", default_weight=3)] == [3, 5]


def test_text_is_kept_as_given():
    assert parse_servers("Cache1.EXAMPLE.com.:11211")[0].host == "Cache1.EXAMPLE.com."


def test_in_a_log_the_name_follows_the_address():
    assert str(parse_servers("a:1:1 first")[0]) == "a:1 first"


@given(st.text(max_size=40))
def test_any_text_is_servers_or_a_value_error(text):
    try:
        servers = parse_servers(text)
    except ValueError as error:
        assert "expected host:port" in str(error)
    else:
        assert all(server.weight > 0 and 0 <= server.port <= 65535 for server in servers)


@given(st.integers(1, 65535), st.integers(1, 1000), st.sampled_from(["h", "10.0.0.1", "[::1]", "unix:/p"]))
def test_a_label_parses_back_to_its_server(port, weight, host):
    text = f"{host}:{weight}" if host.startswith("unix") else f"{host}:{port}:{weight}"
    server = parse_servers(text)[0]
    assert parse_servers(f"{server.label}:{weight}") == [server]
