"""The most frequent keys, and examples of requests: from a sample, in bounded memory.

The router passes some of the requests to a Sampler. How many it skips depends on the traffic, so that the cost does not; each sampled
request stands for those that were skipped.
"""

import random
from collections.abc import Callable, Iterable
from heapq import heappush, heapreplace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from gmproxy.monitoring.slow_log import as_text

if TYPE_CHECKING:
    from gmproxy.protocol.request import Request

#: Keys that are counted at once. A key that has more than 1/COUNTERS of the traffic is found for certain, if all are sampled.
COUNTERS = 1000

#: Keys that a sample reports.
MAX_KEYS_REPORTED = 50

#: The sample is to be no larger than this, in requests a second; checked after ADAPT_AFTER requests.
SAMPLED_PER_SECOND = 500
ADAPT_AFTER = 50

#: Requests kept for `tail` at most.
TAIL_KEPT = 1000


class Orderable(Protocol):
    """What the heap can sort, and a dict can hold."""

    def __lt__(self, other: Any, /) -> bool: ...
    def __hash__(self) -> int: ...


Key = TypeVar("Key", bound=Orderable)


class SpaceSaving(Generic[Key]):
    """The most frequent of many keys with COUNTERS counters (Metwally and others, 2005): a key that is not counted yet takes the place, and
    the count, of the rarest. A count may be too high by what the key has taken over, and never is too low."""

    def __init__(self, counters: int = COUNTERS) -> None:
        self._counters = counters
        self._counts: dict[Key, list[int]] = {}  # key -> [count, of which were taken over]
        self._rarest: list[tuple[int, Key]] = []  # heap of (count, key), where the count may have grown since
        self.total = 0

    def increment(self, key: Key, weight: int = 1) -> None:
        """Count `key`, seen `weight` times."""
        self.total += weight
        counter = self._counts.get(key)
        if counter is not None:
            counter[0] += weight
        elif len(self._counts) < self._counters:
            self._counts[key] = [weight, 0]
            heappush(self._rarest, (weight, key))
        else:
            count = self._replace_rarest(key, weight)
            self._counts[key] = [count + weight, count]

    def _replace_rarest(self, key: Key, weight: int) -> int:
        """Let `key`, seen `weight` times, take the place of the rarest. Returns the count of that."""
        heap = self._rarest
        while True:
            count, rarest = heap[0]
            now = self._counts[rarest][0]
            if now == count:
                del self._counts[rarest]
                heapreplace(heap, (count + weight, key))
                return count
            heapreplace(heap, (now, rarest))

    def most_frequent(self, number: int) -> list[tuple[Key, int]]:
        """[(key, count)], the most frequent first; without what a count may be too high by."""
        counts = [(key, count - taken_over) for key, (count, taken_over) in self._counts.items()]
        return sorted(counts, key=lambda pair: (-pair[1], pair[0]))[:number]


class Sampler:
    """
    pool    whose requests these are
    keep    requests to be kept for `tail`
    clock   clock() gives seconds
    began_at   when it was made, by this clock
    """

    def __init__(self, pool: str, keep: int, clock: Callable[[], float], unix_time: Callable[[], float]) -> None:
        self._pool = pool
        self._keep = min(keep, TAIL_KEPT)
        self._clock = clock
        self._unix_time = unix_time
        self._keys: SpaceSaving[tuple[bytes, bytes]] = SpaceSaving()
        self._requests: list[dict[str, Any]] = []
        self._gap = 1  # one request of this many is sampled
        self._weight = 1  # for how many requests the next one stands
        self._looked = 0
        self.began_at = self._looked_at = clock()

    def sample_request(self, request: "Request") -> int:
        """Look at `request`. Returns how many to skip before the next. Called by the router, in the greenlet of a session; never waits."""
        keys = request.keys
        key, weight = (request.key, 1) if keys is None else (random.choice(keys), len(keys))
        self._keys.increment((key, request.command.name), weight * self._weight)
        if len(self._requests) < self._keep:
            self._requests.append(
                {
                    "time": self._unix_time(),
                    "pool": self._pool,
                    "command": request.command.name.decode(),
                    "key": as_text(request.key),
                    "keys": 1 if keys is None else len(keys),
                    "bytes": len(request.line),
                }
            )
        self._looked += 1
        if self._looked == ADAPT_AFTER:
            self._adapt()
        self._weight = 1 + int(random.random() * (2 * self._gap - 1))
        return self._weight - 1

    def _adapt(self) -> None:
        now = self._clock()
        took = now - self._looked_at
        wanted = ADAPT_AFTER / SAMPLED_PER_SECOND
        if took < wanted:
            self._gap *= 2
        elif took > 3 * wanted and self._gap > 1:
            self._gap //= 2
        self._looked = 0
        self._looked_at = now

    def results(self) -> dict[str, Any]:
        """The sample, for `merge_keys` and `merge_requests`; can be written as JSON."""
        keys = [[as_text(key), command.decode(), count] for (key, command), count in self._keys.most_frequent(MAX_KEYS_REPORTED)]
        return {"pool": self._pool, "total": self._keys.total, "keys": keys, "requests": self._requests}


def merge_keys(samples: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """[{"key", "command", "pool", "count", "share"}], the most frequent first, of the results of several Samplers."""
    counts: dict[tuple[str, str, str], int] = {}
    total = 0
    for sample in samples:
        total += sample["total"]
        for key, command, count in sample["keys"]:
            name = key, command, sample["pool"]
            counts[name] = counts.get(name, 0) + count
    most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_KEYS_REPORTED]
    return [
        {"key": key, "command": command, "pool": pool, "count": count, "share": round(count / total, 6)}
        for (key, command, pool), count in most
    ]


def merge_requests(samples: Iterable[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The sampled requests in time order, `limit` of them at most."""
    return sorted((request for sample in samples for request in sample["requests"]), key=lambda request: request["time"])[:limit]
