"""The verdicts of the fault suite: which replies it accepts, and which it reports as stale, lost, refused or impossible."""

import pytest

from faults import values
from faults.model import FINE, IMPOSSIBLE, LOST, REFUSED, STALE, Ledger


@pytest.fixture
def ledger():
    return Ledger(b"key")


def found(ledger, number):
    """The verdict on a read that is sent now and finds `number`."""
    return ledger.judge(number, ledger.floor)


def acknowledge(ledger):
    """Acknowledge one more write, and return its number."""
    number = ledger.next_number()
    ledger.acknowledged(number)
    return number


def test_what_nobody_wrote_is_impossible(ledger):
    assert found(ledger, 1) == IMPOSSIBLE
    acknowledge(ledger)
    assert found(ledger, 2) == IMPOSSIBLE
    assert found(ledger, 0) == IMPOSSIBLE
    assert found(ledger, -5) == IMPOSSIBLE


def test_the_last_acknowledged_write_is_fine_and_all_before_it_is_stale(ledger):
    first, second = acknowledge(ledger), acknowledge(ledger)
    assert found(ledger, second) == FINE
    assert found(ledger, first) == STALE


def test_a_write_that_failed_may_have_happened_or_not(ledger):
    acknowledged = acknowledge(ledger)
    failed = ledger.next_number()
    assert found(ledger, acknowledged) == FINE
    assert found(ledger, failed) == FINE


def test_of_several_failed_writes_each_may_be_seen_in_any_order(ledger):
    acknowledge(ledger)
    first, second = ledger.next_number(), ledger.next_number()
    assert [found(ledger, number) for number in (second, first, second)] == [FINE, FINE, FINE]


def test_a_failed_write_never_comes_back_after_a_newer_one_was_acknowledged(ledger):
    failed = ledger.next_number()
    assert found(ledger, failed) == FINE
    acknowledge(ledger)
    assert found(ledger, failed) == STALE


def test_nothing_older_than_an_acknowledged_delete_is_seen_again(ledger):
    written = acknowledge(ledger)
    deleted = ledger.next_delete()
    assert found(ledger, written) == FINE  # a delete that was not acknowledged may not have been executed
    ledger.acknowledged(deleted)
    assert found(ledger, written) == STALE
    assert found(ledger, acknowledge(ledger)) == FINE


def test_the_number_of_a_delete_belongs_to_no_value(ledger):
    assert found(ledger, ledger.next_delete()) == REFUSED


def test_a_refused_write_is_never_seen_and_what_was_there_stays(ledger):
    written = acknowledge(ledger)
    refused = ledger.next_number()
    ledger.refused(refused)
    assert found(ledger, refused) == REFUSED
    assert found(ledger, written) == FINE


def test_a_read_is_judged_by_what_was_acknowledged_when_it_was_sent(ledger):
    old = acknowledge(ledger)
    floor = ledger.floor  # the read is sent
    new = acknowledge(ledger)
    assert ledger.judge(old, floor) == FINE
    assert ledger.judge(new, floor) == FINE
    assert ledger.judge(old, ledger.floor) == STALE  # a read that is sent later


class TestCounters:
    """The value of a counter is the number of its last write."""

    def test_counts(self, ledger):
        acknowledge(ledger)
        ledger.next_number()
        assert ledger.counted(2) == FINE
        assert found(ledger, 2) == FINE
        assert found(ledger, 1) == STALE

    def test_an_incr_that_failed_may_count_or_not(self, ledger):
        acknowledge(ledger)
        ledger.next_number()  # its reply was an error
        ledger.next_number()
        assert ledger.counted(2) == FINE  # the first incr was not executed
        ledger.next_number()
        assert ledger.counted(4) == FINE  # or it was executed later

    def test_more_than_was_asked_for_is_impossible(self, ledger):
        acknowledge(ledger)
        ledger.next_number()
        assert ledger.counted(3) == IMPOSSIBLE
        assert ledger.floor == 1

    def test_counting_from_an_old_value_is_stale(self, ledger):
        for _ in range(5):
            acknowledge(ledger)
        ledger.next_number()
        assert ledger.counted(3) == STALE


class TestLists:
    """A list is appended to: it contains the numbers of all its writes."""

    @pytest.fixture
    def began(self, ledger):
        ledger.began(ledger.next_number())
        return ledger

    def append(self, ledger):
        number = ledger.next_number()
        ledger.appended(number)
        return number

    def test_what_was_appended_is_there_in_its_order(self, began):
        second, third = self.append(began), self.append(began)
        assert began.judge_list([1, second, third], began.floor) == FINE
        assert began.judge_list([1, second], began.floor) == STALE
        assert began.judge_list([1, third], began.floor) == LOST
        assert began.judge_list([1, third, second], third - 1) == LOST
        assert began.judge_list([third], began.floor) == FINE, "it may have been begun by that"

    def test_an_append_that_failed_may_be_there_or_not(self, began):
        failed = began.next_number()
        last = self.append(began)
        assert began.judge_list([1, last], began.floor) == FINE
        assert began.judge_list([1, failed, last], began.floor) == FINE

    def test_a_refused_append_is_nowhere(self, began):
        refused = began.next_number()
        began.refused(refused)
        last = self.append(began)
        assert began.judge_list([1, refused, last], began.floor) == REFUSED

    def test_nothing_is_appended_to_what_was_there_before_a_set_or_a_delete(self, began):
        began.began(began.next_delete())
        last = self.append(began)
        assert began.judge_list([1, last], began.floor) == LOST


class TestHistory:
    def test_tells_who_asked_what_and_when(self, ledger):
        ledger.record(1.5, "client 1", "set number 1", "STORED")
        (operation,) = ledger.operations
        assert operation[0] == 1.5 and operation[2:] == ("client 1", "set number 1", "STORED")

    def test_is_bounded(self, ledger):
        for number in range(1000):
            ledger.record(0.0, "client 1", f"get {number}", "nothing")
        assert len(ledger.operations) < 100
        assert ledger.operations[-1].what == "get 999"


class TestValues:
    @pytest.mark.parametrize("size", [0, 1, 30, 100, 100_000])
    def test_say_whose_they_are(self, size):
        data = values.compose(b"some-key", 17, size)
        assert values.read(data) == (b"some-key", 17)
        assert len(data) == max(size, len(values.compose(b"some-key", 17)))

    def test_damage_anywhere_is_seen(self):
        data = values.compose(b"some-key", 17, 50)
        for at in range(len(data)):
            assert values.read(data[:at] + b"#" + data[at + 1 :]) is None
            assert values.read(data[:at]) is None
            assert values.read(data[:at] + b"#" + data[at:]) is None

    def test_a_list(self):
        data = values.begin_list(b"some-key", 3) + values.list_element(5) + values.list_element(12)
        assert values.read_list(data) == (b"some-key", [3, 5, 12])

    @pytest.mark.parametrize("data", [b"", b"some-key", b"some-key|", b"some-key|3", b"some-key|3|x|", b"some-key|3||"])
    def test_no_list(self, data):
        assert values.read_list(data) is None

    @pytest.mark.parametrize("step", [1, -1])
    def test_a_counter_knows_its_own_values(self, step):
        counter = values.Counter(3, step)
        data = b"%d" % counter.value_of(17)
        assert counter.number_in(data) == 17
        assert values.Counter(4, step).number_in(data) is None
        assert counter.number_in(b"x") is None
        assert int(data) + step == counter.value_of(18)
