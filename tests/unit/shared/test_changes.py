"""The notes of changes and fills, in every order in which two or three workers can begin and end them."""

import itertools

import pytest
from support.forked import Forked

from gmproxy.shared.changes import BACKUP_WORD, FILL_WORD, PRIMARY_WORD, ChangeNotes, slot_of
from gmproxy.shared.keys_in_flight import KeysInFlight, keys_left
from gmproxy.shared.memory import SLOTS, WORDS_PER_SLOT, SharedMemory

#: The slot of all keys (a C constant in gmproxy/shared/changes.py).
EVERY_KEY = SLOTS

KEY = b"k"


@pytest.fixture
def memory():
    return SharedMemory.create()


@pytest.fixture
def workers(memory):
    """The notes of three workers."""
    return [ChangeNotes(memory, column, KeysInFlight(memory.keys_of(column))) for column in memory.claim(3)]


def orders(counts):
    """Each order of two events, a begin and an end, for each change of each worker; the changes of one worker follow one another. `counts`: changes
    of each worker. Yields lists of workers: the first event of a worker is the begin of its first change, the second one its end ..."""
    return sorted(set(itertools.permutations([worker for worker, count in enumerate(counts) for _ in range(2 * count)])))


def play(workers, order, begin, end):
    """Returns, for each change: (worker, time of its begin, time of its end, result of `end`)."""
    open_notes, played = {}, []
    for now, number in enumerate(order):
        if number not in open_notes:
            open_notes[number] = begin(number, workers[number]), now
        else:
            note, since = open_notes.pop(number)
            played.append((number, since, now, end(number, workers[number], note)))
    assert not open_notes
    return played


def overlaps(change, played, words=(PRIMARY_WORD,) * 3):
    """True if a change of another worker was under way at the same time as `change`, unless only the backup is sent both. `words`: of the workers."""
    number, since, until, _ = change
    return any(
        other != number and begun < until and ended > since and PRIMARY_WORD in (words[number], words[other])
        for other, begun, ended, _ in played
    )


def end_change(number, notes, note):
    contested = notes.is_contested(note)
    notes.end_note(note)
    return contested


# -- changes


@pytest.mark.parametrize("counts", [(1, 1), (2, 2), (1, 1, 1), (1, 2, 1)], ids=str)
@pytest.mark.parametrize("word", [PRIMARY_WORD, BACKUP_WORD])
def test_a_change_is_contested_exactly_if_one_of_another_worker_overlaps_it(workers, counts, word):
    for order in orders(counts):
        played = play(workers, order, lambda number, notes: notes.begin_change(KEY, 1, word), end_change)
        assert [change[3] for change in played] == [overlaps(change, played, [word] * 3) for change in played], order


@pytest.mark.parametrize("words", list(itertools.product([PRIMARY_WORD, BACKUP_WORD], repeat=3)), ids=str)
def test_whichever_server_makes_the_change(workers, words):
    for order in orders((1, 1, 1)):
        played = play(workers, order, lambda number, notes: notes.begin_change(KEY, 1, words[number]), end_change)
        assert [change[3] for change in played] == [overlaps(change, played, words) for change in played], (words, order)


def test_of_changes_that_overlap_the_last_to_end_finds_it(workers):
    """So its delete arrives after all of them."""
    for order in orders((1, 1, 1)):
        played = play(workers, order, lambda number, notes: notes.begin_change(KEY, 1, PRIMARY_WORD), end_change)
        for change, other in itertools.permutations(played, 2):
            if other[1] < change[2] < other[2]:  # it overlaps one that ends later
                assert other[3]


def test_a_worker_that_is_alone_needs_not_wait_for_its_own_changes(memory):
    """They have one order on both servers."""
    (column,) = memory.claim()
    alone = ChangeNotes(memory, column, KeysInFlight(memory.keys_of(column)))
    alone.begin_change(KEY, 1, PRIMARY_WORD)
    assert not alone.are_under_way(KEY)
    memory.claim()
    assert alone.are_under_way(KEY), "another one may have changed it between"


def test_changes_of_one_worker_do_not_contest_each_other(workers):
    one, two = (workers[0].begin_change(KEY, 1, PRIMARY_WORD) for _ in range(2))
    assert not workers[0].is_contested(one) and not workers[0].is_contested(two)
    workers[0].end_note(two)
    assert not workers[0].is_contested(one)
    workers[0].end_note(one)


def keys_of_slots():
    """Two keys of one slot, and one of another."""
    keys = {}
    for number in itertools.count():
        key = b"%d" % number
        other = keys.setdefault(slot_of(key), key)
        if other != key:
            return key, other, next(stranger for slot, stranger in keys.items() if slot != slot_of(key))


