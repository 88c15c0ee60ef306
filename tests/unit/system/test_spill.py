"""Bytes in memory while there are few, then in a file."""

import os

import pytest

from gmproxy.system import spill
from gmproxy.system.spill import Spill, SpillFull


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(spill, "IN_MEMORY", 10)
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def contents(store, step):
    return b"".join(store.read(offset, step) for offset in range(0, store.size, step))


@pytest.mark.parametrize("chunks", [[], [b"abc"], [b"0123456789"], [b"abc", b"defghijk", b"l"], [b"x" * 11], [b"abcdefg"] * 9])
def test_what_was_written_is_read(chunks):
    with Spill(100) as store:
        for chunk in chunks:
            store.write(chunk)
        assert store.size == len(b"".join(chunks))
        assert store.is_on_disk_with(0) == (store.size > 10)
        for step in (1, 4, 100):
            assert contents(store, step) == b"".join(chunks)
        assert store.read(store.size, 5) == b""


def test_the_limit(tmp_path):
    with Spill(20) as store:
        store.write(b"x" * 20)
        with pytest.raises(SpillFull):
            store.write(b"y")
        assert contents(store, 7) == b"x" * 20


def test_its_file_has_no_name_and_is_closed(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    store = Spill(100)
    store.write(b"x" * 50)
    assert not list(tmp_path.iterdir())
    store.close()
    store.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_folder_that_is_not_there(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    with Spill(100) as store, pytest.raises(OSError):
        store.write(b"x" * 50)
