"""Detects whether a file has changed. Each check is a call, so no test waits."""

import os

import pytest

from gmproxy.system.file_watch import FileWatch


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    return path


@pytest.fixture
def watch(file):
    return FileWatch([str(file)])


def looks(watch, count):
    return [watch.has_changed() for _ in range(count)]


def test_nothing_changes(watch):
    assert looks(watch, 3) == [False] * 3


def test_a_change_counts_once_and_when_it_is_over(watch, file):
    file.write_text("second")
    assert looks(watch, 4) == [False, True, False, False]


def test_a_file_that_is_being_written_has_not_changed_yet(watch, file):
    for text in ("a longer text", "an even longer text"):
        file.write_text(text)
        assert not watch.has_changed()
    assert looks(watch, 2) == [True, False]


def test_a_file_that_is_replaced(watch, file, tmp_path):
    other = tmp_path / "other"
    other.write_text("two")
    facts = file.stat()
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.rename(file)
    assert looks(watch, 3) == [False, True, False]


def test_a_file_that_is_away_for_a_while(watch, file):
    file.unlink()
    assert looks(watch, 3) == [False] * 3
    file.write_text("again there")
    assert looks(watch, 3) == [False, True, False]


def test_what_is_behind_a_link(tmp_path):
    """In the way in which Kubernetes changes a ConfigMap."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("text")
    link = tmp_path / "now"
    link.symlink_to("one")
    watch = FileWatch([str(link / "file")])
    other = tmp_path / "next"
    other.symlink_to("two")
    other.rename(link)
    assert looks(watch, 3) == [False, True, False]


def test_one_of_many(watch, file, tmp_path):
    other = tmp_path / "other"
    other.write_text("x")
    watch = FileWatch([str(file), str(other)])
    other.write_text("longer")
    assert looks(watch, 3) == [False, True, False]


def test_no_file_at_all():
    assert looks(FileWatch([]), 2) == [False, False]