def test_keys_of_one_slot_are_taken_for_one(workers):
    key, same, other = keys_of_slots()
    note = workers[0].begin_change(key, 1, PRIMARY_WORD)
    workers[1].begin_change(other, 1, PRIMARY_WORD)
    assert not workers[0].is_contested(note)
    assert workers[1].are_under_way(same) and workers[0].are_under_way(same, 0) and not workers[0].are_under_way(same, 1)
    workers[1].begin_change(same, 2, PRIMARY_WORD)
    assert workers[0].is_contested(note)


@pytest.mark.parametrize("word", [PRIMARY_WORD, BACKUP_WORD])
def test_who_sees_a_change(workers, word):
    """A change that only the backup makes cannot be missing there."""
    one, *others = workers
    note = one.begin_change(KEY, 1, word)
    assert [other.are_under_way(KEY) for other in others] == [word == PRIMARY_WORD] * 2
    assert one.are_under_way(KEY) == (word == PRIMARY_WORD) and not one.are_under_way(KEY, 1)
    one.end_note(note)
    assert not any(other.are_under_way(KEY) for other in workers)


# -- fills


FILL = -1


def begin_either(kinds):
    return lambda number, notes: notes.begin_fill(KEY, 1) if kinds[number] == FILL else notes.begin_change(KEY, 1, kinds[number])


