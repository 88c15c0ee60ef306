"""Paths: links made by root or this user are followed, those made by another user are not."""

import errno
import os
import stat

import pytest

from gmproxy.system import safe_files

NOBODY = 65534

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of another user")


def read(path):
    with os.fdopen(safe_files.open_file(str(path), os.O_RDONLY)) as file:
        return file.read()


@pytest.fixture
def there(tmp_path):
    """A directory with a file, and links to both made by this user."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("text")
    (tmp_path / "absolute").symlink_to(tmp_path / "real")
    (tmp_path / "relative").symlink_to("./real/../real")
    (tmp_path / "real" / "link").symlink_to("file")
    return tmp_path


@pytest.mark.parametrize("path", ["real/file", "absolute/file", "relative/file", "absolute/link", "real/../real/file", "real//./file"])
def test_links_of_ours_are_followed(there, path):
    assert read(there / path) == "text"
    with safe_files.parent(f"{there}/{path}") as (directory, name):
        assert os.stat(name, dir_fd=directory, follow_symlinks=False)


def test_a_relative_path(there, monkeypatch):
    monkeypatch.chdir(there)
    assert read("real/file") == read("absolute/link") == "text"


@needs_root
@pytest.mark.parametrize("path", ["absolute/file", "relative/file", "real/link"])
def test_links_of_others_are_not(there, path):
    for link in (there / "absolute", there / "relative", there / "real" / "link"):
        os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(OSError) as failure:
        read(there / path)
    assert failure.value.errno == errno.ELOOP


def test_links_in_a_circle(tmp_path):
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    with pytest.raises(OSError) as failure:
        read(tmp_path / "one")
    assert failure.value.errno == errno.ELOOP


@pytest.mark.parametrize(
    "path, number",
    [
        ("", errno.EISDIR),
        ("/", errno.EISDIR),
        (".", errno.EISDIR),
        ("real/", errno.EISDIR),
        ("none/file", errno.ENOENT),
        ("real/file/x", errno.ENOTDIR),
    ],
)
def test_what_is_no_path_of_a_file(there, monkeypatch, path, number):
    monkeypatch.chdir(there)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError) as failure, safe_files.parent(path):
        pass
    assert failure.value.errno == number
    assert len(os.listdir("/proc/self/fd")) == before


def test_our_own_descriptors(there):
    with open(there / "real" / "file") as file:
        assert read(f"/proc/self/fd/{file.fileno()}") == "text"
        (there / "std").symlink_to(f"/proc/self/fd/{file.fileno()}")  # as for /dev/stdout
        assert read(there / "std") == "text"


def test_a_file_is_replaced_whole(there):
    (there / "real" / "other").hardlink_to(there / "real" / "file")
    with safe_files.parent(str(there / "real" / "file")) as (directory, name):
        safe_files.replace(directory, name, b"new", 0o640)
    assert (there / "real" / "file").read_text() == "new"
    assert (there / "real" / "other").read_text() == "text"
    assert sorted(os.listdir(there / "real")) == ["file", "link", "other"]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with safe_files.parent(str(tmp_path / "pipe")) as (directory, name), pytest.raises(OSError, match="not a regular file"):
        safe_files.read_small(directory, name, 10)


@needs_root
def test_where_only_we_can_change_anything(tmp_path):
    assert safe_files.is_safe("/etc/passwd")
    os.chmod(tmp_path, 0o777)
    assert not safe_files.is_safe(str(tmp_path / "file"))
    os.chmod(tmp_path, 0o700)
    os.chown(tmp_path, NOBODY, NOBODY)
    assert not safe_files.is_safe(str(tmp_path / "file"))


def test_a_private_directory(tmp_path):
    with safe_files.parent(str(tmp_path / "x")) as (directory, _):
        with safe_files.private_directory(directory) as (inside, name):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700
            assert os.path.samestat(os.fstat(inside), (tmp_path / name).stat())
        assert os.listdir(tmp_path) == []


@needs_root
def test_a_private_directory_that_another_user_has_replaced(tmp_path, monkeypatch):
    make = os.mkdir

    def make_anothers(name, mode, dir_fd):
        make(name, mode, dir_fd=dir_fd)
        os.chown(name, NOBODY, NOBODY, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", make_anothers)
    with (
        safe_files.parent(str(tmp_path / "x")) as (directory, _),
        pytest.raises(OSError, match="another user"),
        safe_files.private_directory(directory),
    ):
        pass
