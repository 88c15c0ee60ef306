"""What a load counted, and the replies that it must never receive."""

from array import array
from collections import Counter, defaultdict
from typing import NamedTuple

from faults.model import Ledger

# Kinds of violation. Damage is excused where a relay damages data.
WRONG_VALUE = "wrong values"
WRONG_REPLY = "replies to the wrong request"
STALE = "stale reads"
STALE_CHANGE = "changes made to a stale value"  # incr, decr, append; and gat, which the proxy treats like a write
REFUSED = "refused writes that happened"
HUNG = "requests that hung"
CONNECTION_LOST = "client connections lost"
DAMAGED = "values damaged in transit"
VIOLATIONS = (WRONG_VALUE, WRONG_REPLY, STALE, STALE_CHANGE, REFUSED, HUNG, CONNECTION_LOST, DAMAGED)

#: The number of violations of each kind that are kept with the history of their key.
KEPT = 3


class Violation(NamedTuple):
    kind: str
    at: float  # time.monotonic()
    what: str
    ledger: Ledger  # or None
    operations: list  # the last operations of its ledger, at that time


class Tally:
    """
    requests, hits, misses   counts; a retrieval of several keys is one request
    cut_off      connections that ended because their worker was killed
    errors       {reason: number of SERVER_ERROR replies}
    longest      longest duration of a late request without the pauses, seconds
    violations   {kind: number}
    examples     {kind: its first Violations}
    ends, waits  time of each reply (time.monotonic()), and the duration of its request, seconds
    """

    def __init__(self):
        self.requests = 0
        self.hits = 0
        self.misses = 0
        self.cut_off = 0
        self.errors = Counter()
        self.longest = 0.0
        self.violations = Counter()
        self.examples = defaultdict(list)
        self.ends = array("d")
        self.waits = array("d")

    def answered(self, sent, ended):
        self.requests += 1
        self.ends.append(ended)
        self.waits.append(ended - sent)

    def violated(self, kind, at, what, ledger):
        self.violations[kind] += 1
        examples = self.examples[kind]
        if len(examples) < KEPT:
            examples.append(Violation(kind, at, what, ledger, list(ledger.operations) if ledger is not None else []))

    def add(self, other):
        self.requests += other.requests
        self.hits += other.hits
        self.misses += other.misses
        self.cut_off += other.cut_off
        self.longest = max(self.longest, other.longest)
        self.errors.update(other.errors)
        self.violations.update(other.violations)
        for kind, examples in other.examples.items():
            self.examples[kind] = sorted(self.examples[kind] + examples, key=lambda violation: violation.at)[:KEPT]
        self.ends += other.ends
        self.waits += other.waits
