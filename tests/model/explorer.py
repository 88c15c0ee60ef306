"""Tries every order in which events can happen: depth first, each order from the start, since what is tested cannot be copied.

A *world* is whatever is tested, made anew for each path. It says which events may happen next, and makes them happen:

    with make_world() as world:
        world.enabled() -> list of str          what may happen next, as one line of a path each; none: the path ends
        world.happen(event) -> frozenset of str   one of these happens; returns names of whatever it touched
        world.finish()                          the path has ended: judge it

`happen` and `finish` raise Violation for what must not be. A world must do the same whenever the same events happen in the same order.

Two events are *independent* if they touch nothing in common: in whichever order they happen, the same comes of it, and one order is
enough. So the search keeps, on its way down, the events that need not be next: all paths that begin with them have been gone,
and nothing that they touch was touched since. This is a sleep set (Godefroid, "Partial-Order Methods for the Verification of
Concurrent Systems", 1996). No outcome is lost by that, if the worlds say truly what an event touches: whatever it changes, and
whatever its effect depends on.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Violation(AssertionError):
    """What no path may lead to."""


class Found(NamedTuple):
    """A path that leads to a violation."""

    path: list[str]
    violation: str

    def __str__(self) -> str:
        steps = "\n".join(f"  {number:2}. {event}" for number, event in enumerate(self.path, 1))
        return f"{self.violation}\nafter\n{steps}"


class Exploration(NamedTuple):
    """
    paths    that were gone to their end
    found    the shortest one that leads to a violation, or None
    """

    paths: int
    found: Found | None


class _Branch:
    """A point of the path that is being gone.

    event     that happens next there; None: all that may happen was seen
    touched   what it touched; None before it has happened, and if it was a violation
    asleep    {event: what it touches} of those that need not happen next
    """

    def __init__(self, events: list[str], asleep: dict[str, frozenset[str]]) -> None:
        self.asleep = asleep
        self.touched: frozenset[str] | None = None
        self._left = [event for event in reversed(events) if event not in asleep]
        self.event = self._left.pop() if self._left else None

    def advance(self) -> bool:
        """Go on to the next event. False if there is none."""
        if self.touched is not None:
            self.asleep = {**self.asleep, self.event: self.touched}
            self.touched = None
        self.event = self._left.pop() if self._left else None
        return self.event is not None

    def asleep_after(self) -> dict[str, frozenset[str]]:
        """Those that need not happen after `event` either."""
        return {other: touched for other, touched in self.asleep.items() if touched.isdisjoint(self.touched)}


def explore(make_world: Callable[[], Any], reduced: bool = True, until_found: bool = False) -> Exploration:
    """Go all paths of the worlds that `make_world` makes. Not `reduced`: take no events for independent. `until_found`: or until the first
    violation, which need not be the shortest."""
    branches: list[_Branch] = []
    paths = 0
    shortest: Found | None = None
    while True:
        violation = None
        with make_world() as world:
            try:
                for branch in branches:
                    branch.touched = world.happen(branch.event)
                while events := world.enabled():
                    branches.append(_Branch(events, branches[-1].asleep_after() if reduced and branches else {}))
                    if branches[-1].event is None:
                        break  # wherever this leads, the search has been
                    branches[-1].touched = world.happen(branches[-1].event)
                else:
                    paths += 1
                    world.finish()
            except Violation as error:
                violation = str(error)
        if violation is not None and (shortest is None or len(branches) < len(shortest.path)):
            shortest = Found([str(branch.event) for branch in branches], violation)
        while branches and not branches[-1].advance():
            branches.pop()
        if not branches or (shortest is not None and until_found):
            return Exploration(paths, shortest)
