"""Faults of gmproxy, for the test that the model finds faults: one function of it is replaced by a wrong one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gmproxy.backend import missed_writes as missed_writes_module
from gmproxy.backend.invalidations import PendingInvalidations
from gmproxy.backend.recovery import Recovery
from gmproxy.process.orphans import Orphans
from gmproxy.protocol import cas_numbers, replica_commands
from gmproxy.routing import router as router_module
from gmproxy.routing.backup_first import BackupFirst
from gmproxy.routing.fill_rules import FillRules
from gmproxy.shared import column as column_module
from gmproxy.shared.changes import FILL_WORD, ChangeNotes, Note
from gmproxy.shared.ejections import Ejections


@contextmanager
def _replaced(owner: Any, name: str, substitute: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, substitute)
    try:
        yield
    finally:
        setattr(owner, name, original)


class _BlindChanges(ChangeNotes):
    def is_contested(self, note: Note) -> bool:
        return note.word == FILL_WORD and ChangeNotes.is_contested(self, note)


class _BlindFills(ChangeNotes):
    def is_contested(self, note: Note) -> bool:
        return note.word != FILL_WORD and ChangeNotes.is_contested(self, note)

    def are_under_way(self, key: bytes) -> bool:
        return False


#: Each of these functions can be replaced in both builds.
FAULTS: dict[str, Callable[[], Any]] = {
    "nothing is noted that a server missed": lambda: _replaced(PendingInvalidations, "note", lambda self, key, now: False),
    "connections that were given up are not waited for": lambda: _replaced(Recovery, "_wait_for_half_closed", lambda self, server: None),
    "a backup that answers otherwise keeps its value": lambda: _replaced(replica_commands, "replies_differ", lambda request, copy: False),
    "what is being fetched is not known to become old": lambda: _replaced(missed_writes_module, "changes_value", lambda request: False),
    "changes under way to a stand-in are not followed": lambda: _replaced(router_module, "watch_late_writes", lambda *arguments: None),
    "cas numbers of the primary are good for the backup": lambda: _replaced(cas_numbers, "set_of", lambda request: None),
    # -- several workers
    "changes of another worker are not noticed": lambda: _replaced(column_module, "ChangeNotes", _BlindChanges),
    "a fill ignores another worker's change": lambda: _replaced(column_module, "ChangeNotes", _BlindFills),
    "an ejection is not followed": lambda: _replaced(Ejections, "follow", lambda self: None),
    "what a worker has left is wiped": lambda: _replaced(Orphans, "_adopt", lambda self, number, pools: self._column.forget(number)),
    # -- several proxies
    "a fill is not verified": lambda: _replaced(FillRules, "must_verify", lambda self: False),
    "a delete is sent to the primary first": lambda: _replaced(BackupFirst, "send", lambda self, request: self.next_route.send(request)),
}
