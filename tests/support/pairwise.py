"""A selection of combinations of options in which each pair of values of two options occurs."""

import random
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

#: Combinations that are tried for each that is selected. More find a smaller selection.
ATTEMPTS = 50


def all_pairs(options: Mapping[str, Sequence[Any]], seed: int = 1) -> list[dict[str, Any]]:
    """`options` has the values of each option, at least one. Returns {option: value}s in a fixed order, the ones with the most new pairs first.

    A greedy algorithm (that of AETG): each combination begins with a pair that is missing, and gives each further option the value with which
    the most missing pairs occur.
    """
    chance = random.Random(seed)
    missing = {
        frozenset(pair) for one, other in combinations(options, 2) for pair in product(_values(options, one), _values(options, other))
    }
    if len(options) == 1:
        return [{name: value} for name, value in _values(options, *options)]
    selected = []
    while missing:
        first = min(missing, key=lambda pair: sorted(map(repr, pair)))
        made = [_combination(options, first, missing, chance) for _ in range(ATTEMPTS)]
        best = max(made, key=lambda combination: len(_pairs_of(combination) & missing))
        missing -= _pairs_of(best)
        selected.append({name: best[name] for name in options})
    return selected


def _values(options, name):
    return [(name, value) for value in options[name]]


def _combination(options, first, missing, chance):
    made = dict(first)
    for name in chance.sample(list(options), len(options)):
        if name not in made:
            values = chance.sample(list(options[name]), len(options[name]))
            made[name] = max(values, key=lambda value: sum(frozenset([(name, value), pair]) in missing for pair in made.items()))
    return made


def _pairs_of(combination):
    return {frozenset(pair) for pair in combinations(combination.items(), 2)}
