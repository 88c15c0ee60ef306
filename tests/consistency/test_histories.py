"""What the loads on shared keys call stale, lost or repeated."""

import pytest
from faults import values
from faults.client import Item

from consistency.histories import (
    FINE,
    FORGET_EVERY,
    IMPOSSIBLE,
    LONGEST_REQUEST,
    LOST_INCREMENT,
    LOST_UPDATE,
    REFUSED,
    REPEATED,
    STALE,
    STALE_INCREMENT,
    CounterHistory,
    History,
)
from consistency.load import SharedLoad

KEY = b"k"


@pytest.fixture
def history():
    return History(KEY)


@pytest.fixture
def counter():
    return CounterHistory(KEY)


def write(history, sent, ended):
    number = history.next_number()
    history.acknowledged(sent, ended, number)
    return number


def test_value_is_stale_once_a_later_write_is_acknowledged(history):
    old, new = write(history, 1, 2), write(history, 3, 4)
    assert history.judge(old, history.floor) == STALE
    assert history.judge(new, history.floor) == FINE


def test_read_that_was_sent_before_the_later_write_was_acknowledged_may_return_either(history):
    old = write(history, 1, 2)
    floor = history.floor
    new = write(history, 3, 4)
    assert history.judge(old, floor) == history.judge(new, floor) == FINE


def test_of_writes_that_overlap_none_overwrites_the_other(history):
    numbers = [write(history, 1, 4), write(history, 3, 5)]
    assert [history.judge(number, history.floor) for number in numbers] == [FINE, FINE]


def test_value_is_stale_once_a_later_delete_is_acknowledged(history):
    old = write(history, 1, 2)
    history.acknowledged(3, 4)
    assert history.judge(old, history.floor) == STALE


def test_write_without_a_reply_may_be_read_until_a_later_one_is_acknowledged(history):
    lost = history.next_number()
    assert history.judge(lost, history.floor) == FINE
    history.unknown(lost, 2)
    assert history.judge(lost, history.floor) == FINE
    write(history, 3, 4)
    assert history.judge(lost, history.floor) == STALE


def test_refused_and_invented_values_are_never_right(history):
    refused = history.next_number()
    history.refused(refused, 2)
    assert history.judge(refused, history.floor) == REFUSED
    assert history.judge(refused + 1, history.floor) == IMPOSSIBLE


def test_each_value_is_replaced_by_one_cas_at_most(history):
    assert [history.replaced(value) for value in (b"a", b"b", b"a")] == [FINE, FINE, LOST_UPDATE]


def test_what_was_overwritten_long_ago_is_forgotten_and_still_stale(history):
    old = write(history, 1, 2)
    for _ in range(FORGET_EVERY):
        new = write(history, LONGEST_REQUEST + 3, LONGEST_REQUEST + 4)
    assert history.judge(old, history.floor) == STALE
    assert history.judge(new, history.floor) == FINE
    assert old not in history._ended


class TestCounter:
    @pytest.fixture
    def value(self, counter):
        """The value of the counter's first incarnation."""
        return counter.first_value(write(counter, 1, 2))

    def test_results_increase(self, counter, value):
        for count in (1, 2, 4):  # the reply with 3 was lost
            assert counter.judge_count(value + count, counter.floor, counter.known(), True) == FINE

    def test_same_result_twice_is_a_lost_increment(self, counter, value):
        before = counter.known()
        assert counter.judge_count(value + 1, counter.floor, before, True) == FINE
        assert counter.judge_count(value + 1, counter.floor, before, True) == LOST_INCREMENT

    def test_increments_at_the_same_time_may_be_executed_in_either_order(self, counter, value):
        before = counter.known()
        assert [counter.judge_count(value + count, counter.floor, before, True) for count in (2, 1)] == [FINE, FINE]

    def test_result_that_does_not_exceed_what_was_known_is_a_lost_increment(self, counter, value):
        counter.judge_count(value + 7, counter.floor, counter.known(), True)
        assert counter.judge_count(value + 6, counter.floor, counter.known(), True) == LOST_INCREMENT
        assert counter.judge_count(value + 6, counter.floor, counter.known(), False) == LOST_INCREMENT
        assert counter.judge_count(value + 7, counter.floor, counter.known(), False) == FINE

    def test_overwritten_incarnation_is_neither_read_nor_counted(self, counter, value):
        write(counter, 3, 4)
        assert counter.judge_count(value + 1, counter.floor, counter.known(), True) == STALE_INCREMENT
        assert counter.judge_count(value + 1, counter.floor, counter.known(), False) == STALE


def test_append_that_was_executed_twice_is_found():
    with SharedLoad(0, keys=1, counters=0, clients=0) as load:
        (history,) = load.histories.values()
        number = write(history, 1, 2)
        for appended, verdicts in ((b"a|b|", {}), (b"a|b|a|", {REPEATED: 1})):
            data = values.compose(history.key, number) + b"|" + appended
            load._reader.retrieval([history.key]).take([Item(history.key, data, 1)], 3, 4)
            assert load.results.violations == verdicts
