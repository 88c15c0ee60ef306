"""SIGUSR2: a new process takes over the listening sockets, and no connection is refused. And sockets passed by systemd."""

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.scripted import expect, wait_for
from support.servers import HOST, environment, free_port, run
from support.service import Load, order
from support.talk import Talk, storage, value
from support.timing import PATIENCE, TICK, eventually, milliseconds

FOUND = value(b"k", b"hello") + b"END\r\n"

workers = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def service(memcached, proxy, tmp_path):
    """Call it for a proxy with a configuration file and a server that stores k. Successors are ended with the test."""
    started = []

    def start(*lines, workers=1, server=None):
        server = server or memcached()
        if hasattr(server, "talk"):
            with server.talk() as talk:
                talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        file = tmp_path / "gmproxy.conf"
        file.write_text("\n".join((f"server = {server.address}", f"workers = {workers}", *lines)) + "\n")
        process = proxy("-c", file, "-f", tmp_path / "sock", "--control", tmp_path / "control", "--pid-file", tmp_path / "pid")
        process.control = str(tmp_path / "control")
        process.pid_file = tmp_path / "pid"
        process.file = file
        process.unix_socket = tmp_path / "sock"
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and its successors, which are in its process group


def upgrade(process):
    """Sends SIGUSR2, and waits until the old process has ended. Returns the pid of the new one."""
    process.signal(signal.SIGUSR2)
    assert process.wait() == 0, process.log()
    return successor(process)


def successor(process):
    return int(re.findall("upgraded successor=(\\d+)", process.log())[-1])


@workers
def test_no_connection_is_refused(service, workers):
    """Under load by clients that connect for each request: none is refused or disconnected, and no reply is wrong."""
    process = service(workers=workers)
    with Load(process.port, keeping=0, connecting=4) as load:
        upgrade(process)
        load.wait_for_more()


@workers
def test_a_socket_that_is_not_configured_any_more_is_closed(service, workers):
    """No process would accept clients there: they are refused instead of waiting."""
    address = HOST, free_port()
    line = "stats_port = {}:{}".format(*address)
    process = service(line, workers=workers)
    socket.create_connection(address, PATIENCE).close()
    process.file.write_text(process.file.read_text().replace(line, ""))
    upgrade(process)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, PATIENCE)


def test_time_and_again(service):
    process = service()
    with Load(process.port, keeping=0, connecting=3) as load:
        pid = upgrade(process)
        for _ in range(2):
            os.kill(pid, signal.SIGUSR2)
            before = pid
            eventually(lambda: successor(process) != before, what="another successor")
            pid = successor(process)
            eventually(lambda: is_gone(before), what="the one before has gone")
            load.wait_for_more()


@workers
def test_the_old_one_is_killed_before_the_new_one_is_ready(service, workers):
    """The old process has ended and cannot be notified. The new one serves nevertheless."""
    process = service(workers=workers)
    process.signal(signal.SIGUSR2)
    eventually(lambda: "INFO upgrading successor=" in process.log(), what="the new one was started")
    process.signal(signal.SIGKILL)
    process.wait()
    pid = int(re.findall("upgrading successor=(\\d+)", process.log())[-1])
    eventually(lambda: process.pid_file.read_text() == f"{pid}\n", what="the pid file is that of the new one")
    eventually(lambda: order(process, "pids")["pid"] == pid, what="the new process replies to operators")
    with process.talk() as talk:
        talk.expect(b"get k\r\n", FOUND)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: is_gone(pid) and not process.pid_file.exists(), what="the end")
    assert not os.path.exists(process.control) and not process.unix_socket.exists()


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@workers
def test_the_new_one_is_another_process_with_the_same_places(service, workers):
    process = service(workers=workers)
    pid = upgrade(process)
    assert process.pid_file.read_text() == f"{pid}\n"
    assert order(process, "pids")["pid"] == pid
    with process.talk() as talk:
        talk.expect(b"get k\r\n", FOUND)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: is_gone(pid) and not process.pid_file.exists(), what="the end")
    assert not os.path.exists(process.control) and not process.unix_socket.exists()


