"""Faults, and a seeded choice among them."""

import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from faults.damage import damages
from faults.stage import TIMEOUT

#: How long a fault lasts, and how long it is calm then, in timeouts of the proxy: some are over before anybody notices,
#: most last until the server is left alone and for some probes more.
SHORTEST, LONGEST = 0.5, 8
CALM_SHORTEST, CALM_LONGEST = 0.5, 3

#: How often a second server fails before the first has come back, if a scenario does not say.
TWO_AT_ONCE = 0.3

#: How often both begin to fail in the same moment: then requests that wait for both see one of them ejected before the other.
IN_THE_SAME_MOMENT = 0.5

#: Bytes of its answers that a wire lets through before it is cut.
TRUNCATED_AFTER = 20_000


class Fault(NamedTuple):
    """`begin(node, chance)` and `end(node)`; `chance` is a random.Random.

    of_service   it happens to the proxy: in place of a node it gets the Service
    lasts        seconds, at least and at most
    """

    name: str
    begin: Callable
    end: Callable
    of_service: bool = False
    lasts: tuple[float, float] = (SHORTEST * TIMEOUT, LONGEST * TIMEOUT)


class Event(NamedTuple):
    """A fault that was: time.monotonic() at both ends."""

    fault: str
    node: str
    begun: float
    ended: float


def _nothing(node):
    pass


def _mend(node):
    node.relay.pass_on()


STOPPED = Fault("stopped", lambda node, chance: node.server.pause(), lambda node: node.server.resume())

#: What happens to a server.
SERVER_FAULTS = (
    Fault("killed", lambda node, chance: node.server.kill(), lambda node: node.server.restart()),
    STOPPED,
    Fault("restarted", lambda node, chance: node.server.restart(), _nothing),
)

#: What happens to the wire to a server, which itself goes on.
WIRE_FAULTS = (
    Fault("held", lambda node, chance: node.relay.hold(), _mend),
    Fault("dropped", lambda node, chance: node.relay.drop(), _mend),
    Fault("delayed", lambda node, chance: node.relay.delay(chance.uniform(0, 1.5) * TIMEOUT), _mend),
    Fault("truncated", lambda node, chance: node.relay.truncate(chance.randrange(TRUNCATED_AFTER)), _mend),
    Fault("cut", lambda node, chance: node.relay.cut(), _nothing),
    Fault("refused", lambda node, chance: node.relay.refuse(), _mend),
    Fault("corrupted", lambda node, chance: node.relay.corrupt(damages(chance)), _mend),
)


#: What happens to the proxy itself. While it is stopped nothing else happens, or nobody could tell what did.
SERVICE_FAULTS = (
    Fault("proxy stopped", lambda service, chance: service.stop(), lambda service: service.go_on(), of_service=True, lasts=(0.3, 2.0)),
    Fault("ejected", lambda service, chance: service.eject(chance), lambda service: service.restore(), of_service=True),
    Fault("reloaded", lambda service, chance: service.reload(chance), _nothing, of_service=True),
)

#: ... and to one with several workers.
WORKER_FAULTS = (Fault("worker killed", lambda service, chance: service.kill_a_worker(chance), _nothing, of_service=True),)


class Driver:
    """Lets `faults` happen to `nodes` and `service`, each kind once before one of them comes again. `events` has those that are over.

    two_at_once   how often a second server fails before the first has come back
    """

    def __init__(self, nodes: list, faults: Sequence[Fault], seed: int | str, service=None, two_at_once: float = TWO_AT_ONCE) -> None:
        self.events = []
        self._nodes = nodes
        self._service = service
        self._faults = faults
        self._two_at_once = two_at_once
        self._next = []
        self._chance = random.Random(seed)

    def run(self, seconds: float) -> None:
        """Go on for so many seconds, and at least until every kind was there once. At the end nothing fails any longer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(self.events) < len(self._faults):
            self._rest(CALM_SHORTEST * TIMEOUT, CALM_LONGEST * TIMEOUT)
            count = 2 if len(self._nodes) > 1 and self._chance.random() < self._two_at_once else 1
            self._fail(self._chance.sample(self._nodes, count))

    def _fail(self, nodes):
        """One after the other begins to fail; the last to do so is the first to recover."""
        if not nodes:
            return
        node, *others = nodes
        fault = self._draw()
        if fault.of_service:
            node, others = self._service, []
        begun = time.monotonic()
        fault.begin(node, self._chance)
        try:
            if not others or self._chance.random() >= IN_THE_SAME_MOMENT:
                self._rest(*fault.lasts)
            self._fail(others)
        finally:
            fault.end(node)
            self.events.append(Event(fault.name, node.name, begun, time.monotonic()))

    def _draw(self):
        if not self._next:
            self._next = self._chance.sample(self._faults, len(self._faults))
        return self._next.pop()

    def _rest(self, shortest, longest):
        time.sleep(self._chance.uniform(shortest, longest))
