"""Explores pairs of classes of commands: a client for each."""

import itertools
from collections.abc import Iterable

from model.clients import script_of
from model.explorer import Exploration, Violation, explore
from model.service import ALL_SERVICES, NO_FAILURE, Failure
from model.world import World


def explore_classes(service: str, classes: Iterable[str], failure: Failure = NO_FAILURE, **options: bool) -> Exploration:
    """Explore `classes`: a client for each."""
    judged: set[object] = set()
    names = list(classes)

    def make_world() -> World:
        return World(ALL_SERVICES[service], [script_of(name, client) for client, name in enumerate(names, 1)], failure, judged)

    return explore(make_world, **options)


def explore_pair(service: str, one: str, other: str, failure: Failure = NO_FAILURE, **options: bool) -> Exploration:
    return explore_classes(service, (one, other), failure, **options)


def check_pairs(service: str, pairs: Iterable[tuple[str, ...]], failure: Failure = NO_FAILURE) -> None:
    """Explore each pair of classes, or more than two, and print the number of paths."""
    paths = count = 0
    violations = []
    for classes in pairs:
        exploration = explore_classes(service, classes, failure)
        count += 1
        paths += exploration.paths
        if exploration.found:
            violations.append(f"{' | '.join(classes)}: {exploration.found}")
    print(f"{service}, {', '.join(failure.kinds) or 'no failure'} {failure.servers}: {count} pairs, {paths} paths")
    assert not violations, "\n\n".join(violations)
    assert paths >= count


def pairs_of(classes: Iterable[str]) -> list[tuple[str, str]]:
    """All pairs, without order, and each class with itself: both clients are equal."""
    return list(itertools.combinations_with_replacement(classes, 2))


def violation_after(service: str, classes: Iterable[str], failure: Failure, path: Iterable[str]) -> str | None:
    """What is wrong after the events of `path`, which begin as given, and all other events in some order; None: nothing."""
    scripts = [script_of(name, client) for client, name in enumerate(classes, 1)]
    with World(ALL_SERVICES[service], scripts, failure, set()) as world:
        try:
            for beginning in path:
                (event,) = [event for event in world.enabled() if event.startswith(beginning)]
                world.happen(event)
            world.run_to_the_end()
            world.finish()
        except Violation as error:
            return str(error)
    return None