def test_it_reads_its_configuration_anew(service, memcached):
    """Settings that need a restart are also read."""
    process = service()
    process.file.write_text(f"server = {memcached().address}\nworkers = 2\n")
    upgrade(process)
    assert len(order(process, "pids")["workers"]) == 2
    with process.talk() as talk:
        talk.expect(b"get k\r\n", b"END\r\n")


def test_clients_of_the_old_one_get_their_answers(service, scripted):
    go_on = threading.Event()
    backend = scripted([expect(b"get k\r\n"), wait_for(go_on), FOUND])
    process = service("timeout = " + milliseconds(300), "grace = " + milliseconds(300), server=backend)
    with process.talk() as talk, process.talk() as later:
        talk.send(b"get k\r\n")
        backend.wait_until_seen(b"get k\r\n")
        later.send(b"vers")
        process.signal(signal.SIGUSR2)
        eventually(lambda: "upgraded" in process.log(), what="the new one serves")
        go_on.set()
        talk.expect_answer(FOUND)
        assert talk.closed()
        later.send(b"ion\r\n")  # its request had started before
        assert later.read_line().startswith(b"VERSION")
        assert later.closed()
    assert process.wait() == 0


def test_idle_clients_are_let_go_after_the_grace(service):
    process = service("grace = " + milliseconds(4))
    with process.talk() as talk:
        talk.in_step()
        process.signal(signal.SIGUSR2)
        assert talk.closed()
    assert process.wait() == 0


@pytest.mark.parametrize(
    "line, reason",
    [
        ("wrokers = 3", "there is no setting 'wrokers'"),
        ("log_file = /no/such/place", "cannot write log file"),
    ],
)
@workers
def test_a_new_one_that_cannot_serve_changes_nothing(service, workers, line, reason):
    process = service(workers=workers)
    before = process.file.read_text()
    process.file.write_text(before + line + "\n")
    with process.talk() as talk:
        assert order(process, "upgrade")["successor"] > 0
        eventually(lambda: "upgrade refused" in process.log(), what="the log tells")
        assert reason in process.log()
        talk.expect(b"get k\r\n", FOUND)
    assert process.pid_file.read_text() == f"{process.pid}\n"
    assert order(process, "pids")["pid"] == process.pid
    with Talk(path=process.unix_socket) as talk:
        talk.expect(b"get k\r\n", FOUND)
    process.file.write_text(before)
    upgrade(process)


def test_a_new_one_that_is_no_child_of_the_old_one_and_cannot_serve(service, systemd, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.path)
    process = service()
    before = process.file.read_text()
    for _ in range(2):
        process.file.write_text(before + "wrokers = 3\n")
        assert order(process, "upgrade")["successor"] > 0
        eventually(lambda: "there is no setting 'wrokers'" in process.log(), what="the log tells why")
        process.file.write_text(before)
        with process.talk() as talk:
            talk.expect(b"get k\r\n", FOUND)
    upgrade(process)
    assert "internal error" not in process.log()


def test_of_two_orders_one_counts(service):
    process = service()
    assert "successor" in order(process, "upgrade")
    assert order(process, "upgrade") == {"error": "an upgrade is in progress"}
    assert process.wait() == 0


def test_who_ends_the_service_ends_the_upgrade(service):
    process = service()
    told = order(process, "upgrade")
    assert process.stop() == 0
    eventually(lambda: is_gone(told["successor"]), what="the new one does not outlive it")


def test_in_the_background(memcached, tmp_path):
    port = free_port()
    file = tmp_path / "pid"
    done = run("-s", memcached().address, "-l", HOST, "-p", port, "--daemon", "--pid-file", "pid", "--log-file", "log", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first = int(file.read_text())
    second = 0
    try:
        os.kill(first, signal.SIGUSR2)
        eventually(lambda: is_gone(first), what="the old one has gone")
        second = int(file.read_text())
        assert second != first
        with Talk(port) as talk:
            talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
    finally:
        for pid in (first, second):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid or first, signal.SIGTERM)
    eventually(lambda: is_gone(second))
    assert not file.exists()
    assert (tmp_path / "log").read_text().count("serving") == 2


# -- sockets of systemd

