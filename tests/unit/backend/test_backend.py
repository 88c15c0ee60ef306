"""One server: its connections, limits, ejection and counters, and that each request has one outcome whatever its connections do.

Connections are socket pairs, made when the test requires it. What a connection does by itself is tested in test_connection.py.
"""

import logging
import socket
from types import SimpleNamespace

import pytest
from support.clock import ManualClock
from support.connections import PairedServers, received
from support.loop import run_callbacks, wait_until
from support.observers import RecordingObserver
from support.requests import request_for
from support.routes import Client, UnconnectedServer, options_of
from support.shared import column_of_test

from gmproxy.backend import backend as module
from gmproxy.backend import connect, health_check
from gmproxy.backend.backend import Backend
from gmproxy.errors import CLOSED, CONNECTING, EJECTED, OVERLOAD, PROTOCOL, TIMEOUT, BackendError, LocalError
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.invalidation_marks import BACKUP, PRIMARY, part_of, server_name
from gmproxy.shared.memory import SharedMemory

LABEL = "127.0.0.1:1"
MISS = b"END\r\n"
FOUND = b"VALUE k 0 1\r\nx\r\nEND\r\n"
STORED = b"STORED\r\n"
GET = b"get k\r\n"
SET = b"set k 0 0 1\r\nx\r\n"

#: The maximum of requests on one connection, and of bytes in addition to one value (C constants in gmproxy/backend/backend.py).
MAX_WAITING = 16384
MAX_BACKLOG = 64 * 1024 * 1024


@pytest.fixture
def servers(monkeypatch):
    """The other ends of the connections. Health checks have no connections here, and so no results."""
    made = PairedServers()

    def no_connection(*arguments):
        raise LocalError(OVERLOAD, "no health checks in this test")

    monkeypatch.setattr(connect, "connect", made)
    monkeypatch.setattr(health_check, "connect", no_connection)
    yield made
    made.proceed.set()
    made.close()


@pytest.fixture
def observer():
    return RecordingObserver()


@pytest.fixture
def make(servers, observer):
    """make(*words): a Backend with the options of a pool that is started with these words. It is closed at the end of the test."""
    made = []

    def backend(*words, kind=Backend, set_index=0, **settings):
        options = options_of("-s", LABEL, *words)
        for name, value in settings.items():
            setattr(options, name, value)
        made.append(kind(options.server[0], options, observer, logging.getLogger("test"), column_of_test().notes, set_index=set_index))
        return made[-1]

    yield backend
    for one in made:
        one.close()


@pytest.fixture
def backend(make):
    return make("--server-failure-limit", "3")


def send(backend, line, connection_index=0, client=None):
    """Send a request. Returns the Client that gets the reply."""
    request = request_for(line)
    request.sink = client = client or Client()
    request.connection_index = connection_index
    backend.send(request)
    return client


def open_connections(backend):
    return [connection for connection in backend.connections if connection is not None]


def connected(backend, servers, line=GET, count=1):
    """Send `line` on a connection that is open then. Returns (the Clients, the server's end) when the requests have arrived there."""
    clients = [send(backend, line) for _ in range(count)]
    before = len(servers.peers)
    opening = not open_connections(backend)[0].attached()
    if opening:
        wait_until(lambda: len(servers.peers) > before)
    peer = servers.peers[-1]
    data = bytearray()
    wait_until(lambda: data.extend(received(peer)) or len(data) >= count * len(line))
    return clients, peer


def reply(backend, peer, data):
    """The server sends `data`, which is read at once."""
    peer.sendall(data)
    open_connections(backend)[0].on_readable()


def end(backend, peer):
    """The server closes the connection, which is detected at once."""
    connection = open_connections(backend)[0]
    peer.shutdown(socket.SHUT_WR)
    connection.on_readable()
    connection.on_readable()


# -- connections


def test_the_first_request_opens_a_connection_and_those_that_follow_wait_for_it(backend, servers):
    servers.proceed.clear()
    clients = [send(backend, GET) for _ in range(3)]
    run_callbacks()
    assert backend.is_busy() and backend.counters.connects == 0
    servers.proceed.set()
    wait_until(lambda: servers.peers)
    (peer,) = servers.peers
    data = bytearray()
    wait_until(lambda: data.extend(received(peer)) or len(data) >= 3 * len(GET))
    reply(backend, peer, FOUND + MISS + FOUND)
    assert [client.heard for client in clients] == [[FOUND], [MISS], [FOUND]]
    assert (backend.counters.connects, backend.counters.keys_asked, backend.counters.values_found) == (1, 3, 2)
    assert not backend.is_busy()


