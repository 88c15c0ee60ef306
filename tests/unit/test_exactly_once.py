"""Whatever raises while a request is handled, its sink gets one reply, and the other sinks get theirs."""

import functools
import logging

import gevent
import pytest
from gevent import socket
from support.loop import run_callbacks
from support.replication import main_set
from support.requests import request_for
from support.routes import Client, options_of
from support.shared import column_of_test

from gmproxy.backend import connect
from gmproxy.backend.backend import Backend
from gmproxy.backend.connection import BackendConnection
from gmproxy.backend.latency import Meter
from gmproxy.config import configuration
from gmproxy.errors import CLOSED, PROTOCOL, RESET, TIMEOUT
from gmproxy.monitoring.events import parse_record
from gmproxy.pool import PoolLogger
from gmproxy.protocol import commands
from gmproxy.protocol import request as message
from gmproxy.protocol.key_list import KeyList
from gmproxy.protocol.request import INTERNAL_ERROR
from gmproxy.routing.router import Router


class RaisingSink(message.ReplySink):
    """An owner between a request and `client` that raises as soon as it gets the reply."""

    def __init__(self, client):
        self.client = client
        self.times = 0

    def on_reply(self, request):
        self.times += 1
        raise KeyError("of our own")

    on_failure = on_reply

    def on_internal_error(self, request):
        request.sink = self.client
        return request.abandon()


# -- a request and its owner


def test_a_reply_reaches_the_owner_once():
    client = Client()
    request = request_for(b"get k\r\n")
    request.sink = client
    request.reply = b"END\r\n"
    request.complete()
    request.complete()
    request.abandon()
    assert client.heard == [b"END\r\n"]


def test_an_abandoned_request_is_not_answered_later():
    client = Client()
    request = request_for(b"get k\r\n")
    request.sink = client
    request.abandon()
    request.reply = b"END\r\n"
    request.complete()
    assert client.heard == [INTERNAL_ERROR]


def test_a_failure_reaches_the_owner_once():
    client = Client()
    request = request_for(b"get k\r\n")
    request.sink = client
    request.retried = request.has_value_offsets = True
    assert request.fail(TIMEOUT, "a:1") is client
    assert (request.error, request.failed_server, request.retried, request.has_value_offsets) == (TIMEOUT, "a:1", False, False)
    request.reply = b"END\r\n"
    assert request.fail(CLOSED, "b:2") is request.complete() is request.abandon() is None
    assert client.heard == [(TIMEOUT, "a:1")] and request.error == TIMEOUT


def test_for_an_owner_that_fails_on_a_failure_its_client_gets_an_error(internal_errors_counted):
    client = Client()
    request = request_for(b"get k\r\n")
    request.sink = owner = RaisingSink(client)
    assert request.fail(TIMEOUT, "a:1") is client
    assert client.heard == [INTERNAL_ERROR] and owner.times == internal_errors_counted() == 1


def test_for_an_owner_that_fails_its_client_gets_an_error(internal_errors_counted):
    client = Client()
    request = request_for(b"get k\r\n")
    request.sink = owner = RaisingSink(client)
    request.reply = b"END\r\n"
    request.complete()
    assert client.heard == [INTERNAL_ERROR] and owner.times == internal_errors_counted() == 1


def test_for_a_session_that_fails_on_a_failure_too(internal_errors_counted):
    """It renders the reply that the request has then."""

    class Session(Client):
        def on_failure(self, request):
            raise KeyError("of our own")

        def on_internal_error(self, request):
            self.heard.append(request.reply)
            return self

    client = Session()
    request = request_for(b"get k\r\n")
    request.sink = client
    assert request.fail(TIMEOUT, "a:1") is client and client.heard == [INTERNAL_ERROR]
    assert internal_errors_counted() == 1


# -- a connection


def route_to(options, log=None):
    """(a router over the servers of `options`, its backends)"""
    router = Router(options)
    backends = [Backend(server, options, router, log or logging.getLogger("test"), column_of_test().notes) for server in options.server]
    place = functools.partial(configuration.placement_for, options, options.server)
    router.serve(main_set(backends, place().locator), place, [])
    return router, backends


class Peer:
    """A router over one backend, and a socket in place of its server."""

    def __init__(self):
        options = options_of("-s", "127.0.0.1:1")
        self.router, (self.backend,) = route_to(options)
        self.link = BackendConnection(self.backend, 0, gevent.get_hub().loop, "text")
        self.backend.connections[0] = self.link
        self.server, ours = socket.socketpair()
        ours.setblocking(False)
        self.link.attach(ours)
        self.server.settimeout(5)

    def ask(self, line, owner, keys=None):
        request = request_for(line, keys)
        request.sink = owner
        self.router.send(request)
        return request

    def turn(self):
        """Send the submitted requests, and read what has arrived."""
        run_callbacks()
        self.link.on_readable()

    def close(self):
        self.server.close()
        self.backend.close()


@pytest.fixture
def peer():
    made = Peer()
    yield made
    made.close()


def test_an_owner_that_fails_costs_the_others_nothing(peer, internal_errors_counted):
    clients = [Client() for _ in range(3)]
    owners = [clients[0], RaisingSink(clients[1]), clients[2]]
    for number, owner in enumerate(owners):
        peer.ask(b"get k%d\r\n" % number, owner)
    peer.turn()
    peer.server.sendall(b"END\r\n" * 3)
    peer.turn()
    assert [client.heard for client in clients] == [[b"END\r\n"], [INTERNAL_ERROR], [b"END\r\n"]]
    assert not peer.link.closed and internal_errors_counted() == 1


