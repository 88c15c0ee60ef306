"""Which keys are asked for most, and what requests look like: from a sample, in bounded memory.

The router shows a Sampler some of the requests. How many it skips depends on the traffic, so that the cost does not; each that is
shown stands for those that were skipped.
"""

import random
from heapq import heappush, heapreplace

from gmproxy.monitoring.slow_log import as_text

#: So many keys are counted at once. A key that has more than 1/COUNTERS of the traffic is found for certain, if all were shown.
COUNTERS = 1000

#: Keys told of in the end.
TOLD = 50

#: The sample is to be no larger than this, in requests a second; it is looked at after so many requests whether it is.
SHOWN_PER_SECOND = 500
LOOK_AFTER = 50

#: Requests kept for `tail` at most.
TAIL_KEPT = 1000


class SpaceSaving:
    """The most frequent of many keys with COUNTERS counters (Metwally and others, 2005): who is not counted yet takes the place, and the
    count, of the rarest. A count may be too high by what the key has taken over, and never is too low."""

    def __init__(self, counters=COUNTERS):
        self._counters = counters
        self._counts = {}    # key -> [count, of which were taken over]
        self._rarest = []    # heap of (count, key), where the count may have grown since
        self.total = 0

    def add(self, key, weight=1):
        self.total += weight
        counter = self._counts.get(key)
        if counter is not None:
            counter[0] += weight
        elif len(self._counts) < self._counters:
            self._counts[key] = [weight, 0]
            heappush(self._rarest, (weight, key))
        else:
            count = self._forget_rarest(key, weight)
            self._counts[key] = [count + weight, count]

    def _forget_rarest(self, key, weight):
        """Let `key`, seen `weight` times, take the place of the rarest. Returns how often that was counted."""
        heap = self._rarest
        while True:
            count, rarest = heap[0]
            now = self._counts[rarest][0]
            if now == count:
                del self._counts[rarest]
                heapreplace(heap, (count + weight, key))
                return count
            heapreplace(heap, (now, rarest))

    def most(self, number):
        """[(key, count)], the most frequent first; without what a count may be too high by."""
        found = [(key, count - taken_over) for key, (count, taken_over) in self._counts.items()]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:number]


class Sampler:
    """
    pool    whose requests these are
    keep    requests to be kept for `tail`
    clock   clock() gives seconds
    began_at   when it was made, in these
    """

    def __init__(self, pool, keep, clock, unix_time):
        self._pool = pool
        self._keep = min(keep, TAIL_KEPT)
        self._clock = clock
        self._unix_time = unix_time
        self._keys = SpaceSaving()
        self._requests = []
        self._gap = 1          # one request of so many is looked at
        self._weight = 1       # for how many requests the next one stands
        self._looked = 0
        self.began_at = self._looked_at = clock()

    def take(self, request):
        """Look at `request`. Returns how many to skip before the next."""
        keys = request.keys
        key, weight = (request.key, 1) if keys is None else (random.choice(keys), len(keys))
        self._keys.add((key, request.command.name), weight * self._weight)
        if len(self._requests) < self._keep:
            self._requests.append({
                "time": self._unix_time(), "pool": self._pool, "command": request.command.name.decode(), "key": as_text(request.key),
                "keys": 1 if keys is None else len(keys), "bytes": len(request.line),
            })
        self._looked += 1
        if self._looked == LOOK_AFTER:
            self._adapt()
        self._weight = 1 + int(random.random() * (2 * self._gap - 1))
        return self._weight - 1

    def _adapt(self):
        now = self._clock()
        took = now - self._looked_at
        wanted = LOOK_AFTER / SHOWN_PER_SECOND
        if took < wanted:
            self._gap *= 2
        elif took > 3 * wanted and self._gap > 1:
            self._gap //= 2
        self._looked = 0
        self._looked_at = now

    def told(self):
        """What JSON can hold of it, for `merge`."""
        keys = [[as_text(key), command.decode(), count] for (key, command), count in self._keys.most(TOLD)]
        return {"pool": self._pool, "total": self._keys.total, "keys": keys, "requests": self._requests}


def merge_keys(samples):
    """[{"key", "command", "pool", "count", "share"}], the most frequent first, of what several Samplers told."""
    counts = {}
    total = 0
    for sample in samples:
        total += sample["total"]
        for key, command, count in sample["keys"]:
            name = key, command, sample["pool"]
            counts[name] = counts.get(name, 0) + count
    most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:TOLD]
    return [
        {"key": key, "command": command, "pool": pool, "count": count, "share": round(count / total, 6)}
        for (key, command, pool), count in most
    ]


def merge_requests(samples, limit):
    """The sampled requests in time order, `limit` of them at most."""
    return sorted((request for sample in samples for request in sample["requests"]), key=lambda request: request["time"])[:limit]
