"""What the sessions of a pool, and its statistics, use of gmproxy.client.context.PoolContext, which is built above them."""

from typing import Any, Protocol

from gmproxy.protocol.request import Request

#: Requests of one client in flight at once; the rest of what it pipelined waits in its own buffer.
MAX_BATCH = 64

#: What a client session is doing.
RUNNING, AWAITS_BYTES, AWAITS_REPLIES = 0, 1, 2

#: What is kept of a client between two sessions: the protocol, True if it has logged in or need not, True if it is another gmproxy.
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