AS_SYSTEMD = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "gmproxy", *sys.argv[1:]])
"""


@pytest.fixture
def activated():
    """Call it with a listening socket and arguments for gmproxy, started as by systemd. Returns a Popen."""
    children = []

    def start(sock, *arguments, **variables):
        child = subprocess.Popen(
            [sys.executable, "-c", AS_SYSTEMD, *map(str, arguments)],
            env=environment(LISTEN_FDS="1", **variables),
            pass_fds=[3],
            preexec_fn=lambda: os.dup2(sock.fileno(), 3),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate(timeout=PATIENCE)


@pytest.fixture
def listening():
    """A listening socket whose descriptor is not 3."""
    with socket.create_server((HOST, 0)) as sock:
        copies = [sock.dup(), sock.dup()]
        yield copies[-1]
        for copy in copies:
            copy.close()


@workers
def test_a_socket_of_systemd_is_what_it_listens_on(memcached, activated, listening, workers):
    port = listening.getsockname()[1]
    with Talk(port) as early:  # waits since before the start
        early.send(b"get k\r\n")
        child = activated(listening, "-s", memcached().address, "-p", free_port(), "--workers", workers)
        early.expect_answer(b"END\r\n")
        early.in_step()
    os.kill(child.pid, signal.SIGUSR2)
    assert child.wait(20) == 0
    with Talk(port) as talk:
        talk.expect(b"get k\r\n", b"END\r\n")


def test_pools_take_the_socket_that_has_their_address(memcached, activated, listening, tmp_path):
    port, other = listening.getsockname()[1], free_port()
    server = memcached()
    file = tmp_path / "pools.yml"
    file.write_text(
        "".join(
            f"{name}:\n  listen: {HOST}:{number}\n  servers:\n   - {server.address}:1\n" for name, number in (("one", port), ("two", other))
        )
    )
    activated(listening, "-c", file)

    def answers():
        try:
            with Talk(other) as talk:
                return talk.ask(b"get k\r\n", b"END\r\n")
        except OSError:
            return False

    eventually(answers, what="the pool that binds itself")
    with Talk(port) as talk:
        talk.expect(b"get k\r\n", b"END\r\n")


def test_a_socket_that_no_pool_takes_is_reported(memcached, activated, listening, tmp_path):
    file = tmp_path / "pools.yml"
    file.write_text(f"one:\n  listen: {HOST}:{free_port()}\n  servers:\n   - {memcached().address}:1\n")
    child = activated(listening, "-c", file)
    said = ""
    while "serving on" not in said and (line := child.stderr.readline()):
        said += line
    assert f"WARNING socket of systemd not used address={HOST}:{listening.getsockname()[1]}\n" in said


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd is not installed")
def test_with_the_sockets_of_systemd_itself(memcached, tmp_path):
    """Several sockets without names: gmproxy recognizes them by their addresses, also after a reload and an upgrade."""
    port, path = free_port(), tmp_path / "sock"
    file = tmp_path / "gmproxy.conf"
    file.write_text(f"server = {memcached().address}\nport = {free_port()}\n")
    kept = [word for name, text in environment().items() if name.startswith(("PYTHON", "GMPROXY_")) for word in ("-E", f"{name}={text}")]
    command = ["systemd-socket-activate", "-l", f"{HOST}:{port}", "-l", str(path), *kept]
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        child = subprocess.Popen([*command, sys.executable, "-m", "gmproxy", "-c", file], stderr=stderr, start_new_session=True)
    try:
        eventually(path.exists, what="systemd listens")
        _answers(port, path)
        file.write_text(file.read_text() + f"listen = {HOST}\ntimeout = 700\n")
        child.send_signal(signal.SIGHUP)
        eventually(lambda: "changed=listen,timeout" in log.read_text(), what="the reload")
        _answers(port, path)
        child.send_signal(signal.SIGUSR2)
        assert child.wait(PATIENCE) == 0
        _answers(port, path)
        assert log.read_text().count(f"serving on {HOST}:{port}, {path}\n") == 2
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(PATIENCE)


def _answers(port, path):
    for where in ({"port": port}, {"path": path}):
        with Talk(**where) as talk:
            talk.expect(b"get k\r\n", b"END\r\n")


# -- notifications to systemd


def parent(pid):
    return int(re.search(r"^PPid:\s*(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1])


#: SCM_CREDENTIALS: pid, uid, gid.
CREDENTIALS = struct.Struct("3i")


class Systemd:
    """Receives what a service sends with sd_notify."""

    def __init__(self, path):
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)
        self.everything = []  # (pid of the sender, line)
        self._passed = 0  # the number of them that were already matched

    def hears(self, line, sender=None, within=PATIENCE):
        """Wait for `line`, from the process `sender` if not None. Lines before it are skipped."""

        def came():
            with contextlib.suppress(BlockingIOError):
                while True:
                    said, [(_, _, credentials)], _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(CREDENTIALS.size))
                    self.everything += [(CREDENTIALS.unpack(credentials)[0], line) for line in said.decode().split("\n")]
            for index in range(self._passed, len(self.everything)):
                pid, said = self.everything[index]
                if said == line and sender in (None, pid):
                    self._passed = index + 1
                    return True
            return False

        eventually(came, within, what=f"systemd receives {line}")

    def forget(self):
        """Skip what has been received."""
        self._passed = len(self.everything)

    def close(self):
        self._socket.close()


@pytest.fixture
def systemd(tmp_path):
    listener = Systemd(tmp_path / "notify")
    yield listener
    listener.close()


@workers
def test_systemd_is_told(memcached, proxy, systemd, workers):
    variables = {"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": milliseconds(4) + "000"}
    process = proxy("-s", memcached().address, "--workers", workers, variables=variables)
    systemd.hears("READY=1")
    systemd.hears("WATCHDOG=1")
    systemd.hears("WATCHDOG=1")
    process.signal(signal.SIGHUP)
    systemd.hears("RELOADING=1")
    systemd.hears("READY=1")
    process.signal(signal.SIGTERM)
    systemd.hears("STOPPING=1")
    assert process.wait() == 0


def test_systemd_is_not_told_that_all_is_well_while_a_worker_hangs(memcached, proxy, systemd, tmp_path):
    limit = 4  # ticks; gmproxy notifies twice as often
    variables = {"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": milliseconds(limit) + "000"}
    process = proxy("-s", memcached().address, "--workers", "2", "--control", tmp_path / "control", variables=variables)
    process.control = str(tmp_path / "control")
    systemd.hears("READY=1")
    stopped = order(process, "pids")["workers"][0]
    os.kill(stopped, signal.SIGSTOP)
    assert len(order(process, "ping")["workers"]) == 1  # so much time has passed that the last WATCHDOG=1 has been sent
    with pytest.raises(AssertionError, match="not within"):
        systemd.forget()
        for _ in range(5):  # some may be in flight
            systemd.hears("WATCHDOG=1", within=5 * limit * TICK)
    os.kill(stopped, signal.SIGCONT)
    systemd.hears("WATCHDOG=1")


@workers
def test_systemd_learns_who_is_the_service_now(service, systemd, monkeypatch, workers):
    """The notification comes from the process that systemd knows: it would ignore and log one from another process. The new process is no child
    of that one by then: systemd logs a main process that is not its own child, and does not wait for its end."""
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.path)
    monkeypatch.setenv("WATCHDOG_USEC", milliseconds(4) + "000")
    process = service(workers=workers)
    systemd.hears("READY=1")
    process.signal(signal.SIGUSR2)
    eventually(lambda: "INFO upgrading successor=" in process.log(), what="the new one was started")
    pid = int(re.findall("upgrading successor=(\\d+)", process.log())[-1])
    assert parent(pid) != process.pid
    systemd.hears(f"MAINPID={pid}")
    assert process.wait() == 0, process.log()
    systemd.hears("WATCHDOG=1", sender=pid)
    systemd.hears("WATCHDOG=1", sender=pid)
    by_new = [(index, line) for index, (sender, line) in enumerate(systemd.everything) if sender == pid]
    named = systemd.everything.index((process.pid, f"MAINPID={pid}"))
    assert by_new and all(index > named and line == "WATCHDOG=1" for index, line in by_new), systemd.everything
    assert (process.pid, "STOPPING=1") not in systemd.everything  # the service continues; only the old process has ended
    os.kill(pid, signal.SIGTERM)
    systemd.hears("STOPPING=1")
