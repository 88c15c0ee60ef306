"""What the workers of one service share. The only place that makes the contexts of workers."""

from typing import Any

from gmproxy.config.configuration import Config
from gmproxy.process import shared_invalidations as shared_invalidations_module
from gmproxy.process.dump_locks import DumpLocks
from gmproxy.process.shared_invalidations import SharedInvalidations
from gmproxy.process.worker_context import WorkerContext


#: Nobody lists keys in the model. Each has a file, so there is one for all worlds.
_DUMP_LOCKS = DumpLocks()


class SharedState:
    """The contexts of the workers of one service, and the memory that they share.

    contexts   of the workers, by number
    """

    def __init__(self, config: Config, workers: int) -> None:
        self._invalidations: SharedInvalidations | None = None
        if workers > 1:
            self._invalidations = SharedInvalidations(workers)
            self._invalidations.assign_rows([config])
        self.contexts = [WorkerContext(number, workers, invalidations=self._invalidations, dump_locks=_DUMP_LOCKS) for number in range(workers)]

    def snapshot(self) -> Any:
        """The content of the shared memory. Two equal snapshots mean that it has not changed."""
        shared = self._invalidations
        return None if shared is None else (shared._states.tobytes(), shared._parts.tobytes())

    def has_died(self, number: int) -> None:
        """What happens to the memory when the worker `number` dies."""
        if self._invalidations is not None:
            self._invalidations.clear_worker(number)

    def held(self) -> list[str]:
        """What the shared memory still holds when no request is in progress, as text; must be empty."""
        return ["keys of another worker are still to be deleted"] if self._invalidations and any(self._invalidations._states) else []


#: {what of gmproxy is replaced: by what}, for memory of a size that can be compared after each event.
SMALL = [(shared_invalidations_module, "MAX_SERVERS", 4)]
