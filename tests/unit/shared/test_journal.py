"""The journal of one worker: what `write` has written is read, whatever the disk does and whenever the process ends."""

import errno
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import ManualClock
from support.timing import PATIENCE

from gmproxy.shared import journal as journal_module
from gmproxy.shared.journal import Journal
from gmproxy.shared.journal_directory import JournalDirectory
from gmproxy.shared.journal_format import HEADER_SIZE

A, B, C = b"POOL primary a:1", b"POOL primary b:1", b"POOL backup c:1"


@pytest.fixture
def opened():
    """opened(path): a JournalDirectory that is closed after the test."""
    directories = []

    def make(path):
        directories.append(JournalDirectory(str(path)))
        return directories[-1]

    yield make
    for directory in directories:
        directory.close()


@pytest.fixture
def directory(opened, tmp_path):
    return opened(tmp_path / "journal")


def read(directory, column=0):
    pending = directory.read(column)
    return pending.keys, pending.everything, bool(pending.damaged)


NOTHING = ({}, set(), False)


def test_what_was_noted_is_read(directory):
    journal = directory.journal(0, [A, B])
    assert read(directory) == NOTHING
    assert not journal.unwritten
    journal.note(A, b"x")
    assert journal.unwritten
    assert read(directory) == NOTHING  # not written yet
    journal.write()
    assert not journal.unwritten
    assert read(directory) == ({A: {b"x"}}, set(), False)
    journal.note_all(B, {b"y", b"z"})
    journal.note(C, b"\0\xff\n")
    journal.write()
    assert read(directory) == ({A: {b"x"}, B: {b"y", b"z"}, C: {b"\0\xff\n"}}, set(), False)
    journal.note_everything(A)
    journal.note(A, b"later")
    journal.settled(B)
    journal.note(B, b"again")
    journal.write()
    assert read(directory) == ({B: {b"again"}, C: {b"\0\xff\n"}}, {A}, False)


@pytest.mark.parametrize("key", [b"k", b"k" * 250, b"k" * 255, bytes(range(250))])
def test_keys_of_all_lengths(directory, key):
    journal = directory.journal(0)
    journal.note(A, key)
    journal.write()
    assert read(directory) == ({A: {key}}, set(), False)


def test_a_key_that_is_too_long_is_a_flush(directory):
    journal = directory.journal(0)
    journal.note(A, b"k" * 256)
    journal.write()
    assert read(directory) == ({}, {A}, False)


def test_a_file_of_which_all_is_void_is_short(directory, tmp_path):
    """It has the names that it began with, so that these servers can be recorded on a full disk."""
    journal = directory.journal(0, [A, B])
    path = tmp_path / "journal" / "column-0"
    size = path.stat().st_size
    for _ in range(3):
        journal.note(A, b"x")
        journal.note(C, b"y")
        journal.write()
        assert path.stat().st_size > size
        journal.settled(A)
        journal.write()
        assert read(directory) == ({C: {b"y"}}, set(), False)
        journal.settled(C)
        journal.write()
        assert path.stat().st_size == size
        assert read(directory) == NOTHING
    journal.note(C, b"z")
    journal.write()
    assert read(directory) == ({C: {b"z"}}, set(), False)


def test_settled_costs_nothing_where_nothing_is_pending(directory):
    journal = directory.journal(0, [A])
    journal.settled(A)
    journal.settled(b"unknown")
    assert not journal.unwritten
    journal.note(A, b"x")
    journal.settled(A)
    journal.write()
    assert read(directory) == NOTHING


def test_closed_it_stays_if_something_is_pending(directory, tmp_path):
    journal = directory.journal(0)
    journal.note(A, b"x")
    journal.close()
    assert directory.orphans() == [0]
    assert read(directory) == ({A: {b"x"}}, set(), False)
    journal = directory.journal(1)
    journal.note(A, b"x")
    journal.write()
    journal.settled(A)
    journal.close()
    assert directory.orphans() == [0]


def test_a_new_journal_replaces_the_file(directory):
    journal = directory.journal(0)
    journal.note(A, b"x")
    journal.close()
    directory.journal(0)
    assert read(directory) == NOTHING


def test_its_file_is_private(directory, tmp_path):
    directory.journal(0)
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "journal").iterdir()} == {"lock": 0o600, "column-0": 0o600}
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700