@pytest.mark.parametrize("counts", [(1, 1), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("word", [PRIMARY_WORD, BACKUP_WORD])
def test_a_fill_is_valid_unless_a_change_overlaps_it(workers, counts, word):
    """At its end it is contested exactly then."""
    kinds = (FILL, word, word)
    for order in orders(counts):
        played = play(workers, order, begin_either(kinds), end_change)
        (fill,) = (change for change in played if change[0] == 0)
        assert fill[3] == overlaps(fill, played), order


def test_fills_do_not_contest_each_other_nor_changes(workers):
    for kinds in itertools.product((FILL, PRIMARY_WORD), repeat=2):
        if FILL not in kinds:
            continue
        for order in orders((1, 1)):
            for number, _, _, contested in play(workers, order, begin_either(kinds), end_change):
                assert not contested or kinds[number] == FILL and kinds[1 - number] == PRIMARY_WORD


def test_a_change_finds_a_fill_or_the_fill_finds_the_change(workers):
    """A change looks for fills and begins; a fill begins, looks for changes when its value has arrived, is sent, and ends. Unless all of a lookup is
    between the two steps of the change, which follow each other at once, no fill is sent while a change is under way that did not wait for it."""
    fills, changes = workers[0], workers[1]
    for places in itertools.combinations(range(6), 3):
        steps = {"fill": iter(("begin fill", "check", "end fill")), "change": iter(("look", "begin", "end"))}
        order = [next(steps["fill" if place in places else "change"]) for place in range(6)]
        for step in order:
            if step == "begin fill":
                fill = fills.begin_fill(KEY, 1)
            elif step == "check":
                is_void = fills.is_contested(fill)
            elif step == "end fill":
                fills.end_note(fill)
            elif step == "look":
                waits = changes.fills_are_elsewhere(KEY)
            elif step == "begin":
                change = changes.begin_change(KEY, 1, PRIMARY_WORD)
            else:
                changes.end_note(change)
        at = order.index
        assert waits == (at("begin fill") < at("look") < at("end fill")), order
        assert is_void == (at("begin fill") < at("end") and at("begin") < at("check")), order
        if not waits and not is_void:
            one_after_the_other = at("end") < at("begin fill") or at("end fill") < at("look")
            assert one_after_the_other or at("look") < at("begin fill") < at("check") < at("begin"), order


def test_who_sees_a_fill(workers):
    one, two, three = workers
    note = one.begin_fill(KEY, 1)
    _, _, other = keys_of_slots()
    assert two.fills_are_elsewhere(KEY) and two.any_fills_are_elsewhere()
    assert not two.fills_are_elsewhere(other) and not one.fills_are_elsewhere(KEY) and not one.any_fills_are_elsewhere()
    assert not two.are_under_way(KEY), "it changes nothing on the backup"
    second = three.begin_fill(other, 1)
    one.end_note(note)
    assert not two.fills_are_elsewhere(KEY) and two.any_fills_are_elsewhere() and two.fills_are_elsewhere(other)
    three.end_note(second)
    assert not two.any_fills_are_elsewhere()


# -- flush_all


def end_flush(number, notes, note):
    return notes.end_flush() if note is None else end_change(number, notes, note)


@pytest.mark.parametrize("kind", [FILL, PRIMARY_WORD, BACKUP_WORD])
def test_a_flush_contests_every_change_and_fill_that_it_overlaps(workers, kind):
    def begin(number, notes):
        return notes.begin_flush() if number == 1 else begin_either([kind] * 3)(number, notes)

    for order in orders((1, 1)):
        played = play(workers, order, begin, end_flush)
        (change,) = (change for change in played if change[0] == 0)
        assert change[3] == overlaps(change, played), order


def test_every_key_is_under_way_during_a_flush(workers):
    one, *others = workers
    one.begin_flush()
    assert not one.are_under_way(KEY) and all(other.are_under_way(KEY) and other.are_under_way(b"other") for other in others)
    one.begin_flush()
    one.end_flush()
    assert others[0].are_under_way(KEY)
    one.end_flush()
    assert not others[0].are_under_way(KEY)


# -- the words


def test_nothing_is_left(memory, workers):
    for counts in ((2, 2), (1, 1, 1)):
        for order in orders(counts):
            play(workers, order, begin_either((FILL, PRIMARY_WORD, BACKUP_WORD)), end_change)
    lower = (1 << 32) - 1
    words = range(3 * (SLOTS + 1) * WORDS_PER_SLOT)
    assert not any(memory.cells[word] & lower for word in words)
    assert sum(memory.cells[word] >> 32 for word in words) > 0
    assert all(not list(keys_left(memory.keys_of(column))) for column in range(3))


def test_numbers_that_overflow(memory, workers):
    """The number of begun changes starts again at 0; that of those under way is not touched."""
    at = slot_of(KEY) * WORDS_PER_SLOT + PRIMARY_WORD
    memory.cells[at] = ((1 << 32) - 1) << 32
    note = workers[1].begin_change(KEY, 1, PRIMARY_WORD)
    theirs = workers[0].begin_change(KEY, 1, PRIMARY_WORD)
    assert memory.cells[at] == 1
    assert workers[1].is_contested(note)
    workers[0].end_note(theirs)
    assert memory.cells[at] == 0
    note = workers[1].begin_change(KEY, 1, PRIMARY_WORD)
    workers[0].end_note(workers[0].begin_change(KEY, 1, PRIMARY_WORD))
    assert workers[1].is_contested(note) and memory.cells[at] == 1 << 32


def test_each_key_is_left_in_flight_with_its_pool(memory, workers):
    notes = [workers[0].begin_change(b"a", 7, PRIMARY_WORD), workers[0].begin_fill(b"b", 8), workers[0].begin_change(b"c", 9, BACKUP_WORD)]
    assert sorted(keys_left(memory.keys_of(0))) == [(7, b"a"), (8, b"b"), (9, b"c")]
    assert [note.word for note in notes] == [PRIMARY_WORD, FILL_WORD, BACKUP_WORD]
    for note in notes:
        workers[0].end_note(note)
    assert not list(keys_left(memory.keys_of(0)))


def test_a_process_that_is_killed_in_a_change(memory, workers):
    """Its changes hold until its column is freed."""
    (column,) = memory.claim()
    theirs = ChangeNotes(memory, column, KeysInFlight(memory.keys_of(column)))
    with Forked(
        begin=lambda: theirs.begin_change(KEY, 1, PRIMARY_WORD) and None, fill=lambda: theirs.begin_fill(b"f", 1) and None
    ) as process:
        process.call("begin")
        process.call("fill")
    assert workers[0].are_under_way(KEY) and workers[0].fills_are_elsewhere(b"f")
    note = workers[0].begin_change(KEY, 1, PRIMARY_WORD)
    memory.free(column)
    assert workers[0].is_contested(note) and not workers[0].are_under_way(KEY, 1) and not workers[0].any_fills_are_elsewhere()
    assert memory.cells[(EVERY_KEY + column * (SLOTS + 1)) * WORDS_PER_SLOT + FILL_WORD] == 1 << 32


class Journal:
    """`unwritten`: True if a pending invalidation is not in the file."""

    unwritten = False


def test_a_key_is_in_flight_until_the_journal_is_written(memory, workers):
    """The change may have ended with a pending invalidation: until that is in the journal, the key must be left here."""
    one = workers[0]
    one.journal = journal = Journal()

    def left():
        return sorted(key for _, key in keys_left(memory.keys_of(0)))

    one.end_note(one.begin_change(b"a", 1, PRIMARY_WORD))
    assert left() == []
    journal.unwritten = True
    one.end_note(one.begin_change(b"b", 1, PRIMARY_WORD))
    one.end_note(one.begin_fill(b"c", 1))
    assert left() == [b"b", b"c"] and not workers[1].are_under_way(b"b"), "only the keys stay"
    journal.unwritten = False
    one.journal_written()
    assert left() == []
    journal.unwritten = True
    one.end_note(one.begin_change(b"d", 1, PRIMARY_WORD))
    journal.unwritten = False
    one.end_note(one.begin_change(b"e", 1, PRIMARY_WORD))
    assert left() == [], "it was written without a word"
