"""Started as root with -u, in a separate system where only root may write to /run and /var/log: which files are left, and who owns them."""

import functools
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.servers import HOST, environment, free_port
from support.timing import PATIENCE, eventually, wait_for_child

from gmproxy.errors import StartError
from gmproxy.system import daemon, pid_keeper

USER = "nobody"
ROOT = Path(__file__).resolve().parents[2]

#: Mounts empty directories at /run and /var/log, makes the Python that runs this accessible to all users, then runs the command.
PREPARE = """
set -e
mount --make-rprivate /
if [ -n "$1" ]; then
    kept=$(mktemp -d); mount --bind "$2" "$kept"; mount -t tmpfs -o mode=755 tmpfs "$1"; mkdir -p "$2"; mount --bind "$kept" "$2"
fi
mount -t tmpfs -o mode=755 tmpfs /var/log
mount -t tmpfs -o mode=755 tmpfs /run
rm -rf /run/mount  # mount's own notes
shift 2
exec "$@"
"""


def closed_directory(path):
    """The first directory in `path` that other users may not enter, or ""."""
    closed = [parent for parent in (*reversed(path.parents), path) if not parent.stat().st_mode & 0o001]
    return str(closed[0]) if closed else ""


@pytest.fixture
def system():
    """Call it with a shell script, which finds the command gmproxy and nutcracker.yml. Returns what it wrote to (stdout, stderr)."""
    if os.getuid() != 0 or not shutil.which("unshare"):
        pytest.skip("only root can be had to change the user")
    base = Path(sys.base_prefix).resolve()
    if closed_directory(ROOT) or closed_directory(Path(sys.prefix)):
        pytest.skip("others may not read this copy of gmproxy")
    with tempfile.TemporaryDirectory(prefix="gmproxy-") as name:  # the user nobody may not enter pytest's directory
        directory = Path(name)
        directory.chmod(0o755)
        command = directory / "gmproxy"
        command.write_text(f"#!{sys.executable}\nimport sys\nfrom gmproxy.cli import main\nsys.exit(main())\n")
        command.chmod(0o755)
        (directory / "nutcracker.yml").write_text(f"alpha:\n  listen: {HOST}:{free_port()}\n  servers:\n    - {HOST}:1:1\n")
        yield functools.partial(_run_in, directory, base)


def _run_in(directory, base, script):
    command = ["unshare", "--mount", "sh", "-c", PREPARE, "sh", closed_directory(base), str(base), "sh", "-c", f"{AT_LAST}{script}"]
    variables = environment(PATH=f"{directory}:{os.environ['PATH']}")
    done = subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, timeout=3 * PATIENCE)
    if "mount" in done.stderr or done.stderr.startswith("unshare: "):
        pytest.skip(f"no mount namespace: {done.stderr.strip()}")
    return done.stdout, done.stderr


#: Ends the service when a script ends.
AT_LAST = "trap '[ ! -e /run/gmproxy.pid ] || kill $(cat /run/gmproxy.pid)' EXIT\n"

START = "gmproxy -c nutcracker.yml --daemon --pid-file /run/gmproxy.pid --log-file /var/log/gmproxy.log -u nobody"
UNTIL = f"for _ in $(seq {int(PATIENCE * 20)}); do {{}} && break; sleep 0.05; done\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_the_line_of_the_guide(workers, system):
    """It starts, is upgraded and ends. Only the log is left."""
    out, err = system(
        f"{START} --workers {workers} || exit 1\n"
        "pid=$(cat /run/gmproxy.pid)\n"
        "stat -c '%U %a' /run/gmproxy.pid; stat -c %U /var/log/gmproxy.log; stat -c %U /proc/$pid\n"
        "kill -USR2 $pid\n" + UNTIL.format('[ "$(cat /run/gmproxy.pid)" != $pid ]') + "pid=$(cat /run/gmproxy.pid); stat -c %U /proc/$pid\n"
        "kill $pid\n" + UNTIL.format("[ ! -e /proc/$pid/exe ]") + UNTIL.format("[ ! -e /run/gmproxy.pid ]") + "ls -A /run\n"
        "grep -c 'upgraded successor=' /var/log/gmproxy.log\n"
    )
    assert (out.split(), err) == (["root", "644", USER, USER, USER, "1"], "")


def test_killed_it_leaves_no_pid_file(system):
    out, err = system(f"{START} || exit 1\nkill -9 $(cat /run/gmproxy.pid)\n{UNTIL.format('[ ! -e /run/gmproxy.pid ]')}echo gone\n")
    assert (out, err) == ("gone\n", "")


@pytest.mark.parametrize(
    "line, why",
    [
        (f"{START} --control /no/such/directory", "cannot listen on /no/such/directory"),
        (START.replace(" -u ", " -u no-such-user-of-"), "there is no user"),
        (START.replace("/var/log/gmproxy", "/var/log/none/gmproxy"), "cannot write log file"),
    ],
)
def test_a_start_that_fails_leaves_nothing(line, why, system):
    out, err = system(f"{line}; echo $?; ls -A /run")
    assert (out, why in err) == ("1\n", True)


