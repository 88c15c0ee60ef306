"""Tries every order of events: depth first. Each path runs from the start, because the state of the tested program cannot be copied.

A *world* contains the tested program. Each path has a new one. It lists the events that may happen next, and executes them:

    with make_world() as world:
        world.enabled() -> list of str            the events that may happen next, a line of text each; none: the path ends
        world.happen(event) -> Touched            execute one of them; returns the names of what it touched
        world.finish()                            the path has ended: judge it

`happen` and `finish` raise Violation for a wrong state or reply. The same events in the same order must always have the same effect.

Two events are *independent* if neither changes what the other changes or depends on: both orders have the same outcome, and one order is enough.
So the search keeps, for each point of the path, the events that need not be next: all paths that continue with them have been tried, and
only events that are independent of them have happened since. This is a sleep set (Godefroid, "Partial-Order Methods for the Verification of
Concurrent Systems", 1996). No outcome is lost if the world reports completely what an event touches.
"""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple


class Violation(AssertionError):
    """A path has led to a wrong state or reply."""


class Touched(NamedTuple):
    """
    changed     what an event has changed
    depends_on  what its effect depends on, besides
    """

    changed: frozenset[str]
    depends_on: frozenset[str] = frozenset()

    def is_independent_of(self, other: "Touched") -> bool:
        return (
            self.changed.isdisjoint(other.changed)
            and self.changed.isdisjoint(other.depends_on)
            and self.depends_on.isdisjoint(other.changed)
        )


class Found(NamedTuple):
    """A path that leads to a violation."""

    path: list[str]
    violation: str

    def __str__(self) -> str:
        steps = "\n".join(f"  {number:2}. {event}" for number, event in enumerate(self.path, 1))
        return f"{self.violation}\nafter\n{steps}"


class Exploration(NamedTuple):
    """
    paths    the number of paths that ran to their end
    found    the shortest path to a violation, or None
    """

    paths: int
    found: Found | None


class _Branch:
    """A point of the current path.

    event     the event that happens next here; None if all have been tried
    touched   what it touched; None before it has happened, and if it led to a violation
    asleep    {event: what it touches} of the events that need not happen next
    """

    def __init__(self, events: list[str], asleep: dict[str, Touched]) -> None:
        self.asleep = asleep
        self.touched: Touched | None = None
        self._left = [event for event in reversed(events) if event not in asleep]
        self.event = self._left.pop() if self._left else None

    def advance(self) -> bool:
        """Select the next event. Returns False if there is none."""
        if self.touched is not None:
            self.asleep = {**self.asleep, self.event: self.touched}
            self.touched = None
        self.event = self._left.pop() if self._left else None
        return self.event is not None

    def asleep_after(self) -> dict[str, Touched]:
        """The events that need not happen directly after `event` either."""
        return {other: touched for other, touched in self.asleep.items() if touched.is_independent_of(self.touched)}


def explore(make_world: Callable[[], Any], reduced: bool = True, until_found: bool = False) -> Exploration:
    """Try all paths of the worlds that `make_world` makes. Without `reduced`, treat all events as dependent. With `until_found`, stop at the first
    violation, which need not have the shortest path."""
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
                        break  # all paths that continue from here have been tried
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


def explore_randomly(make_world: Callable[[], Any], paths: int, chance: Random) -> Exploration:
    """As `explore`, `paths` random paths: for worlds that have too many. Stops at the first violation."""
    for number in range(paths):
        path: list[str] = []
        with make_world() as world:
            try:
                while events := world.enabled():
                    path.append(chance.choice(events))
                    world.happen(path[-1])
                world.finish()
            except Violation as error:
                return Exploration(number + 1, Found(path, str(error)))
    return Exploration(paths, None)
