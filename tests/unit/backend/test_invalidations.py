"""The keys of writes that a server missed: each is kept until it is deleted there."""

from weakref import WeakSet

import pytest

from gmproxy.backend import key_set
from gmproxy.backend.invalidations import FEW, PendingInvalidations
from gmproxy.backend.key_set import KeySet

NOW = 100.0
LIMIT = 5


@pytest.fixture
def journal():
    return PendingInvalidations(LIMIT)


def test_empty(journal):
    assert not journal
    assert len(journal) == 0
    assert b"a" not in journal


def test_a_key_is_kept_once_with_the_time_of_the_last_entry(journal):
    assert journal.note(b"a", NOW) is False
    assert journal.note(b"a", NOW + 1) is False
    assert b"a" in journal and b"b" not in journal
    assert (bool(journal), len(journal), journal.last_at) == (True, 1, NOW + 1)


def test_what_is_being_deleted_is_in_it_until_that_is_done(journal):
    for key in (b"a", b"b", b"c"):
        journal.note(key, NOW)
    taken = journal.take(2)
    assert len(taken) == 2
    assert len(journal) == 3
    assert all(key in journal for key in (b"a", b"b", b"c"))
    journal.deleted()
    assert len(journal) == 1
    assert not any(key in journal for key in taken)


def test_what_changes_while_it_is_being_deleted_has_to_be_deleted_again(journal):
    journal.note(b"a", NOW)
    journal.take(10)
    journal.note(b"a", NOW)
    journal.deleted()
    assert b"a" in journal
    assert journal.take(10) == {b"a"}


def test_what_could_not_be_deleted_stays(journal):
    journal.note(b"a", NOW)
    journal.take(10)
    journal.not_deleted()
    assert journal.take(10) == {b"a"}


def test_one_too_many(journal):
    assert [journal.note(b"%d" % number, NOW) for number in range(LIMIT + 1)] == [False] * LIMIT + [True]
    assert journal.overflowed
    assert b"any other" in journal
    assert len(journal) == 0
    assert journal.note(b"a", NOW) is False


def test_while_it_is_flushed_nothing_is_served(journal):
    journal.note_everything(NOW)
    journal.take_everything()
    assert journal and b"a" in journal
    journal.note(b"b", NOW)
    journal.deleted()
    assert b"a" not in journal and b"b" in journal


def test_a_flush_that_fails_is_still_due(journal):
    journal.note_everything(NOW)
    journal.take_everything()
    journal.not_deleted()
    assert journal.overflowed


def test_a_new_memory_needs_nothing(journal):
    journal.note(b"a", NOW)
    journal.note_everything(NOW)
    journal.clear()
    assert not journal


def many(count, name):
    keys = KeySet()
    for number in range(count):
        keys.add(b"%b%d" % (name, number))
    return keys


@pytest.mark.parametrize("count", [3, FEW, 2 * FEW])
def test_keys_that_come_together(count):
    journal = PendingInvalidations(10 * FEW)
    journal.note(b"a", NOW)
    assert journal.note_all(many(count, b"guest"), NOW + 1) is False
    assert journal and len(journal) == count + 1 and journal.last_at == NOW + 1
    assert all(key in journal for key in [b"a", *many(count, b"guest")])
    taken = set()
    while taking := journal.take(100):
        taken |= taking
        journal.deleted()
    assert taken == {b"a", *many(count, b"guest")} and not journal


@pytest.mark.parametrize("count", [3, 2 * FEW])
def test_too_many_that_come_together(count):
    journal = PendingInvalidations(count - 1)
    assert journal.note_all(many(count, b"guest"), NOW) is True
    assert journal.overflowed and len(journal) == 0
    assert journal.note_all(many(count, b"guest"), NOW) is False


def test_what_comes_together_and_was_noted_before():
    journal = PendingInvalidations(10 * FEW)
    journal.note(b"guest1", NOW)
    journal.note_all(many(2 * FEW, b"guest"), NOW)
    found = 0
    while journal:
        assert b"guest1" in journal or found
        found += b"guest1" in journal.take(500)
        journal.deleted()
    assert found == 2, "deleted once too often is no harm"


class Key(str):
    """A key of which a weak reference shows whether it still exists."""


def test_what_is_thrown_away_is_freed_bit_by_bit(monkeypatch):
    monkeypatch.setattr(key_set, "crc32", hash)  # a Key is no bytes: only a str can have weak references
    limit = 10_000
    journal = PendingInvalidations(limit)
    noted = WeakSet()
    for number in range(limit + 1):
        key = Key(number)
        noted.add(key)
        journal.note(key, NOW)
    del key
    assert journal.overflowed and len(noted) == limit + 1
    journal.sweep(limit // 4)
    assert len(noted) == limit + 1 - limit // 4
    journal.clear()
    for number in range(limit // 2):
        journal.note(b"another-%d" % number, NOW)
    assert len(noted) == 0, "what comes pushes out what is of no use"
    journal.sweep(1)
    assert len(journal) == limit // 2


def test_since_when_there_has_been_one(journal):
    assert journal.since == 0.0
    journal.note(b"a", NOW)
    journal.note(b"b", NOW + 1)
    assert journal.since == NOW
    journal.take(1)
    journal.deleted()
    assert journal.since == NOW, "another one is left"
    journal.take(1)
    journal.deleted()
    assert journal.since == 0.0
    journal.note_everything(NOW + 2)
    journal.take_everything()
    assert journal.since == NOW + 2
    journal.deleted()
    assert journal.since == 0.0
