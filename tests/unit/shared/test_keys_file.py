"""The file with the keys in flight of a process, and what the disk can do to it."""

import os
import subprocess

import pytest
from support.forked import Forked
from support.timing import PATIENCE

from gmproxy.shared import keys_file
from gmproxy.shared.journal_directory import JournalDirectory
from gmproxy.shared.keys_in_flight import KeysInFlight, has_overflowed, keys_left

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a file system")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


@pytest.fixture
def opened(path):
    """opened(path): a JournalDirectory that is closed after the test."""
    directories = []

    def make(path=path):
        directories.append(JournalDirectory(str(path)))
        return directories[-1]

    yield make
    for directory in directories:
        directory.close()


@pytest.fixture
def directory(opened):
    return opened()


def names(path):
    return sorted(set(os.listdir(path)) - {"lock"})


def test_what_a_killed_process_has_left(directory, path):
    def begin():
        keys = KeysInFlight(keys_file.create(directory, 3))
        keys.remove_entry(keys.add_key(b"done", 1))
        keys.add_key(b"k", 1)
        keys.add_key(bytes(250), 2)

    with Forked(begin=begin) as process:
        process.call("begin")
    assert names(path) == ["in-flight-3"]
    found = keys_file.read(directory, 3)
    assert sorted(keys_left(found)) == [(1, b"k"), (2, bytes(250))] and not has_overflowed(found)
    keys_file.remove(directory, 3)
    keys_file.remove(directory, 3)
    assert names(path) == [] and keys_file.read(directory, 3) is None
    assert not directory.errors


def test_the_next_process_begins_with_an_empty_file(directory, path):
    KeysInFlight(keys_file.create(directory, 0)).add_key(b"k", 1)
    keys = keys_file.create(directory, 0)
    assert not list(keys_left(keys)) and not list(keys_left(keys_file.read(directory, 0)))
    assert os.stat(path / "in-flight-0").st_mode & 0o077 == 0
    assert os.stat(path / "in-flight-0").st_blocks * 512 >= keys_file.SIZE, "a full disk cannot prevent a key from being written"


def test_the_files_of_columns_are_found(directory):
    keys_file.create(directory, 12)
    assert directory.orphans() == [12]


def test_no_descriptor_is_left_open(directory):
    before = set(os.listdir("/proc/self/fd"))
    keys = keys_file.create(directory, 0)
    keys_file.read(directory, 0)
    left = set(os.listdir("/proc/self/fd")) - before
    assert all(not os.get_inheritable(int(descriptor)) for descriptor in left if os.path.exists(f"/proc/self/fd/{descriptor}"))
    del keys
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("size", [0, 1, keys_file.SIZE - 1])
def test_a_file_that_is_too_short_has_unknown_keys(directory, path, size):
    keys_file.create(directory, 0)
    os.truncate(path / "in-flight-0", size)
    found = keys_file.read(directory, 0)
    assert has_overflowed(found) and not list(keys_left(found))


def test_a_file_that_cannot_be_read_has_unknown_keys(directory, path, caplog):
    os.mkdir(path / "in-flight-0")
    assert has_overflowed(keys_file.read(directory, 0))
    assert "journal damaged" in caplog.text and "in-flight-0" in caplog.text
    keys_file.remove(directory, 0)
    assert "journal not removed" in caplog.text


def test_a_symbolic_link_is_neither_read_nor_written(directory, path, tmp_path, caplog):
    (tmp_path / "precious").write_bytes(b"x" * keys_file.SIZE)
    os.symlink(tmp_path / "precious", path / "in-flight-0")
    assert has_overflowed(keys_file.read(directory, 0))
    KeysInFlight(keys_file.create(directory, 0)).add_key(b"k", 1)
    assert (tmp_path / "precious").read_bytes() == b"x" * keys_file.SIZE
    assert not os.path.islink(path / "in-flight-0")


def test_a_directory_that_is_not_usable(opened, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    directory = opened(tmp_path / "file" / "journal")
    assert not directory.usable
    assert keys_file.create(directory, 0) is None and keys_file.read(directory, 0) is None
    keys_file.remove(directory, 0)
    assert "journal failed" not in caplog.text


@pytest.fixture
def small(tmp_path):
    """A directory in a file system with room for one file of keys, not for two."""
    folder = tmp_path / "small"
    folder.mkdir()
    size = f"size={keys_file.SIZE * 3 // 2}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, timeout=PATIENCE).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder / "journal"
    subprocess.run(["umount", "-l", folder], check=True, timeout=PATIENCE)


@as_root
def test_a_full_disk(opened, small, caplog):
    """The keys are in memory only. If all processes of the service are killed, they are unknown."""
    directory = opened(small)
    first = keys_file.create(directory, 0)
    assert keys_file.create(directory, 1) is None
    assert f"journal failed file={small}/in-flight-1 detail='No space left on device'" in caplog.text
    assert directory.errors == 1
    assert has_overflowed(keys_file.read(directory, 1))
    keys_file.remove(directory, 1)
    (small / "filler").write_bytes(b"x" * os.statvfs(small).f_bavail * os.statvfs(small).f_bsize)
    keys = KeysInFlight(first)
    entries = [keys.add_key(b"%0250d" % number, 1) for number in range(8191)]
    assert len(list(keys_left(keys_file.read(directory, 0)))) == len(entries), "its room was reserved"


@as_root
def test_a_read_only_disk(opened, small, caplog):
    directory = opened(small)
    with Forked(begin=lambda: KeysInFlight(keys_file.create(directory, 0)).add_key(b"k", 1)) as process:
        process.call("begin")
    directory.close()
    subprocess.run(["mount", "-o", "remount,ro", small.parent], check=True, timeout=PATIENCE)
    directory = opened(small)
    assert keys_file.create(directory, 1) is None, "the directory is not usable"
    directory.usable = True  # it became read-only after the start
    assert keys_file.create(directory, 1) is None
    assert f"journal failed file={small}/in-flight-1 detail='Read-only file system'" in caplog.text
    assert list(keys_left(keys_file.read(directory, 0))) == [(1, b"k")]
    keys_file.remove(directory, 0)
    assert f"journal not removed file={small}/in-flight-0 detail='Read-only file system'" in caplog.text
