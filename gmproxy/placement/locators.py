"""Distributions: which server a key belongs to.

Each class is built once from plain lists and answers ``locate(key: bytes) -> int``, an index into the servers in the
order the operator gave them.  ``owners`` always holds such indexes.  Who builds which one, with which points, is in
``distributions.py``; this file is the request path and stays small.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import random

from gmproxy.placement.hashes import djb, quick_hash
from gmproxy.placement.murmur3 import finish, mix_words, scrambled_tail, scrambled_words

#: Of the hashes that the positions on most rings are.
HASH_BITS = 32
TOP = 2**HASH_BITS - 1


class Locator:
    """Which server a key belongs to. May be called from a loop callback or a greenlet."""

    __slots__ = ()

    def locate(self, key: bytes) -> int:
        """Index into the servers, in the order the operator gave them."""
        return self.locate_in(key, len(key))

    def locate_in(self, text: bytes, length: int) -> int:
        """As `locate`, for the key text[:length]: in the compiled build wherever it stands in memory."""
        raise NotImplementedError


class HashTagLocator(Locator):
    """Only a part of the key decides: ``part(key) -> bytes`` takes away a prefix or finds a hash tag."""

    __slots__ = ("inner", "part")

    def __init__(self, inner: Locator, part: Callable[[bytes], bytes]) -> None:
        self.inner = inner
        self.part = part

    def locate_in(self, text: bytes, length: int) -> int:
        return self.inner.locate(self.part(text[:length]))


class SingleServer(Locator):
    """One server takes everything; no program hashes then."""

    __slots__ = ("owner",)

    def __init__(self, owner: int) -> None:
        self.owner = owner

    def locate_in(self, text: bytes, length: int) -> int:
        return self.owner


class Buckets(Locator):
    """Hash modulo the number of buckets; a bucket is an owner.

    For a negative hash the remainder is the floored one, 0..n-1: what programs do that add n to a negative remainder.
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
            return self._locate_slowly(text[:length])
        return self.owners[quick.hash_bytes(text, length) % self.count]

    def _locate_slowly(self, key: bytes) -> int:
        """Apart from the quick way, which would have to make room for the objects that this one needs."""
        return self.owners[self.hash_key(key) % self.count]


class AbsoluteBuckets(Buckets):
    """A negative remainder is negated instead: com.danga and com.whalin from 1.6 on."""

    __slots__ = ()

    def locate_in(self, text: bytes, length: int) -> int:
        return self.owners[abs(self.hash_key(text[:length])) % self.count]


class FoldedBuckets(Buckets):
    """Only bits 16..30 of the hash count, and 0 becomes 1: PECL memcache, python-memcached up to 1.59."""

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
    """A circle of points; a hash belongs to the first point at or above it, past the end to the first of all.

    ``points`` come in any order, ``owners`` beside them.  Of equal points the one given first wins.
    """

    __slots__ = ("points", "owners", "hash_key", "quick", "_steps", "_places", "_shift", "_owners")

    def __init__(self, points: Sequence[int], owners: Sequence[int], hash_key: Callable[[bytes], int]) -> None:
        if not points:
            raise ValueError("the weights are too small: no server gets a point on the ring")
        order = sorted(range(len(points)), key=points.__getitem__)
        self.points = [points[i] for i in order]
        self.owners = [owners[i] for i in order]
        # The owner of what lies past the end, so that a look-up needs no test.
        self.owners.append(self.owners[0])
        self.hash_key = hash_key
        self.quick = quick_hash(hash_key) if 0 <= self.points[0] and self.points[-1] <= TOP else None
        if self.quick is not None:
            self._divide()

    def _divide(self) -> None:
        """Cut the circle into equal parts, about two to a point, and note how many points lie below each: most look-ups are done then."""
        bits = min(len(self.points).bit_length() + 1, HASH_BITS)
        self._shift = HASH_BITS - bits
        counts = [0] * ((1 << bits) + 1)
        for point in self.points:
            counts[(point >> self._shift) + 1] += 1
        self._places = array("i", accumulate(counts))
        self._steps = array("q", [*self.points, TOP + 2])  # the last is above whatever is looked for
        self._owners = array("i", self.owners)

    def _below(self, h: int) -> int:
        """How many points lie below ``h``, for 0 <= h <= TOP + 1."""
        at = self._places[h >> self._shift]
        while self._steps[at] < h:
            at += 1
        return at

    def at(self, h: int) -> int:
        """Owner of the position ``h``."""
        return self.owners[bisect_left(self.points, h)]

    def locate_in(self, text: bytes, length: int) -> int:
        if self.quick is not None:
            return self._owners[self._below(self.quick.hash_bytes(text, length))]
        return self.at(self.hash_key(text[:length]))


class RingBelow(Ring):
    """A hash belongs to the last point at or below it, before the first to the last of all: dalli."""

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
    """magent's ketama: ``mask`` keeps the part of the hash it looks at, and 0 falls back to its plain modulo."""

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
    """Every server scores the key and the highest score wins: pymemcache, with MurmurHash3 of ``label-key``.

    A score is taken over *characters*, each cut to its low 8 bits, not over UTF-8.  ``labels`` are texts; of equal
    scores the greater label wins.  ``quote_key`` hashes the key as Python prints it, ``b'key'``, which is what happens
    to keys that the application passes as bytes.
    """

    __slots__ = ("groups", "owners", "quote_key")

    def __init__(self, labels: Sequence[str], owners: Sequence[int], quote_key: bool) -> None:
        self.quote_key = quote_key
        # The whole words of "label-" are stirred in once.  The rest, up to three characters, joins each key; servers
        # with the same rest, mostly all of them, share the scrambled words of rest and key.
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
    """The characters of ``text`` cut to their low 8 bits."""
    return bytes([ord(character) & 0xFF for character in text])