def test_an_internal_error_about_a_server_names_it_and_its_pool(monkeypatch, caplog, internal_errors_counted):
    def fail(*arguments):
        raise ValueError("a fault of the test")

    options = options_of("-s", "127.0.0.1:1")
    monkeypatch.setattr(connect, "connect", fail)
    _, (backend,) = route_to(options, PoolLogger("beta", "beta"))
    backend.preconnect()
    gevent.sleep(0.01)
    backend.close()
    assert "internal error where=backend.connect server=127.0.0.1:1 pool=beta" in caplog.text
    (record,) = [record for record in caplog.records if record.name == "gmproxy" and record.levelname == "ERROR"]
    assert internal_errors_counted() == 1
    assert (event := parse_record(record))["server"] == "127.0.0.1:1" and event["pool"] == "beta"


@pytest.mark.parametrize("reason", [TIMEOUT, CLOSED, RESET, PROTOCOL])
def test_nor_when_the_link_ends(peer, reason, internal_errors_counted):
    clients = [Client() for _ in range(3)]
    owners = [clients[0], RaisingSink(clients[1]), clients[2]]
    for number, owner in enumerate(owners):
        peer.ask(b"set k%d 0 0 1\r\nx\r\n" % number, owner)
    peer.turn()
    peer.link.fail(reason)
    failed = (reason, "127.0.0.1:1")
    assert [client.heard for client in clients] == [[failed], [INTERNAL_ERROR], [failed]]
    assert internal_errors_counted() == 1


def test_a_meter_that_fails_costs_no_reply(peer, internal_errors_counted):
    def tell(request, seconds):
        raise ZeroDivisionError

    client = Client()
    peer.backend.meter = Meter(0.0, tell)
    peer.ask(b"get k\r\n", client)
    peer.turn()
    peer.server.sendall(b"END\r\n")
    peer.turn()
    assert client.heard == [b"END\r\n"] and internal_errors_counted() == 1 and not peer.link.closed


def test_a_server_is_not_to_blame_for_an_error_of_ours(peer):
    clients = [Client() for _ in range(5)]
    for number, client in enumerate(clients):
        peer.ask(b"set k%d 0 0 1\r\nx\r\n" % number, client)
    peer.turn()
    peer.link.fail(CLOSED, "internal error", False)
    assert all(len(client.heard) == 1 for client in clients)
    assert peer.backend.health.failures == 0


def test_many_replies_that_cannot_be_do_not_eject_a_server(peer):
    for number in range(5):
        client = Client()
        peer.ask(b"set k%d 0 0 1\r\nx\r\n" % number, client)
        peer.backend.connections[0].fail(PROTOCOL, "unexpected")
        assert client.heard == [("protocol", "127.0.0.1:1")]
    assert not peer.backend.health.ejected
    assert peer.backend.health.probe_is_due(gevent.get_hub().loop.now()), "it is probed at once"


# -- what is sent again


def sent_again(peer, *lines):
    """Of the requests `lines`, which were sent and lost with the connection, those that were sent again. (A key whose write was lost is not read
    there either.)"""
    for line in lines:
        peer.ask(line, Client())
    peer.turn()
    peer.link.fail(RESET)
    return [request.line for request in peer.backend.connections[0].waiting]


def test_a_read_is_sent_again_but_not_behind_a_change_of_its_key(peer):
    lines = [b"get a\r\n", b"get b\r\n", b"set a 0 0 1\r\nx\r\n", b"get c\r\n"]
    assert sent_again(peer, *lines) == [b"get b\r\n", b"get c\r\n"]


def test_nor_behind_a_change_of_one_of_its_keys(peer):
    several = request_for(b"get a b\r\n", [b"a", b"b"])
    several.sink = Client()
    peer.link.submit(several)
    assert sent_again(peer, b"delete b\r\n", b"get c\r\n") == [b"get c\r\n"]


def test_nor_behind_a_flush(peer):
    read, flush = request_for(b"get a\r\n"), message.Request(commands.COMMANDS[b"flush_all"], b"", b"flush_all\r\n")
    clients = []
    for request in (read, flush):
        request.sink = Client()
        clients.append(request.sink)
        peer.link.submit(request)
    peer.turn()
    peer.link.fail(RESET)
    assert peer.backend.connections[0] is None and [client.heard for client in clients] == [[(RESET, "127.0.0.1:1")]] * 2


# -- several keys


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_a_retrieval_that_was_split_an_abandoned_part_is_the_end(order):
    """The client gets one error. The reply to the other part is dropped."""
    options = options_of("-s", "127.0.0.1:1", "-s", "127.0.0.1:2")
    router, backends = route_to(options)
    client = Client()
    request = request_for(b"get a b\r\n")
    request.line, request.keys = b"get ", KeyList([b"a", b"b"])
    request.sink = client
    router.send(request)
    parts = [backend.connections[0].waiting[0] for backend in backends]
    for backend in backends:
        backend.connections[0].closed or backend.close()
    parts[order[0]].abandon()
    parts[order[1]].reply = b"END\r\n"
    parts[order[1]].complete()
    assert client.heard == [INTERNAL_ERROR]
