"""The directory of the journal: its lock, what earlier processes have left, and what it does if the disk is at fault."""

import errno
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.timing import PATIENCE

from gmproxy.errors import StartError
from gmproxy.shared import journal_directory, journal_format
from gmproxy.shared.journal_directory import JournalDirectory, prepare
from gmproxy.system import daemon, safe_files

A = b"POOL primary a:1"

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a file system and act as another user")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "journal")


@pytest.fixture
def opened(path):
    """opened(path, lock): a JournalDirectory that is closed after the test."""
    directories = []

    def make(path=path, lock=-1):
        directories.append(JournalDirectory(str(path), lock))
        return directories[-1]

    yield make
    for directory in directories:
        directory.close()


def leave(directory, column=0, key=b"x"):
    """A worker notes `key` and ends."""
    journal = directory.journal(column, [A])
    journal.note(A, key)
    journal.close()


def test_a_missing_directory_is_made(opened, path):
    directory = opened()
    assert directory.usable and not directory.errors
    assert os.stat(path).st_mode & 0o7777 == 0o700
    assert directory.orphans() == []
    assert os.listdir(path) == ["lock"]


def test_what_was_left_is_found_and_removed(opened, path):
    directory = opened()
    leave(directory, 0)
    leave(directory, 12)
    directory.close()
    for name in "column-1.new", "column-x", "column-12345", "in-flight-15", "other":
        open(os.path.join(path, name), "w").close()
    directory = opened()
    assert directory.orphans() == [0, 12, 15]
    assert directory.read(12).keys == {A: {b"x"}}
    assert not directory.read(13)
    directory.erase(12)
    directory.erase(12)
    assert directory.orphans() == [0, 15]
    assert not directory.read(12)
    assert not directory.errors


def test_it_remains_open_in_no_program_that_is_executed(opened):
    directory = opened()
    leave(directory)
    assert not os.get_inheritable(directory.lock)
    for descriptor in os.listdir("/proc/self/fd"):
        target = os.readlink(f"/proc/self/fd/{descriptor}") if os.path.exists(f"/proc/self/fd/{descriptor}") else ""
        assert "journal" not in target or not os.get_inheritable(int(descriptor))


def test_closed_no_descriptor_is_left(opened):
    before = set(os.listdir("/proc/self/fd"))
    directory = opened()
    leave(directory)
    assert set(os.listdir("/proc/self/fd")) != before
    directory.close()
    directory.close()
    assert set(os.listdir("/proc/self/fd")) == before


# -- the lock


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(journal_directory, "LOCK_WAIT", 0)


def test_a_second_instance(opened, path, impatient):
    directory = opened()
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(StartError) as raised:
        opened()
    assert str(raised.value) == f"journal_dir: {path} is in use by another gmproxy"
    assert set(os.listdir("/proc/self/fd")) == before
    directory.close()
    assert opened().usable


#: Holds the lock, forks a worker that has it, too, and is killed. The worker ends when its input does.
HOLDER = """
import os, signal, sys
from gmproxy.shared.journal_directory import JournalDirectory
directory = JournalDirectory(sys.argv[1])
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
print("locked", flush=True)
sys.stdin.read()
"""


def test_it_waits_for_the_workers_of_a_master_that_was_killed(opened, path, monkeypatch):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"locked\n"
    holder.wait(PATIENCE)
    attempts = 0

    def sleep(seconds, real=journal_directory.time.sleep):
        nonlocal attempts
        attempts += 1
        if attempts == 2:
            holder.stdin.close()
        real(seconds)

    monkeypatch.setattr(journal_directory, "LOCK_WAIT", PATIENCE)
    monkeypatch.setattr(journal_directory.time, "sleep", sleep)
    assert opened().usable
    assert attempts >= 2
    holder.stdout.close()


def test_the_successor_takes_over_the_lock(opened, path, impatient):
    """It does not wait for its predecessor, and a third process is refused until both have ended."""
    directory = opened()
    leave(directory)
    successor = opened(path, os.dup(directory.lock))
    assert successor.usable and not os.get_inheritable(successor.lock)
    assert successor.read(0).keys == {A: {b"x"}}
    directory.close()
    with pytest.raises(StartError):
        opened()
    successor.close()
    assert opened().usable


def test_a_successor_with_another_directory(opened, path, tmp_path, impatient):
    """The lock that was passed on is of no use, and is released."""
    directory = opened()
    successor = opened(tmp_path / "other", os.dup(directory.lock))
    assert successor.usable
    directory.close()
    assert opened().usable


# -- a lock file that is not as it should be


@pytest.mark.parametrize("contents", [b"", b"#" * 5000, b"gmproxyJ"])
def test_a_damaged_lock_file(opened, path, contents):
    """The disk was full when it was made, or something has happened to it: what was pending is not known. Column 0 says so until it is taken
    over."""
    directory = opened()
    directory.close()
    with open(os.path.join(path, "lock"), "wb") as file:
        file.write(contents)
    for _ in range(2):
        directory = opened()
        assert directory.usable
        assert directory.orphans() == [0]
        assert directory.read(0).damaged == "records could not be written"
        directory.close()
    directory = opened()
    directory.erase(0)
    assert directory.orphans() == []
    directory.close()
    assert opened().orphans() == []


