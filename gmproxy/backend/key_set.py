"""A set of perhaps a million keys, in which nothing takes long. Pure.

A set that grows moves all it has into a larger table, and one that is thrown away frees all it had: with a million keys each of this
is a tenth of a second in which no client is served. So the keys lie in many small parts, and parts can be thrown away one by one.
"""

from collections.abc import Iterator

#: Parts at most. A million keys are some thousand in each, and a thousand are moved or freed within a tenth of a millisecond.
PARTS = 1024

#: A key's part is told by bits of its hash that the part itself, a dict, does not begin with; else all its keys would collide there.
_SHIFT = 40
_MASK = PARTS - 1


def part_of(key: bytes) -> int:
    """The number of the part where `key` lies. The same in all workers: their hashes are those of the process they were forked from."""
    return hash(key) >> _SHIFT & _MASK


class KeySet:
    """`len`, `in` and `bool` are as those of a set. `parts` is {number: {key: None}}: dicts are smaller than sets, and the collector
    of cycles passes them by."""

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
        number = hash(key) >> _SHIFT & _MASK  # as part_of: it is done for each change that fails, and a call costs
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
        """Up to `count` of the keys, as a list; they are taken out. One part after the other, so that each has its turn."""
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
