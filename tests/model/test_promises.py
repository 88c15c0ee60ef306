"""Which values count as stale."""

import pytest

from model.promises import ERROR, HIT, MISS, Operation, excuse, explain, stays_resurrected

INITIAL = b"7"


def operation(kind, began, ended, argument=b"", outcome=HIT, found=None, client=1, turn=None, expected=None):
    return Operation(kind, argument, expected, outcome, found, began, ended, client, began if turn is None else turn)


def write(began, ended, value, outcome=HIT, client=1):
    return operation("set", began, ended, value, outcome, client=client)


def read(began, ended, found, client=2):
    return operation("read", began, ended, found=found, client=client)


@pytest.mark.parametrize(
    "history, is_fine",
    [
        # one after the other
        ([write(1, 2, b"1"), read(3, 4, b"1")], True),
        ([write(1, 2, b"1"), read(3, 4, INITIAL)], False),
        ([operation("delete", 1, 2), read(3, 4, INITIAL)], False),
        ([operation("delete", 1, 2, outcome=MISS), read(3, 4, INITIAL)], False),
        # at the same time: either value, but not first the new one and then the old one
        ([write(1, 3, b"1"), read(2, 4, INITIAL)], True),
        ([write(1, 6, b"1"), read(2, 3, b"1"), read(4, 5, INITIAL)], False),
        ([write(1, 3, b"1"), write(2, 4, b"2", client=3), read(5, 6, b"1")], True),
        ([write(1, 3, b"1"), write(2, 4, b"2", client=3), read(5, 6, b"1"), read(7, 8, b"2")], False),
        # a write with an error may be executed later, but not after another write was acknowledged
        ([write(1, 2, b"1", ERROR), read(3, 4, INITIAL), read(5, 6, b"1")], True),
        ([write(1, 2, b"1", ERROR), write(3, 4, b"2"), read(5, 6, b"1")], False),
        ([write(1, 5, b"1", ERROR), write(3, 4, b"2", client=3), read(6, 7, b"1")], True),
        # writes that depend on the previous value
        ([operation("append", 1, 2, b"1"), read(3, 4, b"71")], True),
        ([operation("count", 1, 2, b"10", found=b"17"), read(3, 4, b"17")], True),
        ([write(1, 2, b"1"), operation("count", 3, 4, b"10", found=b"17")], False),
        ([operation("append", 1, 2, b"1"), read(3, 4, b"711")], False),
        ([operation("delete", 1, 2), operation("add", 3, 4, b"1", outcome=MISS)], False),
        # a cas never overwrites a value that its client has not read
        ([operation("cas", 1, 2, b"1", expected=INITIAL), read(3, 4, b"1")], True),
        ([write(1, 2, b"1"), operation("cas", 3, 4, b"2", expected=INITIAL, client=2)], False),
        # commands that one client sends at once are executed in order
        ([operation("set", 1, 2, b"1", turn=1), operation("read", 1, 2, found=INITIAL, turn=2)], False),
    ],
)
def test_what_explains_a_history(history, is_fine):
    assert explain(tuple(history), INITIAL) == is_fine


def test_the_number_of_an_incr_beside_a_cas_is_excused_and_nothing_else():
    incr = operation("count", 2, 4, b"10", found=b"17")
    cas = operation("cas", 1, 3, b"1", expected=INITIAL, client=2)
    assert not explain((incr, cas), INITIAL)
    assert explain(excuse((incr, cas)), INITIAL)
    assert not explain(excuse((incr, cas, read(5, 6, b"17", client=3))), INITIAL)
    later = cas._replace(began=5, ended=6)
    assert excuse((incr, later)) == (incr, later)


@pytest.mark.parametrize(
    "history, found, is_resurrected",
    [
        ([operation("delete", 1, 2)], INITIAL, True),
        ([write(1, 2, b"1")], INITIAL, True),
        ([write(1, 2, b"1")], b"1", False),
        # while a fill is verified, a read may find the deleted value; what matters is the end
        ([operation("delete", 1, 2), read(3, 4, INITIAL)], INITIAL, True),
        # two writers at the same time: either value; one after the other: the second one
        ([write(1, 3, b"1"), write(2, 4, b"2", client=2)], b"1", False),
        ([write(1, 2, b"1"), write(3, 4, b"2", client=2)], b"1", True),
        ([write(1, 3, b"1"), operation("delete", 2, 4, client=2)], b"1", False),
        ([write(1, 3, b"1"), operation("delete", 2, 4, client=2)], INITIAL, True),
        # an incr is counted once, and any value is allowed beside another writer
        ([operation("count", 1, 2, b"10", found=b"17")], b"27", True),
        ([operation("count", 1, 3, b"10", found=b"17"), operation("delete", 2, 4, client=2)], b"17", False),
    ],
)
def test_what_stays_resurrected_with_two_proxies(history, found, is_resurrected):
    assert stays_resurrected(tuple(history), read(90, 91, found, client=9), INITIAL) == is_resurrected
