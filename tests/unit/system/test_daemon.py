"""Another user, the pid file, the background. The calls that only root may make are replaced and recorded."""

import grp
import os
import pwd
import subprocess
import sys

import pytest
from support.timing import PATIENCE

from gmproxy.errors import StartError
from gmproxy.system import daemon, safe_files

NOBODY = pwd.getpwnam("nobody")


class Calls(list):
    """Replaces the system calls that change the user and the groups of the process."""

    def __init__(self, monkeypatch, uid, gid=0):
        super().__init__()
        monkeypatch.setattr(os, "getuid", lambda: uid)
        monkeypatch.setattr(os, "getgid", lambda: gid)
        for name in ("setgroups", "setgid", "setuid"):
            monkeypatch.setattr(os, name, self.noting(name))

    def noting(self, name):
        return lambda *arguments: self.append((name, *arguments))


@pytest.fixture
def as_root(monkeypatch):
    return Calls(monkeypatch, uid=0)


@pytest.fixture
def as_nobody(monkeypatch):
    return Calls(monkeypatch, uid=NOBODY.pw_uid, gid=NOBODY.pw_gid)


# -- become


@pytest.mark.parametrize("user", ["nobody", str(NOBODY.pw_uid)])
def test_groups_first_and_the_user_last(as_root, user):
    daemon.drop_privileges(user, "")
    gid = NOBODY.pw_gid
    assert as_root == [("setgroups", os.getgrouplist("nobody", gid)), ("setgid", gid), ("setuid", NOBODY.pw_uid)]


def test_a_group_of_its_own(as_root):
    daemon.drop_privileges("nobody", "daemon")
    gid = grp.getgrnam("daemon").gr_gid
    assert as_root == [("setgroups", os.getgrouplist("nobody", gid)), ("setgid", gid), ("setuid", NOBODY.pw_uid)]


def test_only_a_group(as_root):
    daemon.drop_privileges("", "daemon")
    gid = grp.getgrnam("daemon").gr_gid
    assert as_root == [("setgroups", [gid]), ("setgid", gid)]


def test_nothing_is_asked(as_root):
    daemon.drop_privileges("", "")
    assert as_root == []


@pytest.mark.parametrize(
    "user, group, why",
    [
        ("no-such-user", "", "there is no user 'no-such-user'"),
        ("", "no-such-group", "there is no group 'no-such-group'"),
        ("4294967294", "", "there is no user '4294967294'"),
        ("9" * 5000, "", "there is no user '999"),
        ("\N{SUPERSCRIPT TWO}", "", "there is no user"),
        ("", "\N{SUPERSCRIPT TWO}", "there is no group"),
        ("+4294967295", "", r"there is no user '\+4294967295'"),
    ],
)
def test_nobody_of_that_name(as_root, user, group, why):
    with pytest.raises(StartError, match=why):
        daemon.drop_privileges(user, group)
    assert as_root == []


def test_only_root_can_become_another(as_nobody):
    for user, group in (("root", ""), ("", "daemon"), ("nobody", "daemon")):
        with pytest.raises(StartError, match="only root can change user or group"):
            daemon.drop_privileges(user, group)
    assert as_nobody == []


def test_to_be_who_one_is_takes_no_root(as_nobody):
    daemon.drop_privileges("nobody", "")
    daemon.drop_privileges("", NOBODY.pw_gid and str(NOBODY.pw_gid))
    assert as_nobody == []


