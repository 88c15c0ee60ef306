"""What the processes of a service share besides their sockets: memory, and the directory of the journal.

Made before the workers are forked; passed on to the successor at an upgrade, whose workers then know of those of this process, and the reverse.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from gmproxy.config.configuration import Config
from gmproxy.errors import StartError
from gmproxy.shared import keys_file
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.invalidation_marks import BACKUP, GUTTER, PRIMARY, STAND_IN, InvalidationMarks, part_of, replica_role, server_name
from gmproxy.shared.journal_directory import JournalDirectory
from gmproxy.shared.keys_in_flight import has_overflowed, keys_left, tag_of
from gmproxy.shared.memory import SharedMemory

#: Names of the descriptors passed to a successor.
MEMORY, LOCK = "memory", "journal_lock"

log = logging.getLogger("gmproxy")


class ServiceMemory:
    """
    memory      the SharedMemory
    directory   the JournalDirectory; None without the setting journal_dir
    """

    def __init__(self, configs: Sequence[Config], workers: int, handed_over: dict[str, int]) -> None:
        """`handed_over`: the descriptors that the predecessor passed, by name. To be called by the user of the service. Raises StartError. Blocks for
        the disk and, if another service uses the directory, for a few seconds."""
        memory = _taken_over(handed_over.get(MEMORY, -1))
        lock = handed_over.get(LOCK, -1)
        path = configs[0].journal_dir
        self.directory: JournalDirectory | None = None
        if path:
            lock_of_predecessor = os.fstat(lock) if lock >= 0 else None
            self.directory = JournalDirectory(path, lock)
            if memory is not None and self.directory.usable and not _is_file(self.directory.lock, lock_of_predecessor):
                # It is another directory than that of the predecessor. Files in it could be taken for those of columns that are in use.
                log.warning("setting needs a restart setting=%s", "journal_dir")
                self.directory.close()
                self.directory = None
        elif lock >= 0:
            os.close(lock)
        if memory is not None:
            self.memory = memory
            return
        orphans = [] if self.directory is None else self.directory.orphans()
        self.memory = SharedMemory.create(workers, max(orphans, default=0) + 1)
        for number in orphans:
            self._restore(number, configs)

    def descriptors(self) -> dict[str, int]:
        """What to pass to a successor."""
        descriptors = {MEMORY: self.memory.descriptor}
        if self.directory is not None and self.directory.lock >= 0:
            descriptors[LOCK] = self.directory.lock
        return descriptors

    def join(self) -> SharedColumn:
        """A column for this process, which serves clients. Raises StartError if there is no free one."""
        return SharedColumn(self.memory, self.directory)

    # -- what the processes of the service left when it ran last

    def _restore(self, number: int, configs: Sequence[Config]) -> None:
        """Mark in the memory what the files of the column `number` say: so no worker reads these keys, until one of them has adopted the column."""
        assert self.directory is not None
        pending = self.directory.read(number)
        keys = keys_file.read(self.directory, number)
        for config in configs:
            in_flight = [] if keys is None else [key for tag, key in keys_left(keys) if tag == tag_of(config.name)]
            # In other pools no write is acknowledged that a server has missed.
            has_roles = bool(config.backup or config.replicas or config.auto_eject_hosts) or config.gutter is not None
            every = has_roles and (bool(pending.damaged) or keys is not None and has_overflowed(keys))
            for name in _server_names(config):
                row = self.memory.row_of(name)
                if row is None:
                    continue
                marks = InvalidationMarks(self.memory, row, number)
                if every or name.encode() in pending.everything:
                    marks.add_everything()
                    continue
                for key in (*pending.keys.get(name.encode(), ()), *in_flight):
                    marks.add_part(part_of(key))
        self.memory.use(number)


def _taken_over(descriptor: int) -> SharedMemory | None:
    """The memory of the predecessor; None if there is none, or if it is of another version."""
    if descriptor < 0:
        return None
    os.set_inheritable(descriptor, False)
    try:
        return SharedMemory(descriptor)
    except StartError as error:
        log.warning("memory of the predecessor not used reason=%s", error)
        return None


def _is_file(descriptor: int, status: os.stat_result | None) -> bool:
    """True if `descriptor` is of the file with this status."""
    return status is not None and os.path.samestat(os.fstat(descriptor), status)


def _server_names(config: Any) -> Iterator[str]:
    sets = [(PRIMARY, config.server), (BACKUP, config.backup)]
    sets += [(replica_role(index), replica.server) for index, replica in enumerate(config.replicas, 1)]
    sets += [(GUTTER, config.gutter.server)] if config.gutter is not None else []
    for role, servers in (*sets, *((STAND_IN, servers) for _, servers in sets)):
        for server in servers:
            yield server_name(config.name, role, server.label)
