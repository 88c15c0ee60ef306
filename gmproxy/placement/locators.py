"""From a key to the index of its server: what is done for each request of what distributions.py has computed.

An *owner* is an index into the servers, in the operator's order.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import random

from gmproxy.placement.hashes import djb, quick_hash
from gmproxy.placement.murmur3 import finish, mix_words, scrambled_tail, scrambled_words

#: Bits of the points on most rings, and of the hashes that are looked up there.
HASH_BITS = 32
TOP = 2**HASH_BITS - 1


class Locator:
    """Which server has a key."""

    __slots__ = ()

    def locate(self, key: bytes) -> int:
        """The owner of `key`."""
        return self.locate_in(key, len(key))

    def locate_in(self, text: bytes, length: int) -> int:
        """The owner of the key text[:length]; in the compiled build `text` is a pointer."""
        raise NotImplementedError


class HashTagLocator(Locator):
    """Locates part(key), the key without a prefix or what the hash tag encloses, by the Locator `inner`."""

    __slots__ = ("inner", "part")

    def __init__(self, inner: Locator, part: Callable[[bytes], bytes]) -> None:
        self.inner = inner
        self.part = part

    def locate_in(self, text: bytes, length: int) -> int:
        return self.inner.locate(self.part(text[:length]))


class SingleServer(Locator):
    """One server has all keys, and nothing is hashed."""

    __slots__ = ("owner",)

    def __init__(self, owner: int) -> None:
        self.owner = owner

    def locate_in(self, text: bytes, length: int) -> int:
        return self.owner


class Buckets(Locator):
    """The owner is owners[hash modulo their number].

    The remainder of a negative hash is 0 or above, as in programs that add the divisor to a negative remainder.
    """

    __slots__ = ("owners", "count", "hash_key", "quick")

    def __init__(self, owners: Sequence[int], hash_key: Callable[[bytes], int]) -> None:
        self.owners = array("i", owners)
        self.count = len(owners)
        self.hash_key = hash_key
        self.quick = quick_hash(hash_key)

    def locate_in(self, text: bytes, length: int) -> int:
        quick = self.quick
        if quick is None:
            return self._locate_object(text[:length])
        return self.owners[quick.hash_bytes(text, length) % self.count]

    def _locate_object(self, key: bytes) -> int:
        """Apart from `locate_in`, since a C function that also handles objects is slower even where there are none."""
        return self.owners[self.hash_key(key) % self.count]


class AbsoluteBuckets(Buckets):
    """As Buckets, but the sign of a negative remainder is dropped: com.danga and com.whalin from 1.6 on."""

    __slots__ = ()

    def locate_in(self, text: bytes, length: int) -> int:
        return self.owners[abs(self.hash_key(text[:length])) % self.count]


class FoldedBuckets(Buckets):
    """As Buckets, by bits 16 to 30 of the hash, of which 0 becomes 1: PECL memcache, python-memcached up to 1.59."""

    __slots__ = ()

    def locate_in(self, text: bytes, length: int) -> int:
        h = (self.hash_key(text[:length]) >> 16) & 0x7FFF
        if h == 0:
            h = 1
        return self.owners[h % self.count]


class RandomOwner(Locator):
    """Any server, whatever the key."""

    __slots__ = ("owners", "count")

    def __init__(self, owners: list[int]) -> None:
        self.owners = owners
        self.count = len(owners)

    def locate_in(self, text: bytes, length: int) -> int:
        return self.owners[int(random() * self.count)]


class Ring(Locator):
    """A hash ring: a key belongs to the first point at or above its hash, or, if there is none, to the lowest point.

    points  in any order; if two are equal, the earlier one is used
    owners  one for each point
    """

    __slots__ = ("points", "owners", "hash_key", "quick", "_steps", "_points_below", "_shift", "_owners")

    def __init__(self, points: Sequence[int], owners: Sequence[int], hash_key: Callable[[bytes], int]) -> None:
        if not points:
            raise ValueError("the weights are too small: no server has a point on the hash ring")
        order = sorted(range(len(points)), key=points.__getitem__)
        self.points = [points[i] for i in order]
        self.owners = [owners[i] for i in order]
        # For hashes above the last point, so that a look-up needs no test.
        self.owners.append(self.owners[0])
        self.hash_key = hash_key
        self.quick = quick_hash(hash_key) if 0 <= self.points[0] and self.points[-1] <= TOP else None
        if self.quick is not None:
            self._divide()

    def _divide(self) -> None:
        """Divide the ring into equal parts, at least two for each point, and note how many points are below each: most look-ups need no more."""
        bits = min(len(self.points).bit_length() + 1, HASH_BITS)
        self._shift = HASH_BITS - bits
        counts = [0] * ((1 << bits) + 1)
        for point in self.points:
            counts[(point >> self._shift) + 1] += 1
        self._points_below = array("i", accumulate(counts))
        self._steps = array("q", [*self.points, TOP + 2])  # the last is above all hashes
        self._owners = array("i", self.owners)

    def _below(self, h: int) -> int:
        """The number of points below `h`, for 0 <= h <= TOP + 1."""
        at = self._points_below[h >> self._shift]
        while self._steps[at] < h:
            at += 1
        return at

    def at(self, h: int) -> int:
        """Owner of the position `h`."""
        return self.owners[bisect_left(self.points, h)]

    def locate_in(self, text: bytes, length: int) -> int:
        if self.quick is not None:
            return self._owners[self._below(self.quick.hash_bytes(text, length))]
        return self.at(self.hash_key(text[:length]))


class RingBelow(Ring):
    """A hash ring on which a key belongs to the last point at or below its hash, or, if there is none, to the highest point: dalli."""

    __slots__ = ()

    def __init__(self, points: Sequence[int], owners: Sequence[int], hash_key: Callable[[bytes], int]) -> None:
        Ring.__init__(self, points, owners, hash_key)
        self.owners.insert(0, self.owners[-2])
        self._owners = array("i", self.owners)

    def at(self, h: int) -> int:
        return self.owners[bisect_right(self.points, h)]

    def locate_in(self, text: bytes, length: int) -> int:
        if self.quick is not None:
            h = self.quick.hash_bytes(text, length)
            return self._owners[self._below(h + 1)]
        return self.at(self.hash_key(text[:length]))


class MagentRing(Ring):
    """magent's ketama: of a hash the bits in `mask` are used, and if they are 0, the key is placed by Buckets(buckets) with the hash djb."""

    __slots__ = ("mask", "buckets")

    def __init__(
        self, points: Sequence[int], owners: Sequence[int], hash_key: Callable[[bytes], int], mask: int, buckets: Sequence[int]
    ) -> None:
        Ring.__init__(self, points, owners, hash_key)
        self.mask = mask
        self.buckets = Buckets(buckets, djb)

    def locate_in(self, text: bytes, length: int) -> int:
        h = self.hash_key(text[:length]) & self.mask
        if h == 0:
            return self.buckets.locate_in(text, length)
        return self.at(h)


