"""Shutdown: requests in progress get their replies, no file is left, the exit status is 0. And the user that gmproxy runs as."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading

import pytest
from support.scripted import expect, hang, wait_for
from support.servers import HOST, environment, free_port, run
from support.talk import storage, value
from support.timing import PATIENCE, PROGRAM_TIMEOUT, TICK, Stopwatch, eventually, milliseconds

GET = b"get k\r\n"
FOUND = value(b"k", b"hello") + b"END\r\n"
NOBODY = 65534

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can change user")


def refuses(process):
    try:
        socket.create_connection((process.host, process.port), PATIENCE).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_answered(scripted, proxy, number):
    go_on = threading.Event()
    backend = scripted([expect(GET), wait_for(go_on), FOUND])
    process = proxy("-s", backend.address, "--timeout", milliseconds(100))
    with process.talk() as talk, process.talk() as idle:
        talk.send(GET)
        backend.wait_until_seen(GET)
        process.signal(number)
        eventually(lambda: refuses(process), what="no new client is accepted")
        assert idle.closed()
        assert talk.silent()
        go_on.set()
        talk.expect_answer(FOUND)
        assert talk.closed()
    assert process.wait() == 0


def test_all_requests_of_a_packet_are_answered(memcached, proxy):
    process = proxy("-s", memcached().address)
    with process.talk() as talk:
        talk.in_step()
        process.pause()
        talk.send(storage(b"set", b"k", b"hello") + GET * 500)
        process.signal(signal.SIGTERM)
        process.resume()
        talk.expect_answer(b"STORED\r\n" + FOUND * 500)
        assert talk.closed()
    assert process.wait() == 0


def test_the_end_does_not_wait_for_ever(scripted, proxy):
    backend = scripted([expect(GET), hang()])
    process = proxy("-s", backend.address, "--timeout", milliseconds(400), "--grace", milliseconds(6))
    with process.talk() as talk:
        talk.send(GET)
        backend.wait_until_seen(GET)
        watch = Stopwatch()
        assert process.stop() == 0, "it ends before the timeout, for which stop() does not wait"
        assert watch.seconds > TICK * 5


def test_without_requests_it_ends_at_once(memcached, proxy):
    process = proxy("-s", memcached().address, "--grace", milliseconds(400))
    with process.talk() as talk:
        talk.in_step()
        assert process.stop() == 0, "stop() does not wait for as long as --grace"
        assert talk.closed()


def test_the_port_is_free_at_once(memcached, proxy):
    """The kernel still has closed connections of the first process."""
    server = memcached().address
    port = free_port()
    for _ in range(3):
        process = proxy("-s", server, "-l", HOST, "-p", port, port=port)
        with process.talk() as talk:
            talk.in_step()
            assert process.stop() == 0


# -- the pid file


def test_the_pid_file_is_there_while_it_runs(memcached, proxy, tmp_path):
    file = tmp_path / "gmproxy.pid"
    process = proxy("-s", memcached().address, "--pid-file", file)
    assert file.read_text() == f"{process.pid}\n"
    assert process.stop() == 0
    assert not file.exists()


def test_the_pid_file_of_a_dead_process_is_taken_over(memcached, proxy, tmp_path):
    file = tmp_path / "gmproxy.pid"
    server = memcached().address
    proxy("-s", server, "--pid-file", file).kill()
    assert file.exists()
    process = proxy("-s", server, "--pid-file", file)
    assert file.read_text() == f"{process.pid}\n"


@pytest.mark.parametrize("words", ["", "nonsense\n"])
def test_a_pid_file_without_a_number_is_taken_over(memcached, proxy, tmp_path, words):
    file = tmp_path / "gmproxy.pid"
    file.write_text(words)
    process = proxy("-s", memcached().address, "--pid-file", file)
    assert file.read_text() == f"{process.pid}\n"


def test_the_pid_file_of_a_living_process_is_respected(memcached, proxy, tmp_path):
    file = tmp_path / "gmproxy.pid"
    process = proxy("-s", memcached().address, "--pid-file", file)
    done = run("-s", "a:1", "-l", HOST, "-p", free_port(), "--pid-file", file)
    assert done.returncode == 1
    assert done.stderr == f"gmproxy: pid file {file}: process {process.pid} is running\n"
    assert file.read_text() == f"{process.pid}\n"


def test_a_number_that_another_program_has_now_is_no_obstacle(memcached, proxy, tmp_path):
    file = tmp_path / "gmproxy.pid"
    server = memcached()
    file.write_text(f"{server.pid}\n")
    process = proxy("-s", server.address, "--pid-file", file)
    assert file.read_text() == f"{process.pid}\n"


def test_a_failed_start_leaves_no_pid_file(tmp_path):
    file = tmp_path / "gmproxy.pid"
    assert run("-s", "a:1", "-l", HOST, "-p", free_port(), "--pid-file", file, "-u", "no-such-user").returncode == 1
    assert not file.exists()


# -- the user


def nobody_can_run_python():
    """False if it is installed below /root, for example."""
    shell = ["/bin/sh", "-c", 'exec "$0" -c "import gevent, pprint, gmproxy"', sys.executable]
    return subprocess.run(shell, user=NOBODY, env=environment(), stderr=subprocess.DEVNULL, timeout=PROGRAM_TIMEOUT).returncode == 0


@needs_root
@pytest.mark.parametrize(
    "arguments, user, group",
    [
        (("-u", "nobody"), "65534", "65534"),
        (("-u", "65534"), "65534", "65534"),
        (("-u", "nobody", "-g", "daemon"), "65534", "1"),
        (("-g", "daemon"), "0", "1"),
        (("-u", "root"), "0", "0"),
        ((), "0", "0"),
    ],
)
def test_it_becomes_another_user(memcached, proxy, arguments, user, group):
    if user != "0" and not nobody_can_run_python():
        pytest.skip("another user cannot read this Python")
    process = proxy("-s", memcached().address, *arguments)
    with process.talk() as talk:
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
    facts = dict(line.split(":\t", 1) for line in open(f"/proc/{process.pid}/status") if ":\t" in line)
    assert facts["Uid"].split() == [user] * 4
    assert facts["Gid"].split() == [group] * 4
    if user != "0":
        assert "0" not in facts["Groups"].split()


def test_the_descriptors_for_its_clients_are_asked_for(memcached, proxy):
    process = proxy("-s", memcached().address, "-n", "1000", preexec_fn=few_descriptors)
    with open(f"/proc/{process.pid}/limits") as limits:
        soft = next(int(line.split()[3]) for line in limits if line.startswith("Max open files"))
    assert soft > 1000


def few_descriptors():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))


# -- the log


def test_the_log_can_go_to_a_file(memcached, proxy, tmp_path):
    file = tmp_path / "gmproxy.log"
    process = proxy("-s", memcached().address, "--log-file", file)
    assert process.stop() == 0
    assert "serving" in file.read_text() and "ending" in file.read_text()
    assert process.log() == f"gmproxy: serving on {HOST}:{process.port}\n"
