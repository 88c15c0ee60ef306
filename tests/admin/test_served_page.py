"""The status page as a running proxy serves it."""

import pytest
from support.keys import keys_by_server
from support.servers import HOST, free_port
from support.service import Load
from support.timing import eventually

pytestmark = pytest.mark.long  # it needs a browser


@pytest.fixture
def served(proxy, memcached):
    """Call it with options for a proxy over two servers. `url` is that of the page."""

    def start(*options):
        servers = [memcached(), memcached()]
        port = free_port()
        process = proxy(*(word for server in servers for word in ("-s", server.address)), "--admin", f"{HOST}:{port}", *options)
        process.servers = servers
        process.url = f"http://{HOST}:{port}/"
        return process

    return start


@pytest.mark.parametrize("workers", [1, 2])
def test_a_service_under_load(workers, served, browser):
    running = served("--workers", workers)
    with running.talk() as talk:
        talk.expect(b"set k 0 0 5\r\nhello\r\n", b"STORED\r\n")
    browser.open(running.url)
    for server in running.servers:
        browser.reads("#rows", server.address)
    with Load(running.port):
        eventually(lambda: (browser.run("(now(chosenPool, ALL) || {}).requests") or 0) > 0, what="requests on the page")
        eventually(lambda: browser.run("now(chosenPool, ALL).p99"), what="latency on the page")
        assert browser.run("now(chosenPool, ALL).hits") == 1
    assert {address.split("?")[0] for address in browser.requests if not address.startswith("data:")} == {
        running.url,
        f"{running.url}report.json",
        f"{running.url}history.json",
    }


def test_where_a_key_goes(served, browser):
    running = served()
    browser.open(running.url)
    browser.reads("#rows", running.servers[0].address)
    for server, [key] in zip(running.servers, keys_by_server(2, 1)):
        browser.run(f"document.querySelector('#key').value = {key.decode()!r}; document.querySelector('#lookup button').click()")
        browser.reads("#key-route", f"key {key.decode()} hash")
        assert f"server {server.address}" in browser.text("#key-route")


def test_a_server_goes_and_comes_back(served, browser):
    running = served("--server-failure-limit", "1")
    browser.open(running.url)
    browser.reads("#rows", running.servers[1].address)
    running.servers[1].kill()

    def write():
        with running.talk() as talk:
            for keys in keys_by_server(2, 1):
                talk.ask(b"set %b 0 0 1\r\n1\r\n" % keys[0])
        return f"ejected: {running.servers[1].address}" in browser.text("#summary")

    eventually(write, what="the server ejected on the page")
    browser.reads("#events", "backend ejected")
    assert "connecting" in browser.texts("#rows tr")[1]
    running.servers[1].restart()
    eventually(lambda: "ejected" not in browser.text("#summary"), what="the server back on the page")
    assert "restored" in browser.text("#events")


def test_the_proxy_ends(served, browser):
    running = served()
    browser.open(running.url)
    browser.reads("#rows", running.servers[0].address)
    running.stop()
    browser.reads("#outage", "gmproxy does not reply since")
    assert all("ERR_CONNECTION" in line or "ERR_EMPTY" in line for line in browser.complaints)
    browser.complaints.clear()
