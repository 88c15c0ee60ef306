"""The pending invalidations of all workers, as marks in shared memory: keys to delete on servers that missed writes.

Each worker marks in its own column of a server's row which parts of all keys have one of its keys. A key that only shares a part with them is taken
for stale without need, which is rare while there are few keys.
"""

from collections.abc import Collection, Iterable
from zlib import crc32

from gmproxy.shared.memory import BYTES_OF_PARTS, PARTS, SharedMemory

#: States of a worker's pending invalidations on one server: it has none, it has some in known parts of all keys, any key may be one.
NOTHING, SOME, EVERYTHING = range(3)

#: What a server is in its pool. The same server in another pool or role has another row, and its own marks. STAND_IN: the keys that it has in the
#: place of other servers (gmproxy.backend.missed_writes).
PRIMARY, BACKUP, STAND_IN, GUTTER = "primary", "backup", "stand-in", "gutter"


def replica_role(set_index: int) -> str:
    """The role of the servers of a replica: "replica1" for that with the set index 1."""
    return f"replica{set_index}"


_NO_PARTS = bytes(BYTES_OF_PARTS)


def part_of(key: bytes) -> int:
    """The number of the part that has `key`, from 0 to PARTS - 1; the same in all processes."""
    return crc32(key) & (PARTS - 1)


def server_name(pool: str, role: str, label: str) -> str:
    """The name of a server in shared memory and in the journal. `role`: PRIMARY, BACKUP, STAND_IN, GUTTER, or that of a replica.

    A server is in one set of a pool only, unless that is a backup. So the name does not say in which: what a server missed is still known when an
    operator has put it into another set."""
    of_all_sets = role not in (BACKUP, STAND_IN)
    return f"{pool} {PRIMARY if of_all_sets else role} {label}"


class InvalidationMarks:
    """The marks of all workers for one server. Loop callback or greenlet. Nothing here blocks or raises.

    column        of this worker
    states        NOTHING, SOME or EVERYTHING, for each column
    columns_used  of the shared memory
    """

    def __init__(self, memory: SharedMemory, row: int, column: int) -> None:
        self.column = column
        self.columns_used = memory.columns_used
        self.states = memory.states_of(row)
        self._parts = memory.parts_of(row)  # for each worker, a bit for each part: 1 if it has keys; valid while the state is SOME
        self._own_parts = self._parts[column]

    def add_part(self, part: int) -> None:
        """This worker has a key to delete in `part`."""
        if self.states[self.column] == NOTHING:
            self.replace_parts((part,))
        else:
            self._own_parts[part >> 3] |= 1 << (part & 7)

    def add_everything(self) -> None:
        """This worker has to flush the server: any key may be stale."""
        self.states[self.column] = EVERYTHING

    def replace_parts(self, parts: Collection[int]) -> None:
        """This worker has keys to delete in `parts` and in no others."""
        bits = bytearray(_NO_PARTS)
        for part in parts:
            bits[part >> 3] |= 1 << (part & 7)
        self._own_parts[:] = bits
        self.states[self.column] = SOME if parts else NOTHING  # last: the state says whether the parts are valid

    def remove_parts(self, parts: Iterable[int]) -> None:
        """This worker has no more keys to delete in `parts`."""
        for part in parts:
            self._own_parts[part >> 3] &= ~(1 << (part & 7)) & 0xFF

    def others_have(self, key: bytes) -> bool:
        """True if another worker may have to delete `key`."""
        part = part_of(key)
        for column in range(self.columns_used[0]):
            if column != self.column:
                state = self.states[column]
                if state == EVERYTHING or state == SOME and self._parts[column][part >> 3] >> (part & 7) & 1:
                    return True
        return False
