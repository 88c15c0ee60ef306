"""Faults of gmproxy, for the test that the model finds faults: one function of it is replaced by a wrong one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gmproxy.backend import missed_writes as missed_writes_module
from gmproxy.backend.invalidations import PendingInvalidations
from gmproxy.backend.recovery import Recovery
from gmproxy.protocol import cas_numbers, replica_commands
from gmproxy.routing import router as router_module


@contextmanager
def _replaced(owner: Any, name: str, substitute: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, substitute)
    try:
        yield
    finally:
        setattr(owner, name, original)


#: Each of these functions can be replaced in both builds.
FAULTS: dict[str, Callable[[], Any]] = {
    "nothing is noted that a server missed": lambda: _replaced(PendingInvalidations, "note", lambda self, key, now: False),
    "connections that were given up are not waited for": lambda: _replaced(Recovery, "_wait_for_half_closed", lambda self, server: None),
    "a backup that answers otherwise keeps its value": lambda: _replaced(replica_commands, "replies_differ", lambda request, copy: False),
    "what is being fetched is not known to become old": lambda: _replaced(missed_writes_module, "changes_value", lambda request: False),
    "changes under way to a stand-in are not followed": lambda: _replaced(router_module, "watch_late_writes", lambda *arguments: None),
    "cas numbers of the primary are good for the backup": lambda: _replaced(cas_numbers, "line_for", lambda request, of_set: request.line),
}
