"""The resident memory that a proxy uses for each client that is connected, has sent one get, and has been idle since."""

import socket
import time
from contextlib import ExitStack

from contenders import Contender, running
from processes import BenchError, Server
from rows import IdleRow

SERVERS = 2
PATIENCE_SECONDS = 10  # for each reply
SETTLE_SECONDS = 1  # for the proxy to release the memory that the last get needed
FIRST_CLIENTS = 50  # before the measurement: what a proxy loads or allocates once is not memory per client

VALUE = b"x" * 100
SET = b"set bench-idle 0 0 %d\r\n%s\r\n" % (len(VALUE), VALUE)
GET = b"get bench-idle\r\n"
FOUND = b"VALUE bench-idle 0 %d\r\n%s\r\nEND\r\n" % (len(VALUE), VALUE)


def measure_idle(row: IdleRow, contender: Contender) -> dict:
    """One sample, with a new proxy: one that had clients before would reuse their memory."""
    with running([contender], SERVERS) as stage:
        (proxy,) = stage.proxies
        with ExitStack() as stack:
            first = connect(proxy, stack)
            first.sendall(SET)
            expect(b"STORED\r\n", first)
            serve(proxy, FIRST_CLIENTS, row.together, stack)
        with ExitStack() as stack:
            time.sleep(SETTLE_SECONDS)
            before = proxy.resident()
            serve(proxy, row.clients, row.together, stack)
            time.sleep(row.silent_seconds)
            after = proxy.resident()
    return {"resident_kib_per_client": (after - before) / 1024 / row.clients, "resident_mib": after / (1 << 20)}


def serve(proxy: Server, count: int, together: bool, stack: ExitStack) -> None:
    """`count` clients each send a get and read the reply. They stay connected until `stack` is closed."""
    clients = []
    for _ in range(count):
        client = connect(proxy, stack)
        clients.append(client)
        if not together:
            client.sendall(GET)
            expect(FOUND, client)
    if together:
        for client in clients:
            client.sendall(GET)
        for client in clients:
            expect(FOUND, client)


def connect(proxy: Server, stack: ExitStack) -> socket.socket:
    try:
        return stack.enter_context(proxy.connect(PATIENCE_SECONDS))
    except OSError as error:
        raise BenchError(f"{proxy.name}: {error}") from None


def expect(answer: bytes, client: socket.socket) -> None:
    received = b""
    while len(received) < len(answer):
        try:
            piece = client.recv(len(answer) - len(received))
        except OSError as error:
            raise BenchError(f"{answer[:20]!r} expected, {received!r} received, then: {error}") from None
        received += piece
        if not piece or not answer.startswith(received):
            raise BenchError(f"{answer[:20]!r} expected, {received[:100]!r} received")