def test_a_disk_that_is_full_when_the_lock_is_made(opened, path, monkeypatch, caplog):
    """The service runs, and every start flushes the servers until the disk has space."""

    def pwrite(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", pwrite)
        directory = opened()
        assert directory.usable and directory.errors == 1
        journal = directory.journal(3, [A])
        journal.note(A, b"x")
        journal.write()
        assert not journal.unrecorded
        journal.close()
        directory.close()
    assert os.stat(os.path.join(path, "lock")).st_size == 0
    directory = opened()
    assert directory.orphans() == [0]
    assert directory.read(0).damaged
    assert f"journal failed file={path} detail='No space left on device'" in caplog.text


def test_columns_that_could_not_be_written(opened):
    directory = opened()
    assert directory.set_unwritten(5, True)
    assert directory.set_unwritten(journal_directory.MAX_COLUMNS - 1, True)
    assert directory.orphans() == [5, journal_directory.MAX_COLUMNS - 1]
    directory.close()
    directory = opened()
    assert directory.orphans() == [5, journal_directory.MAX_COLUMNS - 1]
    assert directory.read(5).damaged and not directory.read(6)
    directory.erase(5)
    assert directory.set_unwritten(journal_directory.MAX_COLUMNS - 1, False)
    assert directory.orphans() == []
    assert os.fstat(directory.lock).st_size == journal_format.HEADER_SIZE


# -- faults


def of_all(directory):
    """What is read of the first column, and of each that was left."""
    return [(column, bool(directory.read(column).damaged)) for column in directory.orphans()]


def test_a_directory_that_cannot_be_made(opened, tmp_path, caplog):
    """Nothing can have been left there, so no server is flushed."""
    path = tmp_path / "missing" / "journal"
    directory = opened(path)
    assert not directory.usable and directory.errors == 1
    assert directory.orphans() == []
    assert not directory.read(0)
    assert [record.getMessage() for record in caplog.records] == [
        f"journal not used file={path} detail='cannot create it: No such file or directory'"
    ]
    journal = directory.journal(0, [A])
    journal.note(A, b"x")
    journal.write()
    assert not journal.is_complete and not journal.needs_rewrite
    directory.erase(0)
    assert not directory.set_unwritten(0, True)


def test_what_is_no_directory(opened, path, caplog):
    open(path, "w").close()
    directory = opened()
    assert not directory.usable
    assert of_all(directory) == [(0, True)]
    assert "Not a directory" in caplog.text


def test_a_directory_that_other_users_may_write_to(opened, path, caplog):
    os.mkdir(path)
    os.chmod(path, 0o1777)
    directory = opened()
    assert not directory.usable
    assert of_all(directory) == [(0, True)]
    assert "detail='other users may write to it'" in caplog.text


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_directory_that_cannot_be_opened(opened, path, monkeypatch, number):
    leave(opened())
    real = os.open

    def open_(name, flags, *rest, **more):
        if flags & os.O_DIRECTORY and not flags & os.O_PATH and name == "journal":
            raise OSError(number, os.strerror(number))
        return real(name, flags, *rest, **more)

    monkeypatch.setattr(os, "open", open_)
    directory = opened()
    assert not directory.usable
    assert of_all(directory) == [(0, True)]


def test_a_directory_that_cannot_be_listed(opened, path, monkeypatch):
    directory = opened()
    leave(directory, 1)

    def listdir(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "listdir", listdir)
    assert directory.orphans() == [0]
    assert directory.read(0).damaged
    directory.erase(0)
    assert not directory.read(0)


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "directory"])
def test_a_file_of_another_kind(opened, path, tmp_path, kind):
    """No link is followed, and nothing waits for the writer of a pipe."""
    directory = opened()
    leave(directory, 7)
    name, other = os.path.join(path, "column-0"), tmp_path / "other"
    if kind == "link":
        os.rename(os.path.join(path, "column-7"), other)
        os.symlink(other, name)
    elif kind == "dangling":
        os.symlink(other, name)
    elif kind == "pipe":
        os.mkfifo(name)
    else:
        os.mkdir(name)
    assert directory.read(0).damaged
    if kind == "directory":
        directory.erase(0)
        assert os.path.isdir(name)
        assert directory.journal(0).failed
    else:
        journal = directory.journal(0, [A])
        assert journal.is_complete and not os.path.islink(name) and os.path.isfile(name)
        assert kind != "dangling" or not other.exists()


