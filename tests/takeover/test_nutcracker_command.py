"""The command nutcracker, and gmproxy --compat nutcracker, compared with the real one."""

import json
import os
import re
import signal
import socket
import subprocess

import pytest
from nutcracker import Nutcracker, free_ports, is_installed, write_pools
from support.servers import HOST, Proxy, free_port, run
from support.talk import Talk, storage
from support.timing import PATIENCE, PROGRAM_TIMEOUT, eventually

from gmproxy import startup
from gmproxy.config import nutcracker_options

needs_nutcracker = pytest.mark.skipif(not is_installed(), reason="nutcracker is not installed")


@pytest.fixture(scope="module")
def pools(servers):
    return {"alpha": {"servers": [f"{servers[0].address}:1 one", f"{servers[1].address}:2"]}}


class Ours(Proxy):
    """A Nutcracker that runs gmproxy's command."""

    def __init__(self, pools, directory, *arguments, program="nutcracker"):
        self.ports = free_ports([*pools, "stats"])
        self.file = write_pools(directory / "ours.yml", pools, self.ports)
        self.log_file = directory / "ours.log"
        words = ["-c", self.file, "-o", self.log_file, "-a", HOST, "-s", self.ports["stats"], *arguments]
        super().__init__(*words, program=program, port=self.ports[next(iter(pools))])

    def log(self):
        return self.log_file.read_text() if self.log_file.exists() else ""


@pytest.fixture
def ours(pools, tmp_path):
    with Ours(pools, tmp_path) as process:
        yield process
        process.check_log()


# -- options, errors and exit statuses

LINES = [
    "-t -c good.yml",
    "-tcgood.yml",
    "--test-conf --conf-file good.yml",
    "--test --conf=good.yml",
    "-t -c good.yml stray words",
    "-v 11 -i 0 -m 512 -t -c good.yml",
    "-t -c bad.yml",
    "-t -c none.yml",
    "-V",
    "-h",
    "-D",
    "-hVD",
    "-V -t -c none.yml",
    "-x",
    "-D -x",
    "-v",
    "-v x",
    "-v -1",
    "--verbose=",
    "-s 0",
    "-s 70000",
    "-s x",
    "-i x",
    "-m 0",
    "-m 1",
    "-m x",
    "-m 99999999",
    "-c",
    "-a",
    "--pid-file",
    "--daemonize=1",
]


