"""No file descriptor is left: clients get those that servers and files do not need, and gmproxy recovers when there are some again."""

import resource
import socket
from contextlib import ExitStack

import pytest
from support.limits import few_files, is_asleep, no_more_files, set_limit
from support.service import clients_are, order
from support.talk import Talk, storage, value
from support.timing import PATIENCE, eventually

TOO_MANY = b"SERVER_ERROR too many connections\r\n"
FILES = 256
MANY = 8192


@pytest.fixture(autouse=True)
def many_descriptors():
    """This process is hundreds of clients at the same time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MANY), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def first_words(process):
    """A client that sends `version`: (the client, the first line that it receives; b"" if the connection ends without one)."""
    talk = process.talk()
    try:
        talk.send(b"version\r\n")
        return talk, talk.read_line()
    except (AssertionError, OSError):
        return talk, b""


def is_served(process):
    talk, line = first_words(process)
    talk.close()
    return line.startswith(b"VERSION")


@pytest.mark.parametrize("workers", [1, 2])
def test_clients_get_the_descriptors_that_are_left(workers, memcached, proxy):
    """-n allows far more. Each client gets a reply, and connections to servers are opened while the number of clients is at its maximum."""
    servers = [memcached(), memcached()]
    process = proxy("-n", 51200, "-s", servers[0].address, "-s", servers[1].address, "--workers", workers, preexec_fn=few_files(FILES))
    limit = process.stats()["max_connections"]
    assert 50 < limit < workers * FILES
    clients, refused = [], 0
    for _ in range(workers * FILES + 50):
        talk, line = first_words(process)
        if line.startswith(b"VERSION"):
            clients.append(talk)
        else:
            assert line == TOO_MANY
            refused += 1
            talk.close()
    assert limit - 5 <= len(clients) <= limit + 1, "but for those that are just leaving"
    assert refused >= 50
    for number, talk in enumerate(clients[::7]):
        talk.expect(storage(b"set", b"key%d" % number, b"hello"), b"STORED\r\n")
        talk.expect(b"get key%d\r\n" % number, value(b"key%d" % number, b"hello") + b"END\r\n")
    assert "not accepted" not in process.log()
    assert "backend failed" not in process.log()
    assert f"limit of open files is low limit={FILES}" in process.log()
    for talk in clients:
        talk.close()
    eventually(lambda: is_served(process), what="there is room again")


def test_those_who_are_turned_away_take_few_descriptors(memcached, proxy):
    """Hundreds of them connect at the same time, and stay connected as long as they can."""
    server = memcached()
    process = proxy("-n", 5, "-s", server.address, "--server-failure-limit", 1, preexec_fn=few_files(FILES))
    inside = [process.talk() for _ in range(5)]
    for talk in inside:
        talk.in_step()
    most = 0
    outside = []
    for _ in range(6):
        for _ in range(100):
            sock = socket.create_connection((process.host, process.port), PATIENCE)
            outside.append(sock)
        most = max(most, process.descriptors())
        inside[0].expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
    assert most < FILES - 50
    for sock in outside:
        assert sock.recv(100) == TOO_MANY
        sock.close()
    assert "backend failed" not in process.log()
    inside[0].in_step()


def test_without_a_descriptor_clients_are_told_and_the_log_has_one_line(memcached, proxy):
    process = proxy("-s", memcached().address)
    with process.talk() as talk:
        talk.wait_until_alone()
        before, _ = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        no_more_files(process.pid)
        with ExitStack() as stack:  # each receives the error after a moment; all of them wait at the same time
            for late in [stack.enter_context(Talk(process.port)) for _ in range(30)]:
                late.expect_answer(TOO_MANY)
                assert late.closed()
        talk.in_step()
        set_limit(process.pid, before)
        eventually(lambda: is_served(process), what="clients are accepted again")
    log = process.log()
    assert log.count("WARNING connection not accepted at=") == 1
    assert "Too many open files" in log


def test_operators_who_cannot_be_accepted_wait(memcached, proxy, tmp_path):
    """The loop sleeps meanwhile: the connection that waits does not wake it again and again."""
    process = proxy("-s", memcached().address, "--workers", 2, "--control", tmp_path / "control")
    process.control = str(tmp_path / "control")
    before, _ = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    no_more_files(process.pid)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(process.control)
        sock.sendall(b'{"command": "pids"}\n')
        eventually(lambda: process.log().count("WARNING operator not accepted error=") >= 2, what="two attempts")
        eventually(lambda: is_asleep(process.pid), what="a moment in which it does not run")
        set_limit(process.pid, before)
        assert sock.recv(4096).startswith(b'{"pid": ')


def test_an_operator_of_a_single_process_who_cannot_be_accepted_is_turned_away(memcached, proxy, tmp_path):
    process = proxy("-s", memcached().address, "--control", tmp_path / "control")
    process.control = str(tmp_path / "control")
    before, _ = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    with process.talk() as talk, socket.socket(socket.AF_UNIX) as sock:
        talk.wait_until_alone()
        no_more_files(process.pid)
        sock.settimeout(PATIENCE)
        sock.connect(process.control)
        assert sock.recv(100) == b""
    set_limit(process.pid, before)
    assert eventually(lambda: answer_to(process, "pids"), what="operators are accepted again")["pid"] == process.pid
    clients_are(process, 1)


def answer_to(process, word):
    """The result of `order`, or None if the connection was refused."""
    try:
        return order(process, word)
    except (OSError, EOFError):
        return None