def test_a_refusal_is_fatal(as_root, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setgid", refuse)
    with pytest.raises(StartError, match="cannot change to user nobody group -: Operation not permitted"):
        daemon.drop_privileges("nobody", "")
    assert ("setuid", NOBODY.pw_uid) not in as_root


# -- the pid file


def test_the_pid_file_comes_and_goes(tmp_path):
    path = tmp_path / "pid"
    daemon.write_pid_file(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    daemon.remove_pid_file(str(path))
    assert not path.exists()


@pytest.fixture
def sleeper():
    """Call it with words for a process that sleeps and has them on its command line. Returns its pid."""
    children = []

    def start(*words):
        children.append(
            subprocess.Popen([sys.executable, "-c", "print(1, flush=True); import time; time.sleep(600)", *words], stdout=subprocess.PIPE)
        )
        children[-1].stdout.readline()
        return children[-1].pid

    yield start
    for child in children:
        child.kill()
        child.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("word", ["gmproxy", "/usr/bin/gmproxy", "/usr/bin/magent", "from gmproxy.cli import magent"])
def test_another_one_is_running(tmp_path, sleeper, word):
    path = tmp_path / "pid"
    pid = sleeper(word)
    path.write_text(f"{pid}\n")
    with pytest.raises(StartError, match=f"pid file {path}: process {pid} is running"):
        daemon.write_pid_file(str(path))
    assert path.read_text() == f"{pid}\n"
    daemon.write_pid_file(str(path), predecessor=pid)
    assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("word", ["/etc/gmproxy.conf", "memcached", ""])
def test_another_program_has_the_number_now(tmp_path, sleeper, word):
    path = tmp_path / "pid"
    path.write_text(f"{sleeper(word)}\n")
    daemon.write_pid_file(str(path))
    assert path.read_text() == f"{os.getpid()}\n"


def test_another_one_of_another_user_is_running(tmp_path, monkeypatch, sleeper):
    def forbidden(pid, number):
        raise PermissionError

    path = tmp_path / "pid"
    path.write_text(f"{sleeper('gmproxy')}\n")
    with monkeypatch.context() as context, pytest.raises(StartError, match="is running"):
        context.setattr(os, "kill", forbidden)
        daemon.write_pid_file(str(path))


def test_the_owner_of_what_we_make(monkeypatch):
    assert daemon.user_ids("", "") == (-1, -1)
    assert daemon.user_ids("nobody", "") == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert daemon.user_ids("nobody", "daemon") == (NOBODY.pw_uid, grp.getgrnam("daemon").gr_gid)
    assert daemon.user_ids("", "daemon") == (-1, grp.getgrnam("daemon").gr_gid)


def dead_process():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(PATIENCE)
    return str(child.pid)


@pytest.mark.parametrize("text", [dead_process, lambda: "", lambda: "no number\n", lambda: f"{os.getpid()}\n"])
def test_what_was_left_behind_is_replaced(tmp_path, text):
    path = tmp_path / "pid"
    path.write_text(text())
    daemon.write_pid_file(str(path))
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_pid_file_of_another_is_not_removed(tmp_path):
    path = tmp_path / "pid"
    path.write_text("1\n")
    daemon.remove_pid_file(str(path))
    assert path.read_text() == "1\n"
    daemon.remove_pid_file(str(tmp_path / "nothing"))


def test_a_file_that_root_wrote_in_a_directory_of_ours_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "pid"
    path.write_text("")
    os.chmod(path, 0o444)
    before = path.stat().st_ino
    daemon.write_pid_file(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_ino != before
    assert os.listdir(tmp_path) == ["pid"]


def test_a_file_of_ours_in_a_directory_that_is_not_is_written_into(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "pid"
    path.write_text("a number that was left, and more")
    monkeypatch.setattr(safe_files, "replace", refuse)
    daemon.write_pid_file(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    os.link(path, tmp_path / "other")  # perhaps a link to a file that another user wants to be overwritten
    with pytest.raises(
        StartError, match="cannot write pid file .*: it is not a regular file owned by root or this user with exactly one hard link"
    ):
        daemon.write_pid_file(str(path))
    with pytest.raises(StartError, match="cannot write pid file .*: Permission denied"):
        daemon.write_pid_file(str(tmp_path / "none"))


@pytest.mark.parametrize(
    "make, why",
    [
        (lambda path: path.symlink_to(path.parent / "target"), "a symbolic link"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "a symbolic link"),
    ],
)
def test_only_a_regular_file_is_a_pid_file(tmp_path, make, why):
    path = tmp_path / "pid"
    (tmp_path / "target").write_text("precious")
    make(path)
    with pytest.raises(StartError, match=f"cannot read pid file {path}: it is {why}"):
        daemon.write_pid_file(str(path))
    daemon.remove_pid_file(str(path))
    assert os.path.lexists(path)
    assert (tmp_path / "target").read_text() == "precious"


def test_a_pid_file_that_cannot_be_written(tmp_path):
    with pytest.raises(StartError, match="cannot write pid file"):
        daemon.write_pid_file(str(tmp_path / "nowhere" / "pid"))
    with pytest.raises(StartError, match="cannot read pid file"):
        daemon.write_pid_file(str(tmp_path))


# -- the background

BACKGROUND = """
import os, sys
from gmproxy.system import daemon
pipe = daemon.go_to_background()
with open(sys.argv[1], "w") as file:
    file.write(f"{os.getcwd()} {os.getsid(0) != os.getpid()} {[os.readlink(f'/proc/self/fd/{number}') for number in (0, 1, 2)]}")
print("not seen by anybody")
daemon.StartReport(pipe).report(sys.argv[2])
"""


def start_in_background(path, message):
    return subprocess.run([sys.executable, "-c", BACKGROUND, str(path), message], capture_output=True, text=True, timeout=20)


def test_ready_in_the_background(tmp_path):
    done = start_in_background(tmp_path / "facts", "ready")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "facts").read_text() == "/ True ['/dev/null', '/dev/null', '/dev/null']"


def test_trouble_in_the_background_is_told_in_the_foreground(tmp_path):
    done = start_in_background(tmp_path / "facts", "cannot do it\n")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "cannot do it\n")


def test_death_in_the_background_is_told_too(tmp_path):
    done = start_in_background(tmp_path / "no" / "where", "ready")
    assert (done.returncode, done.stderr) == (1, "the background process exited during start-up\n")


def test_whoever_waited_has_gone():
    reading, writing = os.pipe()
    os.close(reading)
    report = daemon.StartReport(writing)
    report.report("ready")
    report.report("ready")
    assert report.pipe is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_what_another_user_may_not_open(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    os.chmod(path, 0o600)
    with pytest.raises(PermissionError), daemon.acting_as("nobody", "daemon"):
        assert (os.geteuid(), os.getegid(), os.getuid()) == (NOBODY.pw_uid, grp.getgrnam("daemon").gr_gid, 0)
        open(path)
    assert (os.geteuid(), os.getegid()) == (0, 0)
    with daemon.acting_as("", ""), open(path):
        pass
