"""Chooses keys at random from a listing of keys (lru_crawler metadump) while it arrives: each key has the same chance.

Memory is bounded by the number of keys chosen, whatever the length of the listing.
"""

import math
import random
from urllib.parse import unquote_to_bytes

KEY = b"key="

#: Limit of a probability, so that it is never 0 or 1.
LEAST = 1e-15


def key_of(line: bytes) -> bytes | None:
    """The key in a line of a metadump, which is URL-encoded there; None if it is another line."""
    return unquote_to_bytes(line[len(KEY) : line.find(b" ")]) if line.startswith(KEY) and b" " in line else None


class KeySample:
    """Gets the listing by `add_chunk`, as a gmproxy.system.spill.Spill does. Greenlet; nothing here blocks.

    size    number of bytes written
    wanted  maximum number of keys
    seen    lines with a key so far: if they are at most `wanted`, all keys are in the sample

    A line is chosen by its number: most lines are only counted (reservoir sampling, Li's algorithm L).
    """

    def __init__(self, wanted: int) -> None:
        self.size = 0
        self.wanted = wanted
        self.seen = 0
        self._lines: list[bytes] = []
        self._rest = b""  # the beginning of a line
        self._weight = 1.0
        self._next = 0  # number of the next line that is chosen, counted from 0

    def add_chunk(self, chunk: bytes) -> None:
        self.size += len(chunk)
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        first = self.seen
        items = [line for line in lines if line.startswith(KEY)]
        self.seen += len(items)
        while self._next < self.seen:
            self._choose(items[self._next - first])

    def _choose(self, line: bytes) -> None:
        if len(self._lines) < self.wanted:
            self._lines.append(line)
            if len(self._lines) < self.wanted:
                self._next += 1
                return
        else:
            self._lines[random.randrange(self.wanted)] = line
        self._weight = min(max(self._weight * (1.0 - random.random()) ** (1.0 / self.wanted), LEAST), 1.0 - LEAST)
        self._next += 1 + int(math.log(1.0 - random.random()) / math.log1p(-self._weight))

    def is_complete(self) -> bool:
        """True if the sample has all keys of the listing."""
        return self.seen <= self.wanted

    def keys(self) -> list[bytes]:
        return [key for key in map(key_of, self._lines) if key]