def test_requests_are_spread_over_the_connections_by_their_index(make, servers):
    backend = make(lanes=2)
    for index in range(4):
        send(backend, GET, index)
    assert [len(connection.waiting) for connection in backend.connections] == [2, 2]
    wait_until(lambda: len(servers.peers) == 2)


def test_preconnect_opens_one_connection(backend, servers):
    for _ in range(2):
        backend.preconnect()
    wait_until(lambda: backend.counters.connects)
    assert len(servers.peers) == 1 and not backend.is_busy()


def test_a_connection_that_closed_idle_is_no_failure_and_the_next_request_opens_another(backend, servers):
    (client,), peer = connected(backend, servers)
    reply(backend, peer, MISS)
    end(backend, peer)
    assert open_connections(backend) == [] and backend.health.failures == backend.counters.failures == 0
    (again,), peer = connected(backend, servers)
    reply(backend, peer, FOUND)
    assert (client.heard, again.heard, backend.counters.connects) == ([MISS], [FOUND], 2)


def test_a_connection_that_is_closed_while_it_is_made_leaves_no_socket(backend, servers):
    servers.proceed.clear()
    send(backend, GET)
    run_callbacks()
    (opening,) = open_connections(backend)
    opening.fail(EJECTED)
    servers.proceed.set()
    wait_until(lambda: servers.peers)
    run_callbacks()
    assert servers.peers[0].recv(1) == b"", "our end is closed"
    assert backend.counters.connects == 0


# -- a connection that closes while requests wait for replies


def test_reads_are_sent_once_more_over_another_connection(backend, servers):
    clients, peer = connected(backend, servers, count=3)
    peer.sendall(MISS)
    end(backend, peer)
    again, peer = connected(backend, servers)
    assert len(servers.peers) == 2
    reply(backend, peer, FOUND * 3)
    assert [client.heard for client in clients + again] == [[MISS], [FOUND], [FOUND], [FOUND]]


def test_a_read_that_fails_on_the_second_connection_too_has_failed(backend, servers):
    (client,), peer = connected(backend, servers)
    end(backend, peer)
    wait_until(lambda: len(servers.peers) == 2 and open_connections(backend)[0].attached())
    end(backend, servers.peers[1])
    assert client.heard == [(CLOSED, LABEL)]
    assert backend.counters.errors[CLOSED] == 1 and len(servers.peers) == 2


def test_a_write_that_was_sent_is_not_repeated_and_its_key_may_be_stale(backend, servers):
    """The server may have executed it, or not."""
    (client,), peer = connected(backend, servers, SET)
    end(backend, peer)
    run_callbacks()
    assert client.heard == [(CLOSED, LABEL)] and open_connections(backend) == []
    assert backend.behind and b"k" in backend.invalidations


def test_a_write_that_was_not_sent_is_repeated(backend, servers):
    """A connection that the server closed while it was idle does not lose a write."""
    (first,), peer = connected(backend, servers)
    reply(backend, peer, MISS)
    peer.close()
    client = send(backend, SET)  # the send fails with EPIPE
    wait_until(lambda: len(servers.peers) == 2 and open_connections(backend)[0].attached())
    reply(backend, servers.peers[1], STORED)
    assert (first.heard, client.heard) == ([MISS], [STORED]) and not backend.behind


@pytest.mark.parametrize("reason", [TIMEOUT, PROTOCOL, EJECTED])
def test_for_other_reasons_nothing_is_repeated(backend, servers, reason):
    clients, _ = connected(backend, servers, count=2)
    open_connections(backend)[0].fail(reason)
    assert [client.heard for client in clients] == [[(reason, LABEL)]] * 2
    assert backend.counters.errors[reason] == 2 and open_connections(backend) == []


def test_a_connection_that_cannot_be_made_fails_all_that_wait_for_it(backend, servers):
    servers.error = BackendError(CONNECTING, "refused")
    clients = [send(backend, line) for line in (GET, SET)]
    wait_until(lambda: all(client.heard for client in clients))
    assert [client.heard for client in clients] == [[(CONNECTING, LABEL)]] * 2
    assert (backend.counters.failures, backend.health.failures) == (2, 2)
    assert backend.counters.last_error == "connecting refused"
    assert b"k" in backend.invalidations


