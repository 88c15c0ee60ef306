"""What one process has in the shared memory and in the journal, and what it leaves when it ends, however it ends."""

import os

import pytest
from support.forked import Forked

from gmproxy.errors import StartError
from gmproxy.shared import memory as memory_module
from gmproxy.shared.changes import PRIMARY_WORD
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.invalidation_marks import NOTHING, PRIMARY, SOME, part_of, server_name
from gmproxy.shared.journal_directory import JournalDirectory
from gmproxy.shared.keys_in_flight import keys_left
from gmproxy.shared.memory import MIN_COLUMNS, SharedMemory

SERVER = server_name("", PRIMARY, "a:1")


@pytest.fixture
def memory():
    return SharedMemory.create()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


@pytest.fixture
def directory(path):
    directory = JournalDirectory(str(path))
    yield directory
    directory.close()


def names(path):
    return sorted(set(os.listdir(path)) - {"lock"})


def keys_of(left):
    return sorted(key for keys in left.keys_in_flight for _, key in keys_left(keys))


def adopted(memory, directory=None):
    """A column of this process, and the columns whose processes have ended."""
    column = SharedColumn(memory, directory)
    return column, memory.take_orphans()


def test_each_has_a_column_and_sees_the_marks_of_the_others(memory):
    one, other = SharedColumn(memory), SharedColumn(memory)
    assert (one.number, other.number, one.journal) == (0, 1, None)
    one.marks_of(SERVER).add_part(part_of(b"k"))
    assert other.marks_of(SERVER).others_have(b"k") and not one.marks_of(SERVER).others_have(b"k")
    one.ejections_of(SERVER).publish(True)
    assert other.ejections_of(SERVER).follow() is True
    one.notes.begin_change(b"k", 1, PRIMARY_WORD)
    assert other.notes.are_under_way(b"k")


def test_servers_for_which_there_is_no_row(memory, monkeypatch):
    monkeypatch.setattr(memory_module, "MAX_ROWS", 1)
    column = SharedColumn(memory)
    assert column.marks_of("a") is not None and column.ejections_of("a") is not None
    assert column.marks_of("b") is column.ejections_of("b") is None


def test_no_column_is_free(memory):
    memory.claim(MIN_COLUMNS)
    with pytest.raises(StartError, match="too many workers"):
        SharedColumn(memory)


def test_a_process_that_ends_with_nothing_pending_leaves_nothing(memory):
    with Forked(live=lambda: live(SharedColumn(memory))) as process:
        process.call("live")
        process.kill()
    column, orphans = adopted(memory)
    assert orphans == [0] and keys_of(column.left_by(0)) == []
    column.forget(0)
    settled = SharedColumn(memory)
    settled.release(True)
    assert memory.take_orphans() == []
    assert memory.claim() == [settled.number]


def live(column):
    """A change of a key that is over."""
    column.notes.end_note(column.notes.begin_change(b"k", 1, PRIMARY_WORD))
    KEPT.append(column)


#: What a forked process has: its locks end with it.
KEPT = []


@pytest.mark.parametrize("is_settled", [True, False])
@pytest.mark.parametrize("is_busy", [True, False])
def test_a_process_that_ends_with_something_left(memory, is_settled, is_busy):
    leaver = SharedColumn(memory)
    note = leaver.notes.begin_change(b"k", 1, PRIMARY_WORD)
    if not is_busy:
        leaver.notes.end_note(note)
    leaver.release(is_settled)
    column, orphans = adopted(memory)
    assert orphans == ([] if is_settled and not is_busy else [leaver.number])
    for number in orphans:
        left = column.left_by(number)
        assert left.pending is None and keys_of(left) == [b"k"] * is_busy
        column.forget(number)
    assert not column.notes.are_under_way(b"k") and memory.take_orphans() == []


# -- with a journal


def begin(memory, directory, journalled=b"pending"):
    """A process that has one key pending, and one in flight."""
    column = SharedColumn(memory, directory)
    column.journal.declare([SERVER.encode()])
    column.marks_of(SERVER).add_part(part_of(journalled))
    column.journal.note(SERVER.encode(), journalled)
    column.journal.write()
    column.notes.begin_change(b"in flight", 1, PRIMARY_WORD)
    KEPT.append(column)
    return column.number


def test_a_killed_process_leaves_its_files(memory, directory, path):
    with Forked(begin=lambda: begin(memory, directory)) as process:
        number = process.call("begin")
    assert names(path) == [f"column-{number}", f"in-flight-{number}"]
    column, orphans = adopted(memory, directory)
    assert orphans == [number] and column.number != number
    left = column.left_by(number)
    assert left.pending.keys == {SERVER.encode(): {b"pending"}} and not left.pending.damaged
    assert keys_of(left) == [b"in flight"]
    assert memory.state_of(SERVER, number) == SOME
    column.forget(number)
    assert names(path) == [f"column-{column.number}", f"in-flight-{column.number}"]
    assert memory.state_of(SERVER, number) == NOTHING
    assert SharedColumn(memory, directory).number == number, "the next process begins with empty files"
    assert keys_of(column.left_by(number)) == []


def test_a_process_that_ends_removes_its_files(memory, directory, path):
    column = SharedColumn(memory, directory)
    assert names(path) == ["column-0", "in-flight-0"]
    column.release(True)
    assert names(path) == [] and memory.take_orphans() == []


def test_a_process_that_ends_with_pending_keys_leaves_its_files(memory, directory, path):
    with Forked(begin=lambda: begin(memory, directory), release=lambda: KEPT.pop().release(False)) as process:
        process.call("begin")
        process.call("release")
    column, orphans = adopted(memory, directory)
    assert orphans == [0]
    assert column.left_by(0).pending.keys == {SERVER.encode(): {b"pending"}} and keys_of(column.left_by(0)) == [b"in flight"]


def test_a_disk_without_room_for_the_keys_in_flight(memory, directory, path, monkeypatch, caplog):
    """They are in the shared memory, and outlive the process, but not the service."""

    def fail(*arguments):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with Forked(begin=lambda: begin(memory, directory)) as process:
        process.call("begin")
    column, orphans = adopted(memory, directory)
    assert orphans == [0] and b"in flight" in keys_of(column.left_by(0))
    assert "journal failed" in caplog.text


def test_without_the_directory_the_marks_count(memory, tmp_path):
    """It cannot be made: so what was pending is not known, although journal_dir is set."""
    (tmp_path / "file").write_text("")
    directory = JournalDirectory(str(tmp_path / "file" / "journal"))
    with Forked(begin=lambda: begin(memory, directory)) as process:
        process.call("begin")
    column, orphans = adopted(memory, directory)
    left = column.left_by(0)
    assert orphans == [0] and left.pending is None and keys_of(left) == [b"in flight"]
    assert memory.state_of(SERVER, 0) == SOME