class Rendezvous(Locator):
    """The owner is the server with the highest score, the MurmurHash3 of `label-key`; of equal scores, that of the greater label: pymemcache.

    Characters are hashed, of each its low 8 bits, instead of UTF-8. With `quote_key` the key is hashed as Python prints it, `b'key'`, as
    pymemcache does with a key that the application passes as bytes.
    """

    __slots__ = ("groups", "owners", "quote_key")

    def __init__(self, labels: Sequence[str], owners: Sequence[int], quote_key: bool) -> None:
        self.quote_key = quote_key
        # The whole words of "label-" are mixed in here, once. The rest, up to three characters, is hashed with each key; servers
        # with the same rest, which are often all, share the scrambled words of rest and key.
        groups: dict[bytes, list[tuple[int, int, int]]] = {}
        ranked = sorted(zip(labels, owners))
        for rank, (label, _) in enumerate(ranked):
            head = low_bytes(label + "-")
            whole = len(head) & ~3
            state = mix_words(0, scrambled_words(head[:whole]))
            groups.setdefault(head[whole:], []).append((state, len(head), rank))
        self.groups = list(groups.items())
        self.owners = [owner for _, owner in ranked]

    def locate_in(self, text: bytes, length: int) -> int:
        key = text[:length]
        if self.quote_key:
            key = repr(key).encode()
        elif not key.isascii():
            key = low_bytes(key.decode("utf-8", "replace"))
        best = -1
        winner = 0
        for rest, heads in self.groups:
            whole = rest + key
            words = scrambled_words(whole)
            tail = scrambled_tail(whole)
            for state, length, rank in heads:
                score = finish(mix_words(state, words), tail, length + len(key))
                if score > best or (score == best and rank > winner):
                    best = score
                    winner = rank
        return self.owners[winner]


def low_bytes(text: str) -> bytes:
    """The low 8 bits of each character of `text`."""
    return bytes([ord(character) & 0xFF for character in text])