def test_an_exception_while_connecting_is_no_failure_of_the_server(backend, servers, internal_errors_counted):
    servers.error = ValueError("a fault of the test")
    client = send(backend, GET)
    wait_until(lambda: client.heard)
    assert client.heard == [(CONNECTING, LABEL)] and backend.health.failures == 0
    assert internal_errors_counted() == 1


def test_what_gmproxy_lacks_is_no_failure_of_the_server_and_is_logged_now_and_then(backend, servers, monkeypatch, caplog):
    clock = ManualClock()
    monkeypatch.setattr(module, "monotonic", clock)
    servers.error = LocalError(OVERLOAD, "no descriptor")

    def fail(count):
        clients = [send(backend, GET) for _ in range(count)]
        wait_until(lambda: all(client.heard for client in clients))

    fail(2)
    fail(3)
    logged = [record.message for record in caplog.records if "backend not connected" in record.message]
    assert len(logged) == 1 and "requests=2" in logged[0]
    clock.now += module.LOCAL_FAILURE_LOG_INTERVAL
    fail(1)
    logged = [record.message for record in caplog.records if "backend not connected" in record.message]
    assert len(logged) == 2 and "requests=4" in logged[1], "those that were not logged are in the next line"
    assert (backend.counters.not_connected, backend.health.failures, backend.health.ejected) == (6, 0, False)


# -- limits


def test_a_connection_with_as_many_requests_as_may_wait_takes_no_more(make):
    backend = make(kind=UnconnectedServer)
    client = Client()
    for _ in range(MAX_WAITING):
        send(backend, SET, client=client)
    refused = send(backend, GET)
    assert (refused.heard, client.heard) == ([(OVERLOAD, LABEL)], [])
    assert (backend.counters.errors[OVERLOAD], backend.counters.failures, backend.health.failures) == (1, 1, 0)
    request = backend.connections[0].waiting.popleft()
    request.reply = STORED
    backend.request_replied(request, 0)
    assert send(backend, GET).heard == []


def test_a_write_that_is_refused_may_have_left_a_stale_value(make):
    backend = make(kind=UnconnectedServer)
    client = Client()
    for _ in range(MAX_WAITING):
        send(backend, b"get other\r\n", client=client)
    assert send(backend, SET).heard == [(OVERLOAD, LABEL)]
    assert b"k" in backend.invalidations


def test_a_connection_with_as_many_bytes_as_may_wait_takes_no_more(make):
    backend = make(kind=UnconnectedServer, max_item_size=1000)
    size = 1024 * 1024
    line = b"set k 0 0 %d\r\n%b\r\n" % (size, b"x" * size)
    taken = 0
    while not send(backend, line).heard:
        taken += len(line)
    assert taken - len(line) <= MAX_BACKLOG + 1000 < taken
    assert backend.counters.errors[OVERLOAD] == 1


def test_new_limits_hold_at_once_and_keep_the_connections(make):
    backend = make("--server-failure-limit", "3", kind=UnconnectedServer, max_item_size=1000)
    size = 1024 * 1024
    line = b"set other 0 0 %d\r\n%b\r\n" % (size, b"x" * size)
    while not send(backend, line).heard:
        pass
    connection = backend.connections[0]
    options = backend.options
    options.max_item_size = 10 * size
    options.lanes = 3
    options.server_failure_limit = 7
    options.journal_size = 5
    backend.follow_options(True)
    assert send(backend, line).heard == []
    assert backend.connections == [connection, None, None] and backend.backed
    assert (backend.health.failure_limit, backend.invalidations.limit) == (7, 5)
    send(backend, GET, 2)
    assert backend.connections[1] is None and backend.connections[2].waiting


def test_with_fewer_connections_the_others_get_no_requests(make):
    backend = make(kind=UnconnectedServer, lanes=3)
    for index in range(3):
        send(backend, GET, index)
    backend.options.lanes = 1
    backend.follow_options(False)
    for index in range(3):
        send(backend, GET, index)
    assert [len(connection.waiting) for connection in backend.connections] == [4, 1, 1], "what they have is answered"


# -- ejection


def test_requests_without_a_reply_are_as_many_failures(backend, servers, observer, caplog):
    clients, _ = connected(backend, servers, count=3)
    open_connections(backend)[0].fail(TIMEOUT)
    assert backend.health.ejected and observer.calls == ["health_changed"]
    assert [client.heard for client in clients] == [[(TIMEOUT, LABEL)]] * 3
    assert "backend ejected server=127.0.0.1:1 reason=timeout failures=3" in caplog.text


