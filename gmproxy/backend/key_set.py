"""A set of up to a million keys on which no operation takes long.

A Python set that grows copies its whole table, and one that is discarded frees all of it: with a million keys each takes a tenth of a second,
in which no client is served. So the keys are in many small parts, which can be freed one by one.
"""

from collections.abc import Iterator
from zlib import crc32

from gmproxy.shared.invalidation_marks import part_of
from gmproxy.shared.memory import PARTS

# With a million keys, each of the PARTS parts has about a thousand, which are copied or freed within a tenth of a millisecond. They are those of
# the marks in shared memory, and selected by another hash than that of a dict, or all keys of a part would collide there.
_MASK = PARTS - 1


class KeySet:
    """`len`, `in`, `bool` and iteration are those of a set. Methods: loop callback or greenlet.

    parts   {number of the part: {key: None}}; dicts are smaller than sets, and the garbage collector does not track these
    """

    __slots__ = ("parts", "_count")

    def __init__(self) -> None:
        self.parts: dict[int, dict[bytes, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: bytes) -> bool:
        part = self.parts.get(part_of(key))
        return part is not None and key in part

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts.values():
            yield from part

    def add(self, key: bytes) -> int:
        """Returns the number of its part."""
        number = crc32(key) & _MASK  # as part_of, without a call: this is done for each write that fails
        part = self.parts.get(number)
        if part is None:
            part = self.parts[number] = {}
        if key not in part:
            part[key] = None
            self._count += 1
        return number

    def discard(self, key: bytes) -> None:
        number = part_of(key)
        part = self.parts.get(number)
        if part is None or key not in part:
            return
        del part[key]
        self._count -= 1
        if not part:
            del self.parts[number]

    def take(self, count: int) -> list[bytes]:
        """Remove up to `count` keys, one part after the other, and return them."""
        taken: list[bytes] = []
        while self.parts and len(taken) < count:
            number = next(iter(self.parts))
            part = self.parts[number]
            while part and len(taken) < count:
                taken.append(part.popitem()[0])
            if not part:
                del self.parts[number]
        self._count -= len(taken)
        return taken
