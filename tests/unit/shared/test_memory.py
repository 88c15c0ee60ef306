"""The memory of a service: who has which column, and what is left when a process ends. With forked processes, to which the locks belong."""

import contextlib
import errno
import fcntl
import itertools
import os
import subprocess
import sys

import pytest
from support.forked import Forked
from support.timing import PROGRAM_TIMEOUT

from gmproxy.errors import StartError
from gmproxy.shared import memory as memory_module
from gmproxy.shared.changes import PRIMARY_WORD, ChangeNotes
from gmproxy.shared.invalidation_marks import InvalidationMarks
from gmproxy.shared.keys_in_flight import KeysInFlight, keys_left
from gmproxy.shared.memory import MAX_ROWS, MIN_COLUMNS, SLOTS, SharedMemory


@pytest.fixture
def memory():
    return SharedMemory.create()


@pytest.fixture
def processes(memory):
    """processes(n): n forked processes that can use the memory."""
    with contextlib.ExitStack() as stack:

        def start(count):
            return [
                stack.enter_context(
                    Forked(
                        claim=memory.claim,
                        take=memory.take_orphans,
                        free=memory.free,
                        leave=memory.leave,
                        hold_lock=lambda: fcntl.lockf(memory.descriptor, fcntl.LOCK_EX, 1, memory.columns),
                        row=memory.row_of,
                        share=lambda: SharedMemory(os.dup(memory.descriptor)).claim(),
                    )
                )
                for _ in range(count)
            ]

        yield start


# -- columns


def test_each_process_has_a_column_of_its_own(memory, processes):
    claimed = [process.call("claim", 2) for process in processes(3)]
    assert claimed == [[0, 1], [2, 3], [4, 5]]
    assert memory.claim() == [6]
    assert memory.columns_used[0] == 7


def test_a_living_process_is_never_an_orphan(memory, processes):
    one, other = processes(2)
    (column,) = one.call("claim")
    assert memory.take_orphans() == other.call("take") == one.call("take") == []
    one.stop()
    assert memory.take_orphans() == other.call("take") == []
    one.kill()
    assert other.call("take") == [column]


def test_a_killed_process_leaves_its_column(memory, processes):
    one, other, third = processes(3)
    (column,) = one.call("claim")
    one.kill()
    assert third.call("claim") == [column + 1], "it is not free"
    assert other.call("take") == [column]
    assert other.call("take") == third.call("take") == memory.take_orphans() == [], "it is adopted once"
    other.call("free", column)
    assert third.call("take") == []
    assert memory.claim() == [column]


def test_an_adopter_that_dies_leaves_what_it_adopted(memory, processes):
    one, other, third = processes(3)
    (column,) = one.call("claim")
    one.kill()
    (own,) = other.call("claim")
    assert other.call("take") == [column]
    other.kill()
    assert third.call("take") == [column, own]


def test_what_an_adopter_could_not_take_over_is_an_orphan_again(memory, processes):
    one, other, third = processes(3)
    (column,) = one.call("claim")
    one.kill()
    assert other.call("take") == [column]
    other.call("leave", column)
    assert third.call("take") == [column]
    third.call("leave", column)
    assert other.call("take") == [column]


def test_several_adopters_at_once_adopt_each_column_once(memory, processes):
    for column in range(40):
        memory.use(column)
    adopters = processes(4)
    for adopter in adopters:
        adopter.begin("take")
    taken = [adopter.result() for adopter in adopters]
    assert sorted(itertools.chain(*taken)) == list(range(40))
    for adopter in adopters:
        adopter.begin("take")
    assert [adopter.result() for adopter in adopters] == [[]] * 4


def test_a_column_that_is_left_is_adopted_by_the_same_process(memory):
    (column,) = memory.claim()
    memory.leave(column)
    assert memory.take_orphans() == [column]
    assert memory.take_orphans() == []


def test_no_column_is_left(memory, processes):
    (process,) = processes(1)
    assert len(memory.claim(MIN_COLUMNS - 2)) == MIN_COLUMNS - 2
    refused = process.call("claim", 3)
    assert isinstance(refused, StartError) and "restart" in str(refused)
    assert process.call("claim", 2) == [MIN_COLUMNS - 2, MIN_COLUMNS - 1], "what was claimed before it failed is free"


def test_the_number_of_columns():
    assert SharedMemory.create().columns == MIN_COLUMNS
    assert SharedMemory.create(workers=100).columns == 400
    assert SharedMemory.create(columns=70).columns == 70


def test_a_column_that_is_freed_is_empty(memory):
    one, other = memory.claim(2)
    row = memory.row_of("s")
    marks = InvalidationMarks(memory, row, one)
    keys = KeysInFlight(memory.keys_of(one))
    notes = ChangeNotes(memory, one, keys)
    others = ChangeNotes(memory, other, KeysInFlight(memory.keys_of(other)))
    marks.add_everything()
    notes.begin_change(b"k", 1, PRIMARY_WORD)
    notes.begin_fill(b"l", 1)
    notes.begin_flush()
    assert others.are_under_way(b"k") and others.fills_are_elsewhere(b"l") and others.any_fills_are_elsewhere()
    assert memory.state_of("s", one) and len(list(keys_left(memory.keys_of(one)))) == 2
    memory.free(one)
    assert not others.are_under_way(b"k") and not others.fills_are_elsewhere(b"l") and not others.any_fills_are_elsewhere()
    assert not memory.state_of("s", one) and not list(keys_left(memory.keys_of(one)))
    assert memory.claim() == [one]