def test_a_connection_that_breaks_is_one_failure_however_many_requests_it_had(backend, servers, observer):
    connected(backend, servers, SET, count=5)
    open_connections(backend)[0].fail(CLOSED)
    assert (backend.health.failures, backend.counters.failures) == (1, 5)
    assert not backend.health.ejected and observer.calls == []


def test_replies_that_cannot_be_have_the_server_probed_and_do_not_eject_it(backend, servers):
    for _ in range(5):
        connected(backend, servers)
        open_connections(backend)[0].fail(PROTOCOL)
    assert not backend.health.ejected and backend.health.failures == 0
    assert backend.counters.errors[PROTOCOL] == 5


def test_a_reply_ends_a_row_of_failures(backend, servers):
    for _ in range(4):
        connected(backend, servers, count=2)
        open_connections(backend)[0].fail(TIMEOUT)
        assert backend.health.failures == 2
        _, peer = connected(backend, servers)
        reply(backend, peer, MISS)
        assert backend.health.failures == 0
    assert backend.health.ejections == 0


def test_an_ejected_server_is_sent_nothing(backend, servers, observer):
    connected(backend, servers, count=3)
    open_connections(backend)[0].fail(TIMEOUT)
    before = len(servers.peers)
    refused = [send(backend, line) for line in (b"get other\r\n", SET)]
    run_callbacks()
    assert [client.heard for client in refused] == [[(EJECTED, LABEL)]] * 2
    assert len(servers.peers) == before and open_connections(backend) == []
    assert b"k" in backend.invalidations, "it misses the write"
    assert backend.counters.errors[EJECTED] == 2


def test_at_an_ejection_all_its_connections_are_closed(make, servers, observer):
    backend = make("--server-failure-limit", "1", lanes=2)
    clients = [send(backend, GET, index) for index in range(2)]
    wait_until(lambda: len(servers.peers) == 2 and all(connection.attached() for connection in backend.connections))
    backend.connections[0].fail(TIMEOUT)
    assert [client.heard for client in clients] == [[(TIMEOUT, LABEL)], [(EJECTED, LABEL)]]
    assert open_connections(backend) == [] and observer.calls == ["health_changed"]


def test_an_operator_ejects_it_once(backend, servers, observer):
    (client,), _ = connected(backend, servers)
    backend.eject()
    backend.eject()
    assert client.heard == [(EJECTED, LABEL)] and observer.calls == ["health_changed"]
    assert backend.health.by_hand and backend.health.ejections == 1


def test_a_restored_server_is_sent_requests_again(backend, servers, observer):
    connected(backend, servers, count=3)
    open_connections(backend)[0].fail(TIMEOUT)
    backend.health.probe_succeeded(0.0)
    backend.on_restored()
    assert observer.calls == ["health_changed"] * 2
    (client,), peer = connected(backend, servers)
    reply(backend, peer, MISS)
    assert client.heard == [MISS]


def test_an_observer_that_raises_hinders_no_ejection(backend, servers, observer, internal_errors_counted):
    observer.raises = True
    clients, _ = connected(backend, servers, count=3)
    open_connections(backend)[0].fail(TIMEOUT)
    assert backend.health.ejected and [client.heard for client in clients] == [[(TIMEOUT, LABEL)]] * 3
    assert internal_errors_counted() == 1


# -- keys that may be stale


@pytest.mark.parametrize(
    "line, is_sent", [(GET, False), (b"incr k 1\r\n", False), (b"get other\r\n", True), (SET, True), (b"delete k\r\n", True)]
)
def test_a_key_that_may_be_stale_is_not_read_there(make, line, is_sent):
    """A write that replaces the value is sent: the stale value does not affect it."""
    backend = make(kind=UnconnectedServer)
    backend.missed_key(b"k")
    client = send(backend, line)
    assert (client.heard == []) is is_sent
    assert [request.line for connection in open_connections(backend) for request in connection.waiting] == [line] * is_sent


@pytest.mark.parametrize("set_index", [1, 0])
def test_a_copy_that_is_not_sent_because_of_another_worker_is_missed(make, set_index):
    """The primary makes the write. The other worker may have to delete another key: what is shared are parts of all keys. Without backups no server
    makes the write."""
    memory = SharedMemory.create()
    one, other = (make(set_index=set_index) for _ in range(2))
    for server in (one, other):
        server.share(SharedColumn(memory), "", BACKUP)
    one.missed_key(b"k")
    assert [server for _, server in send(other, b"incr k 1\r\n").heard] == [LABEL]
    assert (b"k" in other.invalidations) == other.behind == bool(set_index)


