"""The faults, and a choice among them that a seed determines."""

import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from faults.damage import damages
from faults.stage import TIMEOUT

#: How long a fault lasts, and the time without faults after it, in timeouts of the proxy. Some faults end before the proxy notices them,
#: most last until the server is ejected and has failed some probes.
SHORTEST, LONGEST = 0.5, 8
CALM_SHORTEST, CALM_LONGEST = 0.5, 3

#: Default probability that a second server fails before the first has recovered.
TWO_AT_ONCE = 0.3

#: Probability that both fail at the same time: then one of them is ejected before the other while requests wait for both.
IN_THE_SAME_MOMENT = 0.5

#: At most this number of bytes of replies passes a relay before it cuts the connection.
TRUNCATED_AFTER = 20_000


class Fault(NamedTuple):
    """`begin(node, chance)` and `end(node)`; `chance` is a random.Random. If a set of servers fails, they are called for each of its nodes.

    of_service   a fault of the proxy: the functions get the Service instead of a node
    lasts        minimum and maximum duration, seconds
    """

    name: str
    begin: Callable
    end: Callable
    of_service: bool = False
    lasts: tuple[float, float] = (SHORTEST * TIMEOUT, LONGEST * TIMEOUT)


class Event(NamedTuple):
    """A fault that is over: time.monotonic() of its start and its end."""

    fault: str
    node: str
    begun: float
    ended: float


def _nothing(node):
    pass


def _mend(node):
    node.relay.pass_on()


STOPPED = Fault("stopped", lambda node, chance: node.server.pause(), lambda node: node.server.resume())

#: Faults of a server.
SERVER_FAULTS = (
    Fault("killed", lambda node, chance: node.server.kill(), lambda node: node.server.restart()),
    STOPPED,
    Fault("restarted", lambda node, chance: node.server.restart(), _nothing),
)

#: Faults of the network to a server. The server itself keeps running.
WIRE_FAULTS = (
    Fault("held", lambda node, chance: node.relay.hold(), _mend),
    Fault("dropped", lambda node, chance: node.relay.drop(), _mend),
    Fault("delayed", lambda node, chance: node.relay.delay(chance.uniform(0, 1.5) * TIMEOUT), _mend),
    Fault("truncated", lambda node, chance: node.relay.truncate(chance.randrange(TRUNCATED_AFTER)), _mend),
    Fault("cut", lambda node, chance: node.relay.cut(), _nothing),
    Fault("refused", lambda node, chance: node.relay.refuse(), _mend),
    Fault("corrupted", lambda node, chance: node.relay.corrupt(damages(chance)), _mend),
)


#: Faults of the proxy itself. No other fault happens at the same time: what a stopped proxy does cannot be attributed to another fault.
SERVICE_FAULTS = (
    Fault("proxy stopped", lambda service, chance: service.stop(), lambda service: service.go_on(), of_service=True, lasts=(0.3, 2.0)),
    Fault("ejected", lambda service, chance: service.eject(chance), lambda service: service.restore(), of_service=True),
    Fault("reloaded", lambda service, chance: service.reload(chance), _nothing, of_service=True),
)

#: Faults of a proxy with replica sets.
REPLICA_FAULTS = (
    Fault("set off", lambda service, chance: service.switch_off(chance), lambda service: service.switch_on(), of_service=True),
    Fault("refilled", lambda service, chance: service.refill(chance), _nothing, of_service=True),
)

#: Faults of a proxy with several workers.
WORKER_FAULTS = (Fault("worker killed", lambda service, chance: service.kill_a_worker(chance), _nothing, of_service=True),)


class Driver:
    """Causes `faults` on `victims` (Nodes and NodeSets) and `service`. Each kind happens once before any kind is repeated. `events` lists the faults
    that are over.

    two_at_once   probability that a second victim fails before the first has recovered
    """

    def __init__(self, victims: list, faults: Sequence[Fault], seed: int | str, service=None, two_at_once: float = TWO_AT_ONCE) -> None:
        self.events = []
        self._victims = victims
        self._service = service
        self._faults = faults
        self._two_at_once = two_at_once
        self._next = []
        self._chance = random.Random(seed)

    def run(self, seconds: float) -> None:
        """Cause faults for `seconds`, and at least until every kind has happened once. All faults are over when it returns."""
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(self.events) < len(self._faults):
            self._rest(CALM_SHORTEST * TIMEOUT, CALM_LONGEST * TIMEOUT)
            first = self._chance.choice(self._victims)
            others = [victim for victim in self._victims if not any(node in first.nodes for node in victim.nodes)]
            self._fail([first, self._chance.choice(others)] if others and self._chance.random() < self._two_at_once else [first])

    def _fail(self, victims):
        """The victims fail one after the other, and recover in the reverse order."""
        if not victims:
            return
        victim, *others = victims
        fault = self._draw()
        if fault.of_service:
            victim, others = self._service, []
        begun = time.monotonic()
        failed = []
        try:
            for node in victim.nodes:
                fault.begin(node, self._chance)
                failed.append(node)
            if not others or self._chance.random() >= IN_THE_SAME_MOMENT:
                self._rest(*fault.lasts)
            self._fail(others)
        finally:
            for node in failed:
                fault.end(node)
            self.events.append(Event(fault.name, victim.name, begun, time.monotonic()))

    def _draw(self):
        if not self._next:
            self._next = self._chance.sample(self._faults, len(self._faults))
        return self._next.pop()

    def _rest(self, shortest, longest):
        time.sleep(self._chance.uniform(shortest, longest))