@needs_nutcracker
@pytest.mark.parametrize("line", LINES)
def test_it_says_what_nutcracker_says(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gmproxy.config.values.TYPED_IN", str(tmp_path))
    (tmp_path / "good.yml").write_text(f"alpha:\n  listen: {HOST}:22121\n  servers:\n    - {HOST}:11211:1\n")
    (tmp_path / "bad.yml").write_text(f"alpha:\n  listen: {HOST}:22121\n  servers:\n    - {HOST}:11211\n")
    theirs = subprocess.run(["nutcracker", *line.split()], capture_output=True, timeout=PROGRAM_TIMEOUT)
    status = startup.run_command_line("nutcracker", "nutcracker", line.split())
    said = capsys.readouterr()
    assert (status, said.out) == (theirs.returncode, theirs.stdout.decode())
    if "invalid" in theirs.stderr.decode() and "-t" in line:
        assert said.err.endswith(theirs.stderr.decode().splitlines(keepends=True)[-1])  # the reason is printed before it
    else:
        assert said.err.startswith(theirs.stderr.decode())  # gmproxy prints its own name after it


@pytest.mark.parametrize("text", ["9" * 5000, "\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT THREE}"])
@pytest.mark.parametrize("option", ["v", "s", "i", "m"])
def test_a_number_that_is_none(option, text):
    with pytest.raises(nutcracker_options.UsageError, match=f"option -{option} requires a "):
        nutcracker_options.read([f"-{option}", text])


def test_what_an_option_means():
    line = nutcracker_options.read(
        "-d -c x.yml -o log -p pid -s 1 -a ::1 -v 8 -m 16384 -i 5 --workers 2 --watch --redis-pools=skip".split()
    )
    assert line.for_gmproxy() == [
        "--compat=nutcracker",
        "--pools=x.yml",
        "--stats-port=[::1]:1",
        "--log-file=log",
        "--pid-file=pid",
        "--daemon",
        "--log-level=debug",
        "--workers=2",
        "--watch",
        "--redis-pools=skip",
    ]
    assert nutcracker_options.read([]).for_gmproxy()[1:] == [
        "--pools=/etc/nutcracker/nutcracker.yml",
        "--stats-port=0.0.0.0:22222",
        "--log-file=/var/log/nutcracker/nutcracker.log",
    ]
    assert "--pid-file=/run/nutcracker/nutcracker.pid" in nutcracker_options.read(["-d"]).for_gmproxy()


@pytest.mark.parametrize("words", [("--compat", "nutcracker"), ("--compat=nutcracker",)])
@pytest.mark.parametrize("first", [True, False])
def test_gmproxy_reads_the_same_line(words, first, tmp_path):
    (tmp_path / "good.yml").write_text(f"alpha:\n  listen: {HOST}:22121\n  servers:\n    - {HOST}:11211:1\n")
    line = ("-t", "-c", "good.yml")
    done = run(*(words + line if first else line + words), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "nutcracker: configuration file 'good.yml' syntax is ok\n")


@pytest.mark.parametrize(
    "program, line, environment, emulated",
    [
        ("gmproxy", "-s a:1", {}, "gmproxy"),
        ("gmproxy", "-t", {"GMPROXY_COMPAT": "nutcracker"}, "nutcracker"),
        ("gmproxy", "-t --compat gmproxy", {"GMPROXY_COMPAT": "nutcracker"}, "gmproxy"),
        ("magent", "-t --compat=magent", {"GMPROXY_COMPAT": "nutcracker"}, "magent"),
        ("gmproxy", "-t --compat nutcracker", {"GMPROXY_COMPAT": "magent"}, "nutcracker"),
    ],
)
def test_the_command_line_wins_over_the_environment(program, line, environment, emulated):
    assert nutcracker_options.compat_of(program, line.split(), environment)[0] == emulated


# -- the stats port


def read_to_the_end(port, question=b""):
    with socket.create_connection((HOST, port), PATIENCE) as sock:
        sock.sendall(question)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def counters(process):
    return json.loads(read_to_the_end(process.ports["stats"]))


@needs_nutcracker
def test_the_counters_look_like_nutcrackers(pools, ours, tmp_path):
    def masked(port):
        return re.sub(rb":[0-9]+(?=[,}])", b":N", read_to_the_end(port))

    with Nutcracker(pools, tmp_path) as theirs:
        assert masked(ours.ports["stats"]) == masked(theirs.ports["stats"])


def test_connections_are_counted_as_there(ours):
    """Of clients, of servers, and one listening socket."""
    before = counters(ours)
    assert (before["service"], before["version"], before["curr_connections"]) == ("nutcracker", "0.5.0", 1)
    with ours.talk() as talk:
        talk.expect(storage(b"set", b"counted", b"x"), b"STORED\r\n")
        eventually(lambda: counters(ours)["curr_connections"] == 3, what="a client, a server and the listener are counted")
    eventually(lambda: counters(ours)["curr_connections"] == 2, what="the client is gone")
    assert counters(ours)["total_connections"] >= 3


def test_who_asks_by_http_gets_them_too(ours):
    answer = read_to_the_end(ours.ports["stats"], b"GET / HTTP/1.0\r\n\r\n")
    assert json.loads(answer)["service"] == "nutcracker"


# -- signals


def test_signals_as_there(ours):
    moved = ours.log_file.with_suffix(".1")
    os.rename(ours.log_file, moved)
    ours.signal(signal.SIGHUP)
    eventually(lambda: "log reopened" in ours.log(), what="the log is opened anew")
    ours.signal(signal.SIGTTIN)
    eventually(lambda: "log level debug" in ours.log(), what="more is logged")
    with ours.talk() as talk:
        talk.expect(storage(b"set", b"k", b"x"), b"STORED\r\n")
    eventually(lambda: "DEBUG client connected" in ours.log(), what="a client is logged")
    ours.signal(signal.SIGTTOU)
    eventually(lambda: "log level info" in ours.log(), what="less is logged")
    assert ours.stop() == 0
    assert "reloaded" not in ours.log() + moved.read_text()


def test_workers_follow_the_level(pools, tmp_path):
    with Ours(pools, tmp_path, "--workers", "2") as process:
        process.signal(signal.SIGTTIN)
        eventually(lambda: "log level debug" in process.log(), what="more is logged")

        def logged():
            Talk(process.port).close()
            return re.search(r"DEBUG client connected .*worker=", process.log())

        eventually(logged, what="a worker logs a client")
        assert process.stop() == 0


# -- the background


def test_in_the_background(pools, tmp_path):
    ports = free_ports([*pools, "stats"])
    file, pid_file = write_pools(tmp_path / "n.yml", pools, ports), tmp_path / "pid"
    line = ("-d", "-c", file, "-o", tmp_path / "log", "-p", pid_file, "-a", HOST, "-s", ports["stats"])
    done = run(*line, program="nutcracker")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pid = int(pid_file.read_text())
    try:
        with Talk(ports["alpha"]) as talk:
            talk.expect(storage(b"set", b"k", b"x"), b"STORED\r\n")
        refused = run(*line[:-1], free_port(), program="nutcracker")
        assert (refused.returncode, "Address already in use" in refused.stderr) == (1, True)
        assert int(pid_file.read_text()) == pid
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not pid_file.exists(), what="the pid file is gone")
