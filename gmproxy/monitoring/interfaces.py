"""What monitoring uses of a worker, of its pools and of all workers of the service; packages above this one implement it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gmproxy.backend.backend import Backend
    from gmproxy.client.context import PoolContext
    from gmproxy.config.configuration import Config
    from gmproxy.monitoring.slow_log import LoopLag, SlowLog
    from gmproxy.placement.builder import Placement
    from gmproxy.routing.router import Router
    from gmproxy.routing.sets import ServerSet

#: The result of a control command, and a report: objects for JSON. docs/monitoring.md describes the fields of a report.
Response = dict[str, Any]
Report = dict[str, Any]

#: Called once, with the response to a control command.
OnResponse = Callable[[Response], object]


class MonitoredPool(Protocol):
    """Implemented by gmproxy.pool.Pool."""

    title: str
    config: "Config"
    router: "Router"
    context: "PoolContext"
    backends: "list[Backend]"

    def state(self, backend: "Backend", now: float) -> tuple[str, float]: ...
    def key_shares(self) -> list[float]: ...
    def placement(self) -> "Placement": ...
    def replicas(self) -> "list[ServerSet]": ...
    def switch_replica(self, name: str, is_on: bool) -> None: ...


class MonitoredWorker(Protocol):
    """Implemented by gmproxy.process.worker.Worker."""

    context: Any  # gmproxy.process.worker_context.WorkerContext
    slow: "SlowLog"
    lag: "LoopLag"
    draining: bool
    verification: Any  # a gmproxy.monitoring.verification.Verification, or None
    refills: dict[tuple[str, str, str], Any]  # (title of the pool, role, label of the server) -> gmproxy.monitoring.refill.Refill

    @property
    def pools(self) -> Mapping[str, MonitoredPool]: ...
    def now(self) -> float: ...
    def soon(self, what: Callable[[], object]) -> None: ...
    def measure(self) -> None: ...
    def drain(self) -> None: ...
    def clients(self) -> int: ...
    def run_command(self, name: str, arguments: list[str]) -> Response: ...


class CallableWorkers(Protocol):
    """All workers of the service; implemented by gmproxy.process.worker_group.WorkerGroup."""

    def call_workers(self, command: str, arguments: list[str], then: Callable[[list[Response]], object]) -> object: ...
    def call_later(self, seconds: float, callback: Callable[[], object]) -> object: ...
