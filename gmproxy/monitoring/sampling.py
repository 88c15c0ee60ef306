"""The most frequent keys, and examples of requests, from a sample in bounded memory.

The router passes some of the requests to a Sampler. With more traffic it skips more of them, so that the cost stays the same; each sampled
request counts for those that were skipped before it.
"""

import random
from collections.abc import Callable, Iterable
from heapq import heappush, heapreplace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from gmproxy.monitoring.slow_log import as_text

if TYPE_CHECKING:
    from gmproxy.protocol.request import Request

#: Number of keys that are counted at the same time. If all requests are sampled, every key with more than 1/COUNTERS of the requests is found.
COUNTERS = 1000

#: Maximum number of keys in a result.
MAX_KEYS_REPORTED = 50

#: Maximum number of sampled requests per second, checked after every ADAPT_AFTER of them.
SAMPLED_PER_SECOND = 500
ADAPT_AFTER = 50

#: Maximum number of requests kept for `tail`.
TAIL_KEPT = 1000


class Orderable(Protocol):
    """Can be sorted, and be a key of a dict."""

    def __lt__(self, other: Any, /) -> bool: ...
    def __hash__(self) -> int: ...


Key = TypeVar("Key", bound=Orderable)


class SpaceSaving(Generic[Key]):
    """The most frequent of many keys with a fixed number of `counters`, by the algorithm Space-Saving (Metwally and others, 2005): a key without a
    counter replaces the rarest key and takes over its count. So a count may be too high, by what was taken over, and is never too low."""

    def __init__(self, counters: int = COUNTERS) -> None:
        self._counters = counters
        self._counts: dict[Key, list[int]] = {}  # key -> [count, the part of it that was taken over]
        self._rarest: list[tuple[int, Key]] = []  # heap of (count, key); the count may be out of date, too low
        self.total = 0

    def increment(self, key: Key, weight: int = 1) -> None:
        """Add `weight` to the count of `key`."""
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
        """Replace the rarest key by `key`, whose count grows by `weight`. Returns the count of the rarest key."""
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
        """[(key, count)], the most frequent first, at most `number`. Counts are without the part that was taken over, so never too high."""
        counts = [(key, count - taken_over) for key, (count, taken_over) in self._counts.items()]
        return sorted(counts, key=lambda pair: (-pair[1], pair[0]))[:number]


class Sampler:
    """Samples the requests of one pool.

    pool        title of the pool
    keep        maximum number of requests to keep for `tail`
    clock       clock() returns seconds
    unix_time   unix_time() returns the unix time
    began_at    when it was created, by `clock`
    """

    def __init__(self, pool: str, keep: int, clock: Callable[[], float], unix_time: Callable[[], float]) -> None:
        self._pool = pool
        self._keep = min(keep, TAIL_KEPT)
        self._clock = clock
        self._unix_time = unix_time
        self._keys: SpaceSaving[tuple[bytes, bytes]] = SpaceSaving()
        self._requests: list[dict[str, Any]] = []
        self._gap = 1  # one request of this many is sampled
        self._weight = 1  # number of requests that the next sampled one counts for
        self._looked = 0
        self.began_at = self._looked_at = clock()

    def sample_request(self, request: "Request") -> int:
        """Add `request` to the sample. Returns the number of requests to skip. Loop callback or greenlet."""
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
        """The sample as an object for JSON, for `merge_keys` and `merge_requests`."""
        keys = [[as_text(key), command.decode(), count] for (key, command), count in self._keys.most_frequent(MAX_KEYS_REPORTED)]
        return {"pool": self._pool, "total": self._keys.total, "keys": keys, "requests": self._requests}


def merge_keys(samples: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """[{"key", "command", "pool", "count", "share"}], the most frequent first, from the results of several Samplers. `share`: 0 to 1."""
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
    """The kept requests in the results of several Samplers, in time order, at most `limit`."""
    return sorted((request for sample in samples for request in sample["requests"]), key=lambda request: request["time"])[:limit]