def test_no_change_is_overlooked_in_a_column_that_is_freed_and_used_again(memory):
    """The next process in it begins as many changes as the last one had: a change that is under way finds that something has begun."""
    mine, column = memory.claim(2)
    notes = ChangeNotes(memory, mine, KeysInFlight(memory.keys_of(mine)))
    theirs = ChangeNotes(memory, column, KeysInFlight(memory.keys_of(column)))
    theirs.end_note(theirs.begin_change(b"k", 1, PRIMARY_WORD))
    note = notes.begin_change(b"k", 1, PRIMARY_WORD)
    memory.free(column)
    assert not notes.is_contested(note)
    assert memory.claim() == [column]
    again = ChangeNotes(memory, column, KeysInFlight(memory.keys_of(column)))
    again.end_note(again.begin_change(b"k", 1, PRIMARY_WORD))
    assert notes.is_contested(note)


# -- the lock of the whole memory


def test_a_process_that_is_stopped_with_the_lock(memory, processes, monkeypatch):
    monkeypatch.setattr(memory_module, "LOCK_PATIENCE", 0.05)
    (holder,) = processes(1)
    holder.call("hold_lock")
    holder.stop()
    for locked in memory.claim, lambda: memory.free(0), lambda: memory.row_of("s"):
        with pytest.raises(StartError, match="holds the lock"):
            locked()
    assert memory.take_orphans() == [], "nobody needs the lock for it where none is suspected"
    memory.use(5)
    with pytest.raises(StartError, match="holds the lock"):
        memory.take_orphans()
    holder.kill()
    assert memory.claim() == [0]
    assert memory.take_orphans() == [5]


def test_the_lock_is_waited_for(memory, processes):
    holder, waiting = processes(2)
    holder.call("hold_lock")
    waiting.begin("claim")
    holder.kill()
    assert waiting.result() == [0]


# -- rows


def test_all_processes_find_the_same_rows(memory, processes):
    one, other = processes(2)
    assert [one.call("row", name) for name in ("a", "b", "c")] == [0, 1, 2]
    assert [other.call("row", name) for name in ("c", "d", "a")] == [2, 3, 0]
    assert [memory.row_of(name) for name in ("d", "e", "d")] == [3, 4, 3]
    assert memory.rows == {"d": 3, "e": 4}
    assert memory.state_of("a", 0) == 0


def test_a_server_without_a_row(monkeypatch, memory):
    monkeypatch.setattr(memory_module, "MAX_ROWS", 1)
    assert (memory.row_of("a"), memory.row_of("b")) == (0, None)
    assert memory.state_of("b", 0) == 0


# -- the memory of a predecessor


#: Claims a column of the memory with this descriptor, and adopts; at each line that it reads.
SUCCESSOR = """
import sys
from gmproxy.shared.memory import SharedMemory
memory = SharedMemory(int(sys.argv[1]))
print(memory.claim(), flush=True)
for line in sys.stdin:
    print(memory.take_orphans(), flush=True)
"""


def test_a_successor_has_the_same_memory(memory):
    """It has the descriptor alone, which it maps a second time."""
    assert memory.claim(2) == [0, 1]
    memory.row_of("a")
    with subprocess.Popen(
        [sys.executable, "-c", SUCCESSOR, str(memory.descriptor)],
        pass_fds=[memory.descriptor],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as successor:

        def adopted():
            print(file=successor.stdin, flush=True)
            return successor.stdout.readline().strip()

        assert successor.stdout.readline().strip() == "[2]"
        assert adopted() == "[]"
        memory.leave(0)
        assert adopted() == "[0]"
        assert memory.take_orphans() == []
        successor.stdin.close()
        successor.wait(PROGRAM_TIMEOUT)
    assert memory.take_orphans() == [0, 2], "it has not freed them"


def test_two_maps_of_one_memory(memory, processes):
    (process,) = processes(1)
    assert process.call("share") == [0]
    second = SharedMemory(os.dup(memory.descriptor))
    memory.cells[SLOTS] = 7
    assert (second.cells[SLOTS], second.columns_used[0], second.columns) == (7, 1, MIN_COLUMNS)


@pytest.mark.parametrize("content, message", [(b"", "cannot be read"), (b"x" * 4096, "another version"), (None, "another version")])
def test_the_memory_of_another_version(tmp_path, memory, content, message):
    descriptor = os.open(tmp_path / "memory", os.O_RDWR | os.O_CREAT)
    if content is None:  # with another number of slots
        content = bytearray(os.pread(memory.descriptor, 16, 0))
        content[12:16] = (SLOTS * 2).to_bytes(4, sys.byteorder)
    os.write(descriptor, content)
    with pytest.raises(StartError, match=message):
        SharedMemory(descriptor)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):  # it owned the descriptor
        os.fstat(descriptor)


def test_a_machine_without_memory(monkeypatch):
    def fail(*arguments):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(StartError, match="no memory can be shared"):
        SharedMemory.create()


def test_it_takes_memory_for_what_is_used_alone(memory):
    """Much is mapped, and little is touched."""
    memory.claim()
    blocks = os.fstat(memory.descriptor).st_blocks * 512
    assert blocks < 64 * 1024
    assert os.fstat(memory.descriptor).st_size > MAX_ROWS * MIN_COLUMNS * 128
