"""Emulation of magent: its command lines, files and output, as scripts and monitoring expect them."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.keys import keys_by_server
from support.servers import HOST, environment, free_port, run, run_here
from support.talk import Talk, storage
from support.timing import PATIENCE, eventually

from gmproxy.config import magent

VERSION = b"VERSION memcached agent v0.6\r\n"


@pytest.fixture
def background(tmp_path):
    """Call it with arguments to start a program in the background. Returns (the pid, the port). Each is ended with the test."""
    pids = []

    def start(*arguments, program="magent"):
        file = tmp_path / f"pid{len(pids)}"
        port = free_port()
        done = run("-l", HOST, "-p", port, "--pid-file", file, *arguments, program=program)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        pids.append(int(file.read_text()))
        return pids[-1], port

    yield start
    for pid in pids:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# -- the background


def test_it_answers_as_soon_as_the_command_has_returned(memcached, background):
    pid, port = background("-s", memcached().address)
    with Talk(port) as talk:
        talk.expect(storage(b"set", b"k", b"x"), b"STORED\r\n")
        talk.expect(b"version\r\n", VERSION)
    assert os.getsid(pid) not in (os.getsid(0), pid)  # it cannot get a controlling terminal again
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}


def test_it_ends_with_sigterm_and_takes_its_pid_file_along(memcached, background, tmp_path):
    pid, port = background("-s", memcached().address)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not is_alive(pid))
    assert not (tmp_path / "pid0").exists()


def test_gmproxy_does_so_only_when_told(memcached, background):
    _, port = background("-s", memcached().address, "--daemon", program="gmproxy")
    with Talk(port) as talk:
        assert talk.ask(b"version\r\n").startswith(b"VERSION 1.6.")


def test_compat_magent_is_magent(memcached, background):
    _, port = background("-s", memcached().address, "--compat", "magent", program="gmproxy")
    with Talk(port) as talk:
        talk.expect(b"version\r\n", VERSION)


def test_paths_are_those_of_the_place_where_it_was_typed(memcached, tmp_path):
    port = free_port()
    done = run(
        "-s",
        memcached().address,
        "-l",
        HOST,
        "-p",
        port,
        "--pid-file",
        "run.pid",
        "--log-file",
        "run.log",
        "-f",
        "run.sock",
        program="magent",
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    pid = int((tmp_path / "run.pid").read_text())
    try:
        assert "serving" in (tmp_path / "run.log").read_text()
        with Talk(path=tmp_path / "run.sock") as talk:
            talk.expect(b"version\r\n", VERSION)
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not is_alive(pid))


@pytest.mark.parametrize("runner", [[], [sys.executable]], ids=["as a script", "by python"])
def test_old_scripts_find_it_by_its_name(memcached, tmp_path, runner):
    """ps, killall and pidof read the name of the process and the first word of its command line: both are those of the script."""
    script, file = tmp_path / "magent", tmp_path / "pid"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom gmproxy.cli import magent\nsys.exit(magent())\n")
    script.chmod(0o755)
    line = [str(script), "-u", str(os.getuid()), "-s", memcached().address, "-l", HOST, "-p", str(free_port()), "--pid-file", str(file)]
    subprocess.run([*runner, *line], check=True, timeout=PATIENCE, env=environment())
    pid = int(file.read_text())
    try:
        assert Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0") == line
        assert Path(f"/proc/{pid}/comm").read_text() == "magent\n"
        if shutil.which("pidof"):
            assert str(pid) in subprocess.run(["pidof", "magent"], capture_output=True, text=True, timeout=PATIENCE).stdout.split()
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not is_alive(pid))


@pytest.mark.parametrize("option", ["-D", "-v"])
def test_it_stays_in_front_when_asked_to(memcached, proxy, option):
    process = proxy("-s", memcached().address, option, program="magent")
    with process.talk() as talk:
        talk.expect(b"version\r\n", VERSION)
    assert process.is_running


# -- stats and version


def test_stats_as_magent_writes_them(scripted, proxy):
    """One line for each server, in the configured order, with the number of its connections."""
    backends = [scripted(answer=lambda request: b"END\r\n") for _ in range(3)]
    process = proxy(*(part for backend in backends for part in ("-s", backend.address)), "-D", program="magent")
    first, second, third = (backend.address.encode() for backend in backends)
    _, (key, *_), _ = keys_by_server(3, 1)
    lines = b"memcached agent v0.6\r\nmatrix 1 -> %b, pool size 0\r\nmatrix 2 -> %b, pool size %d\r\nmatrix 3 -> %b, pool size 0\r\nEND\r\n"
    with process.talk() as talk:
        talk.expect(b"stats\r\n", lines % (first, second, 0, third))
        talk.expect(b"get %b\r\n" % key, b"END\r\n")
        talk.expect(b"stats\r\n", lines % (first, second, 1, third))
        talk.expect(b"version\r\n", VERSION)
        talk.in_step()


def test_gmproxy_answers_as_memcached(memcached, proxy):
    process = proxy("-s", memcached().address)
    stats = process.stats()
    assert stats["pid"] == process.pid
    assert str(stats["version"]).startswith("1.6.")
    with process.talk() as talk:
        assert talk.ask(b"version\r\n").startswith(b"VERSION 1.6.")  # libmemcached requires digits
        assert b"\r\nSTAT server " in talk.ask(b"stats settings\r\n", b"END\r\n")
        for insides in (b"items", b"slabs", b"sizes", b"conns"):
            assert talk.ask(b"stats %b\r\n" % insides, b"END\r\n").endswith(b"END\r\n")
        talk.expect(b"stats reset\r\n", b"RESET\r\n")
        talk.in_step()


# -- its command line


def test_its_help():
    done = run("-h", program="magent")
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines), lines[1]) == (1, "", 15, "Usage:")
    assert lines[0].startswith("memcached agent v0.6 Build-Date: ") and lines[-1] == "  -v verbose"
    assert [line[2:4] for line in lines[2:]] == [f"-{letter}" for letter in "hugpsblnDkfiv"]
    assert "--hibernate-after" in run("--help-all", program="magent").stdout


@pytest.mark.parametrize(
    "arguments, warning",
    [
        (["stray", "words"], "ignored: stray words"),
        (["-i", "0"], "-i 0: 20 is used"),
        (["-i", "many"], "-i many: 20 is used"),
        (["-i", "5000"], "-i 5000: 1024 is used"),
        (["-n", "0x"], "-n 0x: 4096 is used"),
        (["-n", "-1"], "-n -1: 4096 is used"),
        (["-n", "9" * 5000], f"-n {'9' * 5000}: 1000000 is used"),
        (["-u", "\N{SUPERSCRIPT TWO}"], "-u \N{SUPERSCRIPT TWO}: no such user; the process keeps its user"),
        (["-u", "no-such-user"], "-u no-such-user: no such user; the process keeps its user"),
        (["-g", "no-such-group"], "-g no-such-group: no such group; the process keeps its group"),
    ],
)
def test_it_starts_with_what_magent_starts_with(arguments, warning):
    for way in ({"program": "magent"}, {"GMPROXY_COMPAT": "magent"}):
        done = run_here("-s", "a:1", *arguments, "-t", **way)
        assert done.returncode == 0 and done.stderr.endswith(f": warning: {warning}\n") and done.stderr.count("\n") == 1
    done = run_here("-s", "a:1", *arguments, "-t")
    assert done.returncode != 0 and done.stderr.count("\n") == 1


def test_a_number_that_is_no_user_stays_the_same_at_a_reload(monkeypatch):
    number = next(number for number in range(40_000, 60_000) if not any(entry.pw_uid == number for entry in pwd.getpwall()))
    values = {"user": str(number), "group": "", "server": [], "ketama": False}
    found = []
    for current in (0, number):
        monkeypatch.setattr(os, "getuid", lambda current=current: current)
        found.append(magent.changed_settings(values))
    why = "no such user; the process changes to this user ID and keeps its group"
    assert found == [({"user": f"+{number}"}, [f"-u {number}: {why}"])] * 2


def test_an_option_that_nobody_has_is_an_error_there_too():
    assert run("-s", "a:1", "--pidfile", "x", "-t", program="magent").returncode == 2


def test_it_is_said_once_that_k_moves_keys(memcached, background, tmp_path, proxy):
    servers = ("-s", memcached().address, "-s", memcached().address)
    process = proxy(*servers, "-k", "-D", program="magent")
    assert process.log().count("-k moves keys: ") == 1
    log, port = tmp_path / "log", free_port()
    done = run("-l", HOST, "-p", port, *servers, "-k", "--pid-file", tmp_path / "pid", "--log-file", log, program="magent")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    assert done.returncode == 0 and done.stderr.count("-k moves keys: ") == 1 and log.read_text().count("-k moves keys: ") == 1
    assert "moves keys" not in proxy(*servers, "-k").log()
    assert "moves keys" not in run(*servers, "--distribution", "magent-ketama-0.6", "-t", program="magent").stderr
