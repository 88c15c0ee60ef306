"""Start-up: with closed descriptors, interrupted by signals, failing: no file and no process is left, and no signal is lost."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

import pytest
from support.servers import COMMANDS, HOST, environment, free_port, run
from support.talk import Talk
from support.timing import PATIENCE, eventually

workers = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def started():
    """Call it with arguments for a service that is not waited for. Returns a Popen. Its processes are ended with the test."""
    children = []

    def start(*arguments, program="gmproxy", **options):
        options.setdefault("stderr", subprocess.DEVNULL)
        child = subprocess.Popen([*COMMANDS[program], *map(str, arguments)], env=environment(), start_new_session=True, **options)
        children.append(child)
        return child

    yield start
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(PATIENCE)


def answers(port):
    try:
        with Talk(port) as talk:
            return talk.ask(b"version\r\n").startswith(b"VERSION")
    except (OSError, AssertionError):
        return False


# -- descriptors

CLOSED = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-", "all": "<&- >&- 2>&-"}


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("program", ["gmproxy", "magent"])
def test_in_the_background_with_descriptors_closed(memcached, tmp_path, program, closed):
    """Init scripts, cron and `ssh -f` may start programs in this way."""
    port, pid_file, log = free_port(), tmp_path / "pid", tmp_path / "log"
    script = f'exec "$@" {CLOSED[closed]}'
    done = subprocess.run(
        [
            "sh",
            "-c",
            script,
            "sh",
            *COMMANDS[program],
            "-l",
            HOST,
            "-p",
            str(port),
            "-s",
            memcached().address,
            "-f",
            tmp_path / "sock",
            "--pid-file",
            pid_file,
            "--log-file",
            log,
            "--control",
            tmp_path / "control",
            "--daemon",
        ],
        env=environment(),
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    pid = int(pid_file.read_text())
    try:
        assert answers(port)
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
        assert "serving" in log.read_text()
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not pid_file.exists() and not (tmp_path / "sock").exists(), what="the end")


@pytest.mark.parametrize("closed", CLOSED)
@workers
def test_in_the_foreground_with_descriptors_closed(memcached, started, tmp_path, closed, workers):
    port, log = free_port(), tmp_path / "log"
    command = [
        *COMMANDS["gmproxy"],
        "-l",
        HOST,
        "-p",
        str(port),
        "-s",
        memcached().address,
        "--log-file",
        str(log),
        "--workers",
        str(workers),
    ]
    child = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {CLOSED[closed]}', "sh", *command],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        eventually(lambda: answers(port), what="the service replies")
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=PATIENCE)
        assert child.returncode == 0
    finally:
        child.kill()
        child.communicate(timeout=PATIENCE)
    assert "Traceback" not in log.read_text()


def test_a_command_that_prints_where_nobody_reads():
    """Its exit status reports the result nevertheless."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-m", "gmproxy", "--no-such-option"], env=environment(), stderr=writing, timeout=PATIENCE)
    finally:
        os.close(writing)
    assert done.returncode == 2


# -- signals


@workers
def test_sigterm_as_soon_as_the_port_is_open(memcached, started, tmp_path, workers):
    """It does not serve yet, and ends as at any other time."""
    server = memcached().address
    for _ in range(8):
        port = free_port()
        child = started(
            "-l",
            HOST,
            "-p",
            port,
            "-s",
            server,
            "-f",
            tmp_path / "sock",
            "--pid-file",
            tmp_path / "pid",
            "--control",
            tmp_path / "control",
            "--workers",
            workers,
        )
        eventually(lambda: is_open(port), what="the port is open")
        child.send_signal(signal.SIGTERM)
        assert child.wait(PATIENCE) == 0
        assert os.listdir(tmp_path) == []


def is_open(port):
    try:
        Talk(port).close()
    except OSError:
        return False
    return True


@workers
@pytest.mark.parametrize(
    "number, said", [(signal.SIGHUP, "INFO reloaded"), (signal.SIGUSR1, "INFO log reopened"), (signal.SIGUSR2, "INFO upgraded")]
)
def test_a_signal_as_soon_as_the_pid_file_is_there(memcached, started, tmp_path, workers, number, said):
    """The signal is handled as soon as clients are served."""
    port, pid_file, log = free_port(), tmp_path / "pid", tmp_path / "log"
    started("-l", HOST, "-p", port, "-s", memcached().address, "--pid-file", pid_file, "--log-file", log, "--workers", workers)
    first = int(eventually(lambda: pid_file.exists() and pid_file.read_text(), what="the pid file"))
    os.kill(first, number)
    eventually(lambda: log.exists() and said in log.read_text(), what=said)
    assert answers(port)
    assert "Traceback" not in log.read_text()


