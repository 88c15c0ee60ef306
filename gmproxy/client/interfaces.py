"""The interface of gmproxy.client.context.PoolContext for the modules below it."""

from typing import Any, Protocol

from gmproxy.protocol.request import Request

#: Maximum number of requests in one batch of a client. The rest of what it has pipelined waits in its receive buffer.
MAX_BATCH = 64

#: The states of a session.
RUNNING, AWAITS_BYTES, AWAITS_REPLIES = 0, 1, 2

#: What is kept of a client without a session: (protocol, True if it is authenticated or need not be, True if it is another gmproxy).
State = tuple[int, bool, bool]


class ClientContext(Protocol):
    options: Any
    router: Any  # gmproxy.routing.router.Router
    worker_context: Any
    clients: Any  # gmproxy.client.sessions.Sessions
    connections: int
    rejected: int
    dropped: int
    auth_cmds: int
    auth_errors: int
    yields: int
    accept_failures: int
    held: int
    flushes: int

    @property
    def max_clients(self) -> int: ...
    def hold(self, more: int, by_one: int) -> bool: ...
    def answer_locally(self, request: Request) -> None: ...
    def reset_counters(self) -> None: ...