def test_a_log_that_others_could_replace_is_not_given_away(system):
    """A file of root in a directory of the user remains root's."""
    out, err = system(
        "mkdir /var/log/theirs; touch /var/log/theirs/log; chmod 600 /var/log/theirs/log; chown nobody /var/log/theirs\n"
        f"{START.replace('/var/log/', '/var/log/theirs/').replace('gmproxy.log', 'log')}; echo $?; stat -c %U /var/log/theirs/log; ls -A /run"
    )
    assert (out, "cannot write log file" in err) == ("1\nroot\n", True)


def test_the_log_of_an_earlier_start_as_root_goes_on(system):
    out, err = system(
        f"echo before > /var/log/gmproxy.log; {START} && kill $(cat /run/gmproxy.pid)\n"
        "stat -c %U /var/log/gmproxy.log; head -1 /var/log/gmproxy.log"
    )
    assert (out, err) == (f"{USER}\nbefore\n", "")


# -- the keeper of the pid file, alone


def test_the_keeper_removes_the_file_of_its_service(tmp_path):
    path = str(tmp_path / "pid")
    daemon.write_pid_file(path)
    keeper = pid_keeper.PidKeeper.start(path)
    keeper.remove()
    assert not os.path.exists(path)


def test_it_does_so_when_the_service_dies(tmp_path):
    path, started = str(tmp_path / "pid"), tmp_path / "started"
    child = os.fork()
    if not child:
        try:
            daemon.write_pid_file(path)
            keeper = pid_keeper.PidKeeper.start(path)
            started.write_text(str(keeper.descriptor))
            signal.pause()
        finally:
            os._exit(1)
    try:
        eventually(started.exists, what="the keeper has started")
        assert os.path.exists(path)
    finally:
        os.kill(child, signal.SIGKILL)
        wait_for_child(child)
    eventually(lambda: not os.path.exists(path), what="the pid file is removed")


def test_a_successor_has_its_own_number_written(tmp_path):
    """And no other: the kernel reports who sends the request."""
    path = str(tmp_path / "pid")
    daemon.write_pid_file(path)
    keeper = pid_keeper.PidKeeper.start(path)
    child = os.fork()
    if not child:
        try:
            keeper.write()
            signal.pause()
        finally:
            os._exit(1)
    try:
        eventually(lambda: Path(path).read_text().strip() == str(child), what="the number of the successor")
        keeper.remove()  # the file belongs to the successor
        assert Path(path).read_text().strip() == str(child)
    finally:
        os.kill(child, signal.SIGKILL)
        wait_for_child(child)
    eventually(lambda: not os.path.exists(path), what="the pid file is removed")


def test_who_dies_before_it_has_read_a_reply_leaves_no_pid_file(tmp_path):
    """The kernel reports such an end in a different way."""
    path = str(tmp_path / "pid")
    daemon.write_pid_file(path)
    keeper = pid_keeper.PidKeeper.start(path)
    os.write(keeper.descriptor, pid_keeper.WRITE)
    assert select.select([keeper.descriptor], [], [], PATIENCE)[0], "the reply"
    keeper.close()
    eventually(lambda: not os.path.exists(path), what="the pid file is removed")


def test_a_successor_does_not_take_the_file_of_another_service(tmp_path):
    """The pid file was removed, and a second gmproxy was started with that path."""
    path = tmp_path / "pid"
    daemon.write_pid_file(str(path))
    keeper = pid_keeper.PidKeeper.start(str(path))
    other = subprocess.Popen(
        [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)", "gmproxy"], stdout=subprocess.PIPE
    )
    try:
        other.stdout.readline()
        path.write_text(f"{other.pid}\n")
        with pytest.raises(StartError, match=f"pid file {path}: process {other.pid} is running"):
            keeper.write()
        keeper.remove()
        assert path.read_text() == f"{other.pid}\n"
    finally:
        other.kill()
        other.communicate(timeout=PATIENCE)


def test_the_keeper_of_another_file_is_not_taken_over(tmp_path):
    path = str(tmp_path / "pid")
    daemon.write_pid_file(path)
    keeper = pid_keeper.PidKeeper.start(path)
    handed_over = os.dup(keeper.descriptor)
    assert pid_keeper.PidKeeper.taken_over(f"{path}2", (path, handed_over)) is None
    keeper.close()  # the last descriptor: the keeper ends, and removes its file
    eventually(lambda: not os.path.exists(path), what="the pid file is removed")
    assert pid_keeper.PidKeeper.taken_over(path, None) is None


def test_a_keeper_that_cannot_be_started(tmp_path, monkeypatch):
    def refused():
        raise PermissionError

    path = str(tmp_path / "pid")
    monkeypatch.setattr(os, "setsid", refused)
    with pytest.raises(StartError, match=f"cannot keep pid file {path}: the process gmproxy-pid-file cannot be started"):
        pid_keeper.PidKeeper.start(path)


def test_who_needs_a_keeper(tmp_path):
    if os.getuid() != 0:
        assert not pid_keeper.is_needed("/run/pid", USER, "")
        return
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for parent in (theirs, *theirs.parents):
        if not parent.stat().st_mode & 0o001:
            break
    os.chown(theirs, pwd.getpwnam(USER).pw_uid, -1)
    assert pid_keeper.is_needed("/run/pid", USER, "")
    assert pid_keeper.is_needed("/tmp/pid", USER, "")  # /tmp is sticky
    assert not pid_keeper.is_needed("/run/pid", "", "")
    if not closed_directory(theirs):
        assert not pid_keeper.is_needed(str(theirs / "pid"), USER, "")
