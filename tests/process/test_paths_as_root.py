"""Started as root, with files in a directory of the user that it changes to: that user can make it change nothing but the service's own files."""

import contextlib
import functools
import os
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from support.servers import COMMANDS, HOST, Proxy, environment, free_port, run
from support.timing import PATIENCE, eventually, wait_for_child

from gmproxy.system import control_socket

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be had to do what others may not")


@pytest.fixture
def directories():
    """A directory of the user nobody, and one of root with a file in it."""
    with tempfile.TemporaryDirectory(prefix="gmproxy-") as above:  # the user nobody may not enter pytest's directory
        os.chmod(above, 0o755)
        theirs, roots = Path(above, "run"), Path(above, "root")
        theirs.mkdir()
        os.chown(theirs, NOBODY, NOBODY)
        roots.mkdir(0o700)
        (roots / "file").write_text("precious")
        os.chmod(roots / "file", 0o600)
        yield theirs, roots


@contextlib.contextmanager
def swapping(path, target):
    """A process of the user nobody creates a link to `target` at `path`, as fast as it can."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            fresh = f"{path}.link"
            while True:
                with contextlib.suppress(OSError):
                    os.symlink(target, fresh)
                with contextlib.suppress(OSError):
                    os.rename(fresh, path)
                    os.write(writing, b"x")
                with contextlib.suppress(OSError):
                    os.unlink(path)
        finally:
            os._exit(1)
    try:
        eventually(functools.partial(_has_come, reading), what="the first link")
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        wait_for_child(child)
        os.close(reading)
        os.close(writing)


def start_and_end(*arguments):
    """It may end with an error: the link is refused, or the user nobody may not read this Python. If there is no link at that moment, it serves."""
    command = [*COMMANDS["gmproxy"], *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(), cwd="/") as child:
        try:
            serves = "serving" in child.stderr.readline()
            if serves:
                child.terminate()
            child.communicate(timeout=PATIENCE)
        finally:
            child.kill()
    assert child.returncode == (0 if serves else 1)


def _has_come(descriptor):
    try:
        return os.read(descriptor, 1)
    except BlockingIOError:
        return False


def facts(roots):
    """All that could be changed there."""
    found = {name: os.lstat(roots / name) for name in (".", *sorted(os.listdir(roots)))}
    return [(name, each.st_uid, each.st_gid, stat.S_IMODE(each.st_mode), name != "." and each.st_size) for name, each in found.items()]


@pytest.mark.parametrize("starts", [4, pytest.param(20, marks=pytest.mark.long)])
@pytest.mark.parametrize("option", ["--control", "--unix-socket", "--pid-file"])
def test_a_link_that_comes_and_goes(directories, option, starts):
    theirs, roots = directories
    before = facts(roots)
    path = theirs / "it"
    with swapping(path, roots / "file"):
        for _ in range(starts):
            start_and_end("-s", f"{HOST}:1", "-l", HOST, "-p", free_port(), "-u", "nobody", "--unix-mode", "0777", option, path)
            assert facts(roots) == before
    assert (roots / "file").read_text() == "precious"


@pytest.mark.parametrize(
    "option, why",
    [
        ("--control", "the file exists and is not a socket"),
        ("--unix-socket", "the file exists and is not a socket"),
        ("--pid-file", "a symbolic link"),
        ("--log-file", "cannot write log file"),
    ],
)
@pytest.mark.parametrize("target", ["file", "new"])
def test_a_link_that_is_there(directories, option, why, target):
    theirs, roots = directories
    before = facts(roots)
    path = theirs / "it"
    path.symlink_to(roots / target)
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    done = run("-s", f"{HOST}:1", "-l", HOST, "-p", free_port(), "-u", "nobody", option, path, cwd="/")
    assert (done.returncode, why in done.stderr) == (1, True)
    assert facts(roots) == before


@pytest.mark.parametrize("option", ["--control", "--unix-socket", "--pid-file", "--log-file"])
def test_a_directory_that_is_a_link(directories, option):
    theirs, roots = directories
    before = facts(roots)
    (theirs / "folder").symlink_to(roots)
    os.chown(theirs / "folder", NOBODY, NOBODY, follow_symlinks=False)
    done = run("-s", f"{HOST}:1", "-l", HOST, "-p", free_port(), option, theirs / "folder" / "new", cwd="/")
    assert (done.returncode, "the path contains a symbolic link of another user" in done.stderr) == (1, True)
    assert facts(roots) == before


def test_roots_log_is_not_written_into_a_file_with_another_name(directories):
    theirs, roots = directories
    before = facts(roots)
    os.link(roots / "file", theirs / "log")  # where the system lets users make such links
    done = run("-s", f"{HOST}:1", "-l", HOST, "-p", free_port(), "--log-file", theirs / "log", cwd="/")
    assert (done.returncode, "several hard links" in done.stderr) == (1, True)
    assert facts(roots) == before


def test_all_in_a_directory_of_the_user_without_any_link(directories, memcached):
    """The arguments are those of the init script, but the service stays root."""
    theirs, _ = directories
    with Proxy(
        "-s",
        memcached().address,
        "-f",
        theirs / "sock",
        "--unix-mode",
        "0620",
        "--control",
        theirs / "control",
        "-g",
        "daemon",
        "--pid-file",
        theirs / "pid",
        "--log-file",
        theirs / "log",
    ) as process:
        modes = {name: stat.S_IMODE(os.lstat(theirs / name).st_mode) for name in os.listdir(theirs)}
        assert modes == {"sock": 0o620, "control": 0o660, "pid": 0o644, "log": 0o640}
        assert os.lstat(theirs / "control").st_gid == 1
        assert control_socket.send_command(str(theirs / "control"), "pids")["pid"] == process.pid
        assert process.stop() == 0
        assert os.listdir(theirs) == ["log"]
