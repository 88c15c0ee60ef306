"""A client with its own session, in a loop that also serves others."""

import gevent
import pytest
from gevent import socket
from support.loop import wait_until
from support.routes import options_of
from support.timing import PATIENCE

from gmproxy.client.batch import MAX_AT_ONCE
from gmproxy.client.context import PoolContext
from gmproxy.process.worker_context import WorkerContext
from gmproxy.routing.router import Router

READ = 1


@pytest.fixture
def client():
    """The other end of a session's socket."""
    options = options_of("-s", "127.0.0.1:1")
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    router = Router(options)
    clients = PoolContext(options, router, WorkerContext()).clients
    clients.add(theirs.detach())
    with ours:
        yield ours
        ours.shutdown(socket.SHUT_WR)
        wait_until(lambda: not clients)


def test_who_asks_much_at_once_gives_way_to_others(client):
    """It has a thousand requests with immediate replies: the loop checks the other sockets in between."""
    turns = 80
    other, waiting = socket.socketpair()
    seen = []
    with other, waiting:
        watcher = gevent.get_hub().loop.io(other.fileno(), READ)
        watcher.start(seen.append, None)  # each time that the loop checks: the byte is never read
        waiting.send(b"x")
        client.sendall(b"version\r\n" * (turns * MAX_AT_ONCE))
        answers = b""
        while answers.count(b"\n") < turns * MAX_AT_ONCE:
            answers += client.recv(65536)
        watcher.stop()
        watcher.close()
    assert set(answers.splitlines()) == {answers.splitlines()[0]}
    assert len(seen) >= turns - 1