@pytest.fixture
def reading(started, tmp_path):
    """Call it with arguments for a service that has started to read its configuration, and waits for it. Returns (Popen, the file to write to)."""

    def start(*arguments, **options):
        path = tmp_path / "conf"
        os.mkfifo(path)
        child = started("-c", path, *arguments, **options)
        return child, open(path, "w")  # returns as soon as the service opens it too

    return start


@workers
def test_sigterm_while_it_reads_its_configuration(reading, tmp_path, workers):
    port = free_port()
    child, file = reading("-l", HOST, "-p", port, "-f", tmp_path / "sock", "--pid-file", tmp_path / "pid")
    child.send_signal(signal.SIGTERM)
    with file:
        file.write(f"server = {HOST}:1\nworkers = {workers}\n")
    assert child.wait(PATIENCE) == 0
    assert os.listdir(tmp_path) == ["conf"]


@workers
def test_other_signals_while_it_reads_its_configuration(memcached, reading, tmp_path, workers):
    port, log = free_port(), tmp_path / "log"
    child, file = reading("-l", HOST, "-p", port, "--log-file", log)
    child.send_signal(signal.SIGUSR1)
    with file:
        file.write(f"server = {memcached().address}\nworkers = {workers}\n")
    eventually(lambda: log.exists() and "INFO log reopened" in log.read_text(), what="the signal is followed")
    assert answers(port)


def test_signals_that_were_blocked_by_whoever_started_it(memcached, started):
    port = free_port()
    child = started(
        "-l", HOST, "-p", port, "-s", memcached().address, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    )
    eventually(lambda: answers(port), what="the service replies")
    child.send_signal(signal.SIGTERM)
    assert child.wait(PATIENCE) == 0


def test_a_check_of_the_configuration_is_ended_by_a_signal(reading):
    """It does not serve: the signal has its default effect."""
    child, file = reading("-t")
    child.send_signal(signal.SIGTERM)
    with file:
        file.write(f"server = {HOST}:1\n")
    assert child.wait(PATIENCE) == -signal.SIGTERM


def test_the_command_that_waits_for_the_background_is_killed(memcached, started, tmp_path):
    """As when its terminal is closed. The service in the background is not affected."""
    port, pid_file = free_port(), tmp_path / "pid"
    child = started("-l", HOST, "-p", port, "-s", memcached().address, "--pid-file", pid_file, "--daemon")
    pid = int(eventually(lambda: pid_file.exists() and pid_file.read_text(), what="the process in the background"))
    child.kill()
    try:
        eventually(lambda: answers(port), what="the service replies")
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not pid_file.exists(), what="the end")


# -- what a failed start leaves behind


def test_a_pool_that_cannot_be_bound(tmp_path):
    with contextlib.closing(Listening()) as taken:
        file = tmp_path / "pools.yml"
        file.write_text(
            f"one:\n  listen: {tmp_path}/sock\n  servers:\n  - {HOST}:1:1\ntwo:\n  listen: {HOST}:{taken.port}\n  servers:\n  - {HOST}:1:1\n"
        )
        done = run("-c", file)
    assert (done.returncode, "Address already in use" in done.stderr) == (1, True)
    assert os.listdir(tmp_path) == ["pools.yml"]


class Listening:
    """A port that is in use."""

    def __init__(self):
        self._socket = socket.create_server((HOST, 0))
        self.port = self._socket.getsockname()[1]

    def close(self):
        self._socket.close()


@pytest.mark.parametrize(
    "arguments, why",
    [
        (("--control", "/no/such/directory/control"), "cannot listen on"),
        (("--log-file", "/no/such/directory/log"), "cannot write log file"),
        (("--pid-file", "/no/such/directory/pid"), "cannot write pid file"),
        (("-u", "no-such-user"), "there is no user"),
    ],
)
def test_what_else_cannot_be_done(tmp_path, arguments, why):
    done = run(
        "-s",
        f"{HOST}:1",
        "-l",
        HOST,
        "-p",
        free_port(),
        "-f",
        tmp_path / "sock",
        "--pid-file",
        tmp_path / "pid",
        "--control",
        tmp_path / "control",
        *arguments,
    )
    assert (done.returncode, why in done.stderr) == (1, True)
    assert os.listdir(tmp_path) == []


def test_a_pid_file_of_another_leaves_no_socket(memcached, proxy, tmp_path):
    file = tmp_path / "pid"
    proxy("-s", memcached().address, "--pid-file", file)
    done = run("-s", f"{HOST}:1", "-l", HOST, "-p", free_port(), "-f", tmp_path / "sock", "--pid-file", file)
    assert (done.returncode, "is running" in done.stderr) == (1, True)
    assert os.listdir(tmp_path) == ["pid"]