# -- any operations

SERVERS = st.sampled_from([A, B, C])
KEYS = st.binary(min_size=1, max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("note"), SERVERS, KEYS),
        st.tuples(st.just("note_all"), SERVERS, st.sets(KEYS, max_size=4)),
        st.tuples(st.just("note_everything"), SERVERS),
        st.tuples(st.just("settled"), SERVERS),
        st.tuples(st.just("write")),
        st.tuples(st.just("rewrite")),
        st.tuples(st.just("fault"), st.integers(0, 2)),
        st.tuples(st.just("suspend")),
        st.tuples(st.just("resume")),
    ),
    max_size=30,
)


class Model:
    """What is pending: {server: keys, None for all}."""

    def __init__(self):
        self.pending = {}

    def apply(self, what, server, keys=frozenset()):
        if what == "settled":
            self.pending.pop(server, None)
        elif what == "note_everything":
            self.pending[server] = None
        elif self.pending.get(server, ()) is not None and keys:
            self.pending.setdefault(server, set()).update({keys} if what == "note" else keys)


@contextmanager
def faulty(monkeypatch, error=errno.ENOSPC, written=0):
    """The disk takes only `written` bytes of a batch, and no new file. What has its place already can be written to."""
    real_write, real_open = os.pwrite, os.open

    def pwrite(descriptor, data, offset):
        if offset + len(data) <= os.fstat(descriptor).st_size:
            return real_write(descriptor, data, offset)
        nonlocal written
        if written:
            data, written = data[:written], 0
            return real_write(descriptor, data, offset)
        raise OSError(error, os.strerror(error))

    def open_(path, flags, *rest, **more):
        if flags & os.O_CREAT:
            raise OSError(error, os.strerror(error))
        return real_open(path, flags, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", pwrite)
        patched.setattr(os, "open", open_)
        yield


@given(STEPS, st.integers(0, 3))
@settings(deadline=None, max_examples=150)
def test_no_sequence_loses_anything(tmp_path_factory, steps, declared):
    """With a fault of the disk and without: what is read is what is pending, or, of the servers concerned, a flush."""
    directory = JournalDirectory(str(tmp_path_factory.mktemp("journal")))
    model, had_fault = Model(), False
    journal = directory.journal(0, [A, B, C][:declared])
    with pytest.MonkeyPatch.context() as monkeypatch:
        for step in [*steps, ("write",)]:
            what, *arguments = step
            if what in ("suspend", "resume"):
                getattr(journal, what)()
                had_fault = True
            elif what == "fault":
                had_fault = True
                with faulty(monkeypatch, written=arguments[0]):
                    journal.write()
            elif what == "rewrite":
                journal.write()
                if journal.rewrite(list(model.pending.items())):
                    had_fault = False
            else:
                getattr(journal, what)(*arguments)
                if what != "write":
                    model.apply(what, *arguments)
    found = directory.read(0)
    directory.close()
    everything = {server for server, keys in model.pending.items() if keys is None}
    keys = {server: keys for server, keys in model.pending.items() if keys is not None}
    if not had_fault:
        assert (found.keys, found.everything, found.damaged) == (keys, everything, "")
    if not found.damaged:
        assert everything <= found.everything
        assert all(server in found.everything or keys[server] <= found.keys[server] for server in keys)
    else:
        assert declared < 3


# -- written anew

#: The system calls of a journal. After each, the process may be killed.
CALLS = ("open", "pwrite", "ftruncate", "rename", "unlink", "fstat", "close")


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed_at(monkeypatch, number, after):
    """The process is killed in its system call `number`, before or `after` it was done."""
    count = 0

    def wrap(real):
        def call(*arguments, **more):
            nonlocal count
            count += 1
            if count < number:
                return real(*arguments, **more)
            if count == number and after:
                real(*arguments, **more)
            raise Killed  # also of the cleaning up, which a process that is killed does not do

        return call

    with monkeypatch.context() as patched:
        for name in CALLS:
            patched.setattr(os, name, wrap(getattr(os, name)))
        yield


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("was_failed", [False, True])
def test_interrupted_anywhere_a_rewrite_leaves_the_old_file_or_the_new_one(opened, tmp_path, monkeypatch, was_failed, after):
    number, is_done = 0, False
    results = set()
    while not is_done:
        number += 1
        directory = opened(tmp_path / f"{number}")
        journal = directory.journal(0, [A, B])
        journal.note_all(A, [b"x", b"y", b"void"])
        journal.write()
        if was_failed:
            with faulty(monkeypatch):
                journal.note(B, b"lost")
                journal.write()
        with killed_at(monkeypatch, number, after):
            try:
                is_done = journal.rewrite([(A, [b"x", b"y"]), (B, [b"lost"])])
            except Killed:
                pass
        found = read(directory)
        results.add(str(found[1:]))
        if found[0] == {A: {b"x", b"y", b"void"}}:
            assert found[1:] == ({B} if was_failed else set(), False)
        else:
            assert found == ({A: {b"x", b"y"}, B: {b"lost"}}, set(), False)
        again = directory.journal(0)  # what is left of it does not matter
        assert not again.failed and read(directory) == NOTHING
    assert number > 6
    assert len(results) == 1 + was_failed


def test_what_is_noted_meanwhile_is_in_the_new_file(directory, monkeypatch):
    monkeypatch.setattr(journal_module, "CHUNK", 2)
    journal = directory.journal(0, [A])
    keys = [b"%d" % number for number in range(7)]
    journal.note_all(A, keys)
    journal.write()
    paused = 0

    def pause():
        nonlocal paused
        paused += 1
        journal.note(B, b"b%d" % paused)
        if paused != 2:
            journal.write()
        if paused == 3:
            journal.settled(B)
        assert not journal.needs_rewrite
        assert not journal.rewrite(())  # one at a time
        assert read(directory)[0][A] == set(keys)  # the old file is there

    assert journal.rewrite([(A, keys), (C, None)], pause)
    assert paused == 5
    assert read(directory) == ({A: set(keys), B: {b"b4", b"b5"}}, {C}, False)
    journal.settled(A)
    journal.settled(B)
    journal.settled(C)
    journal.write()
    assert read(directory) == NOTHING


def test_a_server_that_is_settled_meanwhile(directory, monkeypatch):
    """Its keys that are copied afterwards are not forgotten as void: deleting them once more does no harm."""
    monkeypatch.setattr(journal_module, "CHUNK", 1)
    journal = directory.journal(0, [A])

    def pause():
        journal.settled(A)
        journal.write()

    assert journal.rewrite([(A, [b"x", b"y"])], pause)
    assert read(directory) == NOTHING
    assert journal.rewrite([(A, [b"x", b"y"])], lambda: journal.settled(A) if not journal.unwritten else journal.write())
    journal.settled(A)
    journal.write()
    assert read(directory) == NOTHING


@pytest.mark.parametrize("ended_by", ["suspend", "close"])
def test_a_rewrite_that_is_ended(directory, ended_by, tmp_path):
    journal = directory.journal(0, [A])
    journal.note(A, b"x")
    assert not journal.rewrite([(A, [b"y"])], getattr(journal, ended_by))
    assert read(directory) == ({A: {b"x"}}, set(), False)
    assert sorted(os.listdir(tmp_path / "journal")) == ["column-0", "lock"]


def test_a_rewrite_that_raises(directory, tmp_path):
    """An error of the caller is the caller's: the old file stays."""
    journal = directory.journal(0, [A])
    journal.note(A, b"x")
    journal.write()
    with pytest.raises(ZeroDivisionError):
        journal.rewrite([(A, [b"y"])], lambda: 1 // 0)
    journal.note(A, b"z")
    journal.write()
    assert read(directory) == ({A: {b"x", b"z"}}, set(), False)
    assert sorted(os.listdir(tmp_path / "journal")) == ["column-0", "lock"]


def test_when_it_is_due(directory, monkeypatch):
    monkeypatch.setattr(journal_module, "REWRITE_SIZE", HEADER_SIZE + 1000)
    journal = directory.journal(0, [A])
    assert not journal.needs_rewrite
    keys = [b"k%0200d" % number for number in range(500)]
    for key in keys:
        journal.note(A, key)
        journal.write()
    assert journal.needs_rewrite
    journal.rewrite([(A, keys)])
    assert not journal.needs_rewrite
    times = 0  # the file is larger than the limit, but has little that is void
    while not journal.needs_rewrite:
        journal.note_all(A, keys)
        journal.write()
        times += 1
    assert times == journal_module.GROWTH


# -- faults of the disk


@pytest.fixture
def clock(monkeypatch):
    clock = ManualClock()
    monkeypatch.setattr(journal_module.time, "monotonic", clock)
    return clock


def events(caplog):
    return [record.getMessage().partition(" file=")[0] for record in caplog.records if record.levelno >= logging.INFO]


@pytest.mark.parametrize("written", [0, 1, 7])
def test_a_full_disk(directory, monkeypatch, caplog, clock, written):
    caplog.set_level(logging.INFO)
    journal = directory.journal(0, [A, B])
    journal.note(A, b"x")
    journal.write()
    with faulty(monkeypatch, written=written):
        journal.note(B, b"y")
        journal.write()
        assert read(directory) == ({A: {b"x"}}, {B}, False)
        assert journal.failed and not journal.is_complete and not journal.unrecorded
        assert not journal.needs_rewrite
        journal.note(A, b"z")
        journal.write()
        assert read(directory) == ({}, {A, B}, False)
        clock.now += journal_module.RETRY_INTERVAL
        assert journal.needs_rewrite
        assert not journal.rewrite([(A, [b"x", b"z"]), (B, [b"y"])])
        assert not journal.needs_rewrite
        journal.settled(B)  # it was recovered meanwhile
        journal.write()
        assert read(directory) == ({}, {A}, False)
    assert events(caplog) == ["journal failed"]
    assert "detail='No space left on device'" in caplog.text
    clock.now += journal_module.RETRY_INTERVAL
    assert journal.needs_rewrite
    assert journal.rewrite([(A, [b"x", b"z"])])
    assert read(directory) == ({A: {b"x", b"z"}}, set(), False)
    assert not journal.failed and journal.is_complete
    assert events(caplog) == ["journal failed", "journal restored"]
    assert journal.errors == 2


def test_servers_that_were_not_declared_are_all_servers(directory, monkeypatch):
    """Their names are not in the file, so that all must be flushed; not so if something of them was written before."""
    journal = directory.journal(0)
    journal.note(A, b"x")
    journal.write()
    with faulty(monkeypatch):
        journal.note(A, b"y")
        journal.write()
        assert read(directory) == ({}, {A}, False)
        journal.note(B, b"y")
        journal.write()
        assert read(directory)[2]
        journal.settled(B)
        journal.write()
        assert read(directory) == ({}, {A}, False)


def test_servers_that_are_declared_later(directory, monkeypatch, clock):
    """The file has their names as soon as it is written anew."""
    journal = directory.journal(0)
    journal.declare([A])
    with faulty(monkeypatch):
        assert journal.needs_rewrite and not journal.rewrite(())
    clock.now += journal_module.RETRY_INTERVAL
    assert journal.needs_rewrite and journal.rewrite([(A, [b"x"])], lambda: journal.declare([B]))
    journal.settled(A)
    journal.write()
    journal.declare([A])
    assert journal.needs_rewrite  # for what was declared meanwhile
    assert journal.rewrite(())
    assert not journal.needs_rewrite
    with faulty(monkeypatch):
        journal.note(A, b"y")
        journal.write()
    assert read(directory) == ({}, {A}, False)


def test_a_disk_that_is_full_when_the_file_is_made(directory, monkeypatch, caplog, clock):
    with faulty(monkeypatch):
        journal = directory.journal(3, [A])
        assert journal.failed
        assert directory.orphans() == []  # nothing is pending yet: no server is flushed for it
        journal.note(A, b"x")
        journal.write()
        assert directory.orphans() == [3]
        assert directory.read(3).damaged == "records could not be written"
        journal.settled(A)
        journal.write()
        assert directory.orphans() == []
        journal.note(A, b"x")
        journal.write()
    clock.now += journal_module.RETRY_INTERVAL
    assert journal.needs_rewrite and journal.rewrite([(A, [b"x"])])
    assert read(directory, 3) == ({A: {b"x"}}, set(), False)
    assert events(caplog) == ["journal failed", "journal damaged"]


def fail_all(monkeypatch, *names):
    def fail(*arguments, **more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in names:
        monkeypatch.setattr(os, name, fail)


def test_a_slot_that_cannot_be_set(directory, monkeypatch, caplog):
    """The last resort is a file that is damaged."""
    journal = directory.journal(0, [A])
    journal.note(A, b"x")
    journal.write()
    with monkeypatch.context() as patched:
        fail_all(patched, "pwrite")
        journal.note(A, b"y")
        journal.write()
        assert read(directory)[2]
        assert not journal.unrecorded
    journal.note(A, b"z")
    journal.write()
    assert journal.rewrite([(A, [b"x", b"y", b"z"])])
    assert read(directory) == ({A: {b"x", b"y", b"z"}}, set(), False)


def test_nothing_can_be_written_at_all(directory, monkeypatch, caplog, clock):
    """Then the log says once which servers the operator must flush."""
    journal = directory.journal(0, [A, B])
    with monkeypatch.context() as patched:
        fail_all(patched, "pwrite", "ftruncate")
        journal.note(A, b"y")
        journal.write()
        assert journal.unrecorded
        journal.note(B, b"y")
        journal.note(B, b"y")
        journal.write()
    assert [record.getMessage() for record in caplog.records if "lost" in record.message] == [
        f"journal lost file={directory.path}/column-0 flush='POOL primary a:1' detail='Read-only file system'"
    ]
    journal.note(A, b"z")
    journal.write()
    journal.note(C, b"z")
    journal.write()
    assert not journal.unrecorded  # the disk is well again
    assert read(directory)[2]
    clock.now += journal_module.RETRY_INTERVAL
    assert journal.needs_rewrite and journal.rewrite([(A, [b"z"])])
    assert read(directory) == ({A: {b"z"}}, set(), False)
    assert directory.orphans() == [0]


@pytest.mark.parametrize("with_lock", [False, True])
def test_a_file_that_is_removed(directory, tmp_path, caplog, clock, with_lock):
    journal = directory.journal(0, [A])
    (tmp_path / "journal" / "column-0").unlink()
    if with_lock:
        (tmp_path / "journal" / "lock").unlink()
    journal.note(A, b"x")
    journal.write()
    assert "detail='the file was removed'" in caplog.text
    assert journal.unrecorded == with_lock
    assert bool(directory.read(0).damaged) == (not with_lock)
    clock.now += journal_module.RETRY_INTERVAL
    assert journal.needs_rewrite and journal.rewrite([(A, [b"x"])])
    assert read(directory)[0] == {A: {b"x"}}


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("fault")])
def test_whatever_is_raised_the_servers_are_recorded(directory, monkeypatch, error):
    journal = directory.journal(0, [A])

    def fail(*arguments):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(journal_module.journal_format, "keys_record", fail)
        journal.note(A, b"x")
        journal.write()
    assert read(directory) == ({}, {A}, False)


def test_a_rewrite_that_fails_leaves_a_complete_file_complete(directory, monkeypatch, caplog, clock):
    monkeypatch.setattr(journal_module, "REWRITE_SIZE", HEADER_SIZE)
    journal = directory.journal(0)
    while not journal.needs_rewrite:
        journal.note(A, b"x" * 250)
        journal.write()
    with faulty(monkeypatch):
        assert not journal.rewrite([(A, [b"x" * 250])])
    assert journal.is_complete and not journal.failed and not journal.needs_rewrite
    assert events(caplog) == ["journal not rewritten"]
    journal.note(A, b"y")
    journal.write()
    assert read(directory) == ({A: {b"x" * 250, b"y"}}, set(), False)
    clock.now += journal_module.RETRY_INTERVAL
    assert journal.needs_rewrite


def test_a_rewrite_whose_new_file_cannot_take_a_note(directory, monkeypatch):
    """The old one can: it stays."""
    journal = directory.journal(0, [A])

    def pause():
        journal.note(A, b"y")
        with monkeypatch.context() as patched:
            patched.setattr(journal._successor, "append", lambda *rest: 1 // 0)
            journal.write()

    assert not journal.rewrite([(A, [b"x"])], pause)
    assert journal.is_complete
    assert read(directory) == ({A: {b"y"}}, set(), False)


# -- without a journal


def test_without_a_directory():
    journal = Journal(None, 0, [A])
    journal.note(A, b"x")
    journal.note_everything(B)
    journal.write()
    assert not journal.unwritten and not journal.is_complete and not journal.needs_rewrite and not journal.rewrite([(A, [b"x"])])
    journal.suspend()
    journal.resume()
    journal.close()
    assert not journal.errors and not journal.failed and not journal.unrecorded


def test_switched_off(directory):
    """What is noted meanwhile is a flush of its server at the next start, until the file is written anew."""
    journal = directory.journal(0, [A, B, C])
    journal.note(A, b"x")
    journal.suspend()
    assert read(directory) == ({A: {b"x"}}, set(), False)
    journal.note(B, b"y")
    journal.note(C, b"z")
    journal.write()
    journal.settled(C)
    journal.write()
    assert journal.suspended and not journal.failed and not journal.needs_rewrite
    assert read(directory) == ({A: {b"x"}}, {B}, False)
    journal.resume()
    assert journal.needs_rewrite
    journal.note(A, b"not yet")
    journal.write()
    assert read(directory) == ({}, {A, B}, False)
    journal.rewrite([(A, [b"x", b"not yet"]), (B, [b"y"])])
    assert read(directory) == ({A: {b"x", b"not yet"}, B: {b"y"}}, set(), False)
    assert not journal.suspended and not journal.errors


def test_switched_off_and_on_with_nothing_pending(directory):
    journal = directory.journal(0, [A])
    journal.suspend()
    journal.resume()
    assert journal.rewrite(())
    assert journal.is_complete and not journal.needs_rewrite
    assert read(directory) == NOTHING


# -- a real full disk, and real processes


def test_a_real_full_disk(opened, tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True, timeout=PATIENCE)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    directory = opened(small / "journal")
    journal = directory.journal(0, [A, B])
    try:
        pending = {A: set(), B: set()}
        for number in range(10_000):
            if journal.failed:
                break
            key = b"%0200d" % number
            pending[A].add(key)
            journal.note(A, key)
            journal.write()
        assert 100 < number < 400
        assert read(directory) == ({}, {A}, False)
        fill = small / "other"
        with pytest.raises(OSError), fill.open("wb", 0) as file:
            while True:
                file.write(b"x")
        journal.note(B, b"y")
        journal.write()
        assert read(directory) == ({}, {A, B}, False)
        assert not journal.rewrite([(A, pending[A])])
        journal.settled(B)
        journal.write()
        assert read(directory) == ({}, {A}, False)
        journal.settled(A)
        journal.write()
        assert read(directory) == NOTHING  # and there is space for more
        assert journal.is_complete and not journal.failed
        journal.note(A, key)
        journal.write()
        assert read(directory) == ({A: {key}}, set(), False)
        fill.unlink()
        assert journal.rewrite([(A, [b"z"])])
        assert read(directory) == ({A: {b"z"}}, set(), False)
        with pytest.raises(OSError), fill.open("wb", 0) as file:
            while True:
                file.write(b"x")
        other = directory.journal(1, [A])
        other.note(A, b"x")
        other.write()
        journal.note_all(A, [b"%0200d" % number for number in range(1000)])
        journal.write()
        assert not other.unrecorded and not journal.unrecorded
        journal.close()
        other.close()
        directory.close()
        directory = opened(small / "journal")  # the next start, on the same full disk
        assert directory.usable
        assert directory.orphans() == [0, 1]
        assert read(directory) == ({}, {A}, False)
        assert directory.read(1).damaged
        directory.erase(1)
        assert directory.orphans() == [0]
    finally:
        journal.close()
        directory.close()
        subprocess.run(["umount", small], check=True, timeout=PATIENCE)


def test_a_real_disk_that_becomes_read_only(tmp_path, caplog):
    """As ext4 does after an error. Not even a slot can be set: the log names the server. The next start flushes all, while the disk is as it is."""
    if os.getuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("only root can mount a small file system, and mkfs.ext4 is needed")
    image, small = tmp_path / "image", tmp_path / "small"
    small.mkdir()
    with image.open("wb") as file:
        file.truncate(8 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", image], check=True, timeout=PATIENCE)
    if subprocess.run(["mount", "-o", "loop", image, small], capture_output=True, timeout=PATIENCE).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        directory = JournalDirectory(str(small / "journal"))
        journal = directory.journal(0, [A, B])
        journal.note(A, b"x")
        journal.write()
        subprocess.run(["mount", "-o", "remount,abort", small], check=True, timeout=PATIENCE)
        journal.note(B, b"y")
        journal.write()
        assert journal.failed and journal.unrecorded
        assert f"journal lost file={small}/journal/column-0 flush='POOL primary b:1' detail=" in caplog.text
        journal.close()
        directory.close()
        directory = JournalDirectory(str(small / "journal"))
        assert not directory.usable and directory.orphans() == [0]
        found = directory.read(0)
        assert found.keys == {A: {b"x"}} and found.damaged
    finally:
        journal.close()
        directory.close()
        subprocess.run(["umount", small], check=True, timeout=PATIENCE)


#: Notes and settles until it is killed, with a seed and a directory. After each write() it prints the number of what it has done, by one system call.
WRITER = """
import os, random, sys
from gmproxy.shared import journal as module
from gmproxy.shared.journal_directory import JournalDirectory
from gmproxy.shared.journal_format import HEADER_SIZE
sys.path.insert(0, sys.argv[1])
from unit.shared.test_journal import deeds
module.REWRITE_SIZE = HEADER_SIZE + 20000
directory = JournalDirectory(sys.argv[2])
journal = directory.journal(0)
for number, (pending, step) in enumerate(deeds(int(sys.argv[3]))):
    step(journal)
    journal.write()
    if journal.needs_rewrite:
        journal.rewrite(list(pending.items()))
    os.write(1, number.to_bytes(8, "little"))
"""


def deeds(seed):
    """Endless (what is pending after it, step(journal))."""
    chosen = random.Random(seed)
    pending = {}
    while True:
        server = chosen.choice([A, B])
        what = chosen.random()
        if what < 0.02:
            pending.pop(server, None)
            yield pending, lambda journal, server=server: journal.settled(server)
        elif what < 0.03:
            pending[server] = None
            yield pending, lambda journal, server=server: journal.note_everything(server)
        else:
            keys = [chosen.randbytes(chosen.randint(1, 250)) for _ in range(chosen.choice([1, 1, 3, 60]))]
            if pending.get(server, ()) is not None:
                pending.setdefault(server, set()).update(keys)
            yield pending, lambda journal, server=server, keys=keys: journal.note_all(server, keys)


def state_after(seed, number):
    """({server: keys}, servers to flush) after the deed `number`, and after the one that follows it."""
    states = []
    for at, (pending, _) in enumerate(deeds(seed)):
        if at >= number:
            keys = {server: set(found) for server, found in pending.items() if found is not None}
            states.append((keys, {server for server, found in pending.items() if found is None}))
        if at > number:
            return states


def kill_a_writer(path, seed):
    """Kill it at a random moment, and check what it leaves. Returns the number of its last deed."""
    tests = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    reading, writing = os.pipe()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, tests, path, str(seed)], stdout=writing, env={**os.environ, "PYTHONPATH": tests}
    )
    os.close(writing)
    done = 0
    with open(reading, "rb") as output:
        wanted = random.Random(seed).randrange(400)
        while done <= wanted and (word := output.read(8)):
            done = int.from_bytes(word, "little")
        writer.send_signal(signal.SIGKILL)
        while word := output.read(8):
            done = int.from_bytes(word, "little")
    assert writer.wait(PATIENCE) == -signal.SIGKILL
    directory = JournalDirectory(path)
    found = directory.read(0)
    directory.close()
    if not found.damaged:  # cut off in the middle of a write, which has not returned
        assert (found.keys, found.everything) in state_after(seed, done)
    return done


@pytest.mark.parametrize("seed", range(2))
def test_killed_it_leaves_what_was_written(tmp_path, seed):
    assert kill_a_writer(str(tmp_path / "journal"), seed) >= 0


@pytest.mark.long
def test_killed_many_times_it_leaves_what_was_written(tmp_path):
    """200 processes, each killed at a random moment."""
    assert sum([kill_a_writer(str(tmp_path / f"{seed}"), seed) for seed in range(100, 300)]) > 10_000