def test_a_lock_that_is_a_link(opened, path, tmp_path):
    os.mkdir(path)
    os.symlink(tmp_path / "other", os.path.join(path, "lock"))
    assert not opened().usable
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", ["pipe", "directory"])
def test_a_lock_of_another_kind(opened, path, kind):
    os.mkdir(path)
    (os.mkfifo if kind == "pipe" else os.mkdir)(os.path.join(path, "lock"))
    assert not opened().usable


def test_a_file_that_cannot_be_removed(opened, path, monkeypatch, caplog):
    directory = opened()
    leave(directory)

    def unlink(name, **more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", unlink)
        directory.erase(0)
    assert f"journal not removed file={path}/column-0 detail='Read-only file system'" in caplog.text
    assert directory.orphans() == [0]


@as_root
def test_a_read_only_file_system(opened, tmp_path, path, impatient, caplog):
    """What can be read is read; but the process before may have been unable to write, so all servers are flushed. A second instance is refused."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True, timeout=PATIENCE).returncode:
        pytest.skip("no file system can be mounted here")
    directory = None
    try:
        directory = opened(small / "journal")
        leave(directory)
        directory.close()
        subprocess.run(["mount", "-o", "remount,ro", small], check=True, timeout=PATIENCE)
        directory = opened(small / "journal")
        assert not directory.usable and directory.orphans() == [0]
        found = directory.read(0)
        assert found.keys == {A: {b"x"}} and found.damaged
        assert f"journal not used file={small}/journal detail='Read-only file system'" in caplog.text
        with pytest.raises(StartError):
            opened(small / "journal")
        journal = directory.journal(1, [A])
        journal.note(A, b"y")
        journal.write()
        assert not journal.is_complete
        directory.erase(0)
        directory.close()
        directory = opened(small / "empty")
        assert not directory.usable and directory.orphans() == []
    finally:
        if directory is not None:
            directory.close()
        subprocess.run(["umount", small], check=True, timeout=PATIENCE)


# -- another user

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def entered():
    """A directory that other users may enter, and in whose path only root can change anything: /tmp is none."""
    with tempfile.TemporaryDirectory(prefix="gmproxy-", dir="/run") as name:
        if not safe_files.is_safe(f"{name}/journal"):
            pytest.skip("others may write in /run")
        os.chmod(name, 0o755)
        yield Path(name)


@as_root
def test_the_directory_is_made_for_another_user(entered):
    path = str(entered / "journal")
    for _ in range(2):
        prepare(path, "nobody", "")
        with daemon.acting_as("nobody", ""):
            directory = JournalDirectory(path)
            assert directory.usable
            leave(directory)
            directory.close()
    status = os.stat(path)
    assert (status.st_uid, status.st_mode & 0o7777) == (NOBODY.pw_uid, 0o700)


@as_root
def test_a_directory_that_the_user_may_make(entered):
    os.mkdir(entered / "own")
    os.chown(entered / "own", NOBODY.pw_uid, NOBODY.pw_gid)
    prepare(str(entered / "own" / "journal"), "nobody", "")
    assert os.stat(entered / "own" / "journal").st_uid == NOBODY.pw_uid


@as_root
def test_what_root_has_left_is_read_by_the_user(entered):
    """The service ran as root, and now has a user."""
    path = str(entered / "journal")
    directory = JournalDirectory(path)
    leave(directory)
    directory.close()
    prepare(path, "nobody", "daemon")
    with daemon.acting_as("nobody", "daemon"):
        directory = JournalDirectory(path)
        assert directory.usable and directory.read(0).keys == {A: {b"x"}} and not directory.errors
        directory.close()


@as_root
@pytest.mark.parametrize("what", ["other file", "mode", "link", "owner"])
def test_no_other_directory_changes_its_owner(entered, what):
    path = entered / "journal"
    path.mkdir(mode=0o700)
    if what == "other file":
        (path / "passwd").touch()
    elif what == "mode":
        path.chmod(0o755)
    elif what == "link":
        path.rename(entered / "other")
        path.symlink_to(entered / "other")
    else:
        os.chown(path, 1, 1)
    before = os.stat(path).st_uid
    prepare(str(path), "nobody", "")
    assert os.stat(path).st_uid == before


@as_root
def test_nothing_is_made_where_the_user_can_change_the_path(entered):
    """Root does not follow what the user may have put there."""
    own = entered / "own"
    own.mkdir()
    os.chown(own, NOBODY.pw_uid, NOBODY.pw_gid)
    (own / "journal").mkdir(mode=0o700)
    prepare(str(own / "journal"), "nobody", "")
    assert os.stat(own / "journal").st_uid == 0


@pytest.mark.parametrize("user", ["", "root"])
def test_without_a_change_of_user_nothing_is_made(tmp_path, user):
    prepare(str(tmp_path / "journal"), user, "")
    assert not (tmp_path / "journal").exists()


def test_an_unknown_user(tmp_path):
    with pytest.raises(StartError, match="there is no user 'nobody-here'"):
        prepare(str(tmp_path / "journal"), "nobody-here", "")
