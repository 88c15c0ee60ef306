"""The keys of one process's changes and fills that are in flight, in memory that outlives the process.

If the process dies, it is unknown which servers have made such a change: the key is deleted on all servers of its pool that may have it
(gmproxy.process.orphans).

Each entry has BYTES_PER_KEY bytes: the length of the key, four bytes that name the pool, and the key. The length is written last, and makes the entry
valid.
"""

from array import array
from collections.abc import Iterator
from zlib import crc32

from gmproxy.shared.memory import BYTES_PER_KEY, KEYS_IN_FLIGHT

#: The entry of a key for which there is no room. Its key is not known after the death of the process, so every key may be stale.
NO_ENTRY = KEYS_IN_FLIGHT

_KEY_AT = 5

#: The first entry: not zero while there are keys without an entry.
_OVERFLOWED = 0


def tag_of(pool: str) -> int:
    """The number by which entries name the pool."""
    return crc32(pool.encode())


class KeysInFlight:
    """Of this process. Loop callback or greenlet; nothing here blocks or raises. `memory`: KEYS_IN_FLIGHT * BYTES_PER_KEY bytes."""

    __slots__ = ("_memory", "_free", "_free_count", "_without_entry")

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        # A stack, whose upper end is used next: so few pages are.
        self._free = memoryview(array("I", range(KEYS_IN_FLIGHT - 1, _OVERFLOWED, -1)))
        self._free_count = len(self._free)
        self._without_entry = 0

    def add_key(self, key: bytes, tag: int) -> int:
        """`key`, of the pool with this tag, is about to be sent. Returns its entry, for `remove_entry`."""
        if not self._free_count:
            self._without_entry += 1
            self._memory[_OVERFLOWED] = 1
            return NO_ENTRY
        self._free_count -= 1
        entry: int = self._free[self._free_count]
        at = entry * BYTES_PER_KEY
        length = len(key)
        self._memory[at + 1] = tag & 0xFF
        self._memory[at + 2] = tag >> 8 & 0xFF
        self._memory[at + 3] = tag >> 16 & 0xFF
        self._memory[at + 4] = tag >> 24 & 0xFF
        for index in range(length):
            self._memory[at + _KEY_AT + index] = key[index]
        self._memory[at] = length
        return entry

    def remove_entry(self, entry: int) -> None:
        """All servers have answered, or have pending invalidations of the key."""
        if entry == NO_ENTRY:
            self._without_entry -= 1
            if not self._without_entry:
                self._memory[_OVERFLOWED] = 0
            return
        self._memory[entry * BYTES_PER_KEY] = 0
        self._free[self._free_count] = entry
        self._free_count += 1

    def is_empty(self) -> bool:
        return self._free_count == len(self._free) and not self._without_entry


def keys_left(memory: memoryview) -> Iterator[tuple[int, bytes]]:
    """(tag of the pool, key) of all entries that a process has left in `memory`."""
    for at in range(BYTES_PER_KEY, KEYS_IN_FLIGHT * BYTES_PER_KEY, BYTES_PER_KEY):
        length = memory[at]
        if length:
            yield int.from_bytes(memory[at + 1 : at + _KEY_AT], "little"), bytes(memory[at + _KEY_AT : at + _KEY_AT + length])


def has_overflowed(memory: memoryview) -> bool:
    """True if a process has left keys in flight that are not in `memory`."""
    return bool(memory[_OVERFLOWED])