def test_an_exception_on_the_way_of_a_write_leaves_its_key_stale(make):
    backend = make(kind=UnconnectedServer)
    client = send(backend, SET)
    backend.request_abandoned(backend.connections[0].waiting[0])
    assert client.heard == [b"SERVER_ERROR internal error\r\n"] and b"k" in backend.invalidations
    backend.request_abandoned(backend.connections[0].waiting[0])
    assert len(client.heard) == 1


# -- together with other workers


class Shared:
    """The shared memory of two workers: `ours` is the column of the one with the Backend."""

    def __init__(self):
        memory = SharedMemory.create()
        self.ours, self.theirs = SharedColumn(memory), SharedColumn(memory)
        self.name = server_name("shop", PRIMARY, LABEL)
        self.ejections = self.theirs.ejections_of(self.name)

    def share(self, backend):
        backend.share(self.ours, "shop", PRIMARY)
        backend.share_ejections(self.ours.ejections_of(self.name))


@pytest.fixture
def shared():
    return Shared()


def test_another_worker_ejects_and_restores_it(backend, servers, observer, shared, caplog):
    caplog.set_level("INFO")
    shared.share(backend)
    clients, _ = connected(backend, servers, count=2)
    shared.ejections.publish(True)
    backend.follow_ejections()
    assert backend.health.ejected and observer.calls == ["health_changed"]
    assert [client.heard for client in clients] == [[], []], "clients are resumed in a loop callback"
    run_callbacks()
    assert [client.heard for client in clients] == [[(EJECTED, LABEL)]] * 2 and open_connections(backend) == []
    assert send(backend, GET).heard == [(EJECTED, LABEL)]
    backend.follow_ejections()
    shared.ejections.publish(False)
    backend.follow_ejections()
    assert not backend.health.ejected and observer.calls == ["health_changed"] * 2
    (client,), peer = connected(backend, servers)
    reply(backend, peer, MISS)
    assert client.heard == [MISS]
    assert [record.getMessage() for record in caplog.records if "another worker" in record.getMessage()] == [
        f"backend ejected by another worker server={LABEL}",
        f"backend restored by another worker server={LABEL}",
    ]


def test_the_others_follow_this_worker(backend, servers, shared):
    shared.share(backend)
    connected(backend, servers, count=3)
    open_connections(backend)[0].fail(TIMEOUT)
    assert backend.health.ejected and shared.ejections.follow() is True
    backend.follow_ejections()
    backend.health.probe_succeeded(0.0)
    backend.on_restored()
    assert shared.ejections.follow() is False


def test_an_operator_ejects_it_for_all_workers(backend, shared):
    shared.share(backend)
    backend.eject()
    assert shared.ejections.follow() is True
    shared.ejections.publish(False)
    backend.follow_ejections()
    assert not backend.health.ejected and not backend.health.by_hand


@pytest.mark.parametrize("here", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_what_was_decided_before_it_was_shared(make, shared, here, there):
    """At the start of a worker: a server that one of the two has ejected is ejected."""
    backend = make(kind=UnconnectedServer)
    if here:
        backend.health.failed(0.0, backend.options.server_failure_limit)
    if there:
        shared.ejections.publish(True)
    shared.share(backend)
    assert backend.health.ejected == shared.ejections.is_ejected() == (here or there)


def test_a_reload_does_not_undo_what_another_worker_has_just_decided(make, shared):
    backend = make(kind=UnconnectedServer)
    shared.share(backend)
    shared.ejections.publish(True)
    backend.follow_ejections()
    shared.ejections.publish(False)
    shared.share(backend)
    assert not backend.health.ejected and not shared.ejections.is_ejected()
    shared.ejections.publish(True)
    shared.share(backend)
    assert backend.health.ejected and shared.ejections.is_ejected()


def test_alone_again_after_a_reload(make, shared):
    backend = make(kind=UnconnectedServer)
    shared.share(backend)
    backend.share_ejections(None)
    shared.ejections.publish(True)
    backend.follow_ejections()
    assert not backend.health.ejected
    backend.eject()
    assert shared.ejections.is_ejected()
    backend.health.probe_succeeded(0.0)
    backend.on_restored()
    assert shared.ejections.is_ejected(), "nothing is published"


def test_an_observer_that_raises_hinders_no_following(backend, servers, shared, observer, internal_errors_counted):
    observer.raises = True
    shared.share(backend)
    clients, _ = connected(backend, servers)
    shared.ejections.publish(True)
    backend.follow_ejections()
    run_callbacks()
    assert clients[0].heard == [(EJECTED, LABEL)] and internal_errors_counted() == 1


@pytest.mark.parametrize("line, is_sent", [(GET, False), (b"incr k 1\r\n", False), (b"get other\r\n", True), (SET, True)])
@pytest.mark.parametrize("backed", [False, True])
def test_a_key_that_another_worker_has_to_delete_is_not_read_there(make, shared, line, is_sent, backed):
    backend = make(kind=UnconnectedServer)
    backend.follow_options(backed)
    shared.share(backend)
    marks = shared.theirs.marks_of(shared.name)
    marks.add_part(part_of(b"k"))
    client = send(backend, line)
    assert backend.is_expected_to_fail(request_for(line)) is not is_sent
    assert (client.heard == []) is is_sent
    missed = backend.behind
    assert missed == (not is_sent and backed and line != GET), "with backups the write is made there; without, nowhere"
    marks.replace_parts([])
    assert not backend.is_expected_to_fail(request_for(b"get other\r\n"))


def test_what_an_ended_process_has_left(make):
    backend = make(kind=UnconnectedServer)
    backend.inherit([])
    assert backend.unsettled and not backend.behind
    backend.inherit([b"k", b"l"])
    assert backend.behind and set(backend.invalidations.pending()) == {b"k", b"l"}
    backend.inherit(None)
    assert backend.invalidations.pending() is None


def test_what_is_pending_survives_its_close(make, shared):
    """Another process takes it over."""
    backend = make(kind=UnconnectedServer)
    shared.share(backend)
    backend.missed_key(b"k")
    backend.close()
    assert shared.theirs.marks_of(shared.name).others_have(b"k")


# -- time


def test_a_tick_finds_late_requests_by_the_time_that_the_process_ran(backend, servers, monkeypatch):
    clock = ManualClock()
    monkeypatch.setattr(module, "running", SimpleNamespace(now=clock))
    (client,), _ = connected(backend, servers)
    backend.tick(0.0)
    clock.now += backend.options.timeout * 0.9
    backend.tick(0.0)
    assert client.heard == []
    clock.now += backend.options.timeout * 0.2
    backend.tick(0.0)
    assert client.heard == [(TIMEOUT, LABEL)]


def test_a_tick_closes_idle_connections(make, servers, monkeypatch):
    backend = make("--server-idle-timeout", "10000")
    clock = ManualClock()
    monkeypatch.setattr(module, "running", SimpleNamespace(now=clock))
    _, peer = connected(backend, servers)
    reply(backend, peer, MISS)
    for after, closed in [(0, False), (9, False), (2, True)]:
        clock.now += after
        backend.tick(0.0)
        assert (open_connections(backend) == []) is closed
    assert backend.health.failures == 0


# -- shutdown


def test_close_ends_all_connections(make, servers):
    backend = make(lanes=2)
    for index in range(2):
        send(backend, GET, index)
    wait_until(lambda: len(servers.peers) == 2 and all(connection.attached() for connection in backend.connections))
    assert backend.close() and open_connections(backend) == []
    for peer in servers.peers:
        received(peer)
        assert peer.recv(1) == b""
    assert backend.close(), "it may be called again"


def test_whatever_fails_of_a_close_the_rest_is_done(backend, servers, monkeypatch, internal_errors_counted):
    connected(backend, servers)

    def fail():
        raise ValueError("a fault of the test")

    with monkeypatch.context() as patch:
        patch.setattr(backend.health_checker, "stop_checking", fail)
        assert not backend.close()
    assert open_connections(backend) == []
    assert backend.close()
    assert internal_errors_counted() == 1


def test_counters_begin_anew(backend, servers):
    _, peer = connected(backend, servers, count=2)
    reply(backend, peer, FOUND + MISS)
    assert (backend.bytes_sent, backend.bytes_received) == (2 * len(GET), len(FOUND + MISS))
    assert backend.counters.replies_by_command() == {"get": 2}
    backend.reset_counters()
    assert (backend.bytes_sent, backend.bytes_received, backend.counters.replies_by_command()) == (0, 0, {})
