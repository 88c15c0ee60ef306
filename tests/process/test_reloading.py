"""SIGHUP: the configuration is read again, no client is disconnected, and an invalid one changes nothing."""

import os
import signal
import threading
from contextlib import ExitStack

import pytest
from support.keys import keys_by_server
from support.scripted import expect, hang, wait_for
from support.servers import HOST, Memcached, free_port, run
from support.service import Load, clients_are, order, read_stats, reloaded
from support.talk import Talk, storage, value
from support.timing import eventually, milliseconds

from gmproxy.system import control_socket

FOUND = value(b"k", b"hello") + b"END\r\n"

workers = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def configured(proxy, tmp_path):
    """Call it with lines of a configuration file for a proxy that reads them. `process.reload(lines)` writes other lines and reloads."""
    file = tmp_path / "gmproxy.conf"

    def start(*lines, workers=1, suffix=".conf"):
        nonlocal file
        file = file.with_suffix(suffix)
        write(*lines)
        port = free_port()
        where = () if suffix == ".yml" else ("-l", HOST, "-p", port)
        process = proxy("-c", file, *where, "--workers", workers, "--control", tmp_path / "control", port=port)
        process.control = str(tmp_path / "control")
        process.file = file
        process.reload = lambda *lines: reload(process, *lines)
        return process

    def write(*lines):
        file.write_text("\n".join(lines) + "\n")

    def reload(process, *lines):
        write(*lines)
        return order(process, "reload")

    return start


@pytest.fixture
def pools(proxy, tmp_path):
    """The same as `configured`, with a nutcracker.yml: {pool: (port, server)}."""
    file = tmp_path / "pools.yml"

    def write(pools):
        file.write_text(
            "".join(f"{name}:\n  listen: {HOST}:{port}\n  servers:\n   - {server.address}:1\n" for name, (port, server) in pools.items())
        )

    def start(pools, workers=1):
        write(pools)
        port = next(iter(pools.values()))[0]
        process = proxy("-c", file, "--workers", workers, "--control", tmp_path / "control", port=port)
        process.control = str(tmp_path / "control")

        def reload(pools):
            write(pools)
            return order(process, "reload")

        process.reload = reload
        return process

    return start


def servers(*backends, role="server"):
    return f"{role} = {', '.join(backend.address for backend in backends)}"


# -- servers


@workers
def test_a_server_is_exchanged_under_load(memcached, configured, workers):
    """Every reply is right, and no client is disconnected."""
    one, other = memcached(), memcached()
    for server in (one, other):
        with server.talk() as talk:
            talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
    process = configured(servers(one), workers=workers)
    with Load(process.port) as load:
        for turn in range(6):
            told = process.reload(servers(other if turn % 2 == 0 else one))
            assert told["changed"] == {"": ["server"]}
            load.wait_for_more()
        process.reload(servers(other))
        load.wait_for_more()
        gone = one.stats
        eventually(lambda: gone()["curr_connections"] <= 2, what="the links to the server that was taken out are closed")
    assert "backend failed" not in process.log()


def test_a_sighup_does_it(memcached, configured):
    one, other = memcached(), memcached()
    process = configured(servers(one))
    with process.talk() as talk:
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        process.file.write_text(servers(other) + "\n")
        process.signal(signal.SIGHUP)
        reloaded(process)
        talk.expect(b"get k\r\n", b"END\r\n")
        talk.in_step()


@workers
def test_unchanged_servers_keep_links_health_and_counters(memcached, configured, workers):
    first, second = memcached(), memcached()
    process = configured(servers(first), workers=workers)
    with process.talk() as talk:
        for _ in range(5):
            talk.expect(b"get k\r\n", b"END\r\n")
        connections = first.stats()["total_connections"]
        assert process.reload(servers(second, first), "timeout = 400", "server_failure_limit = 7")["changed"]
        keys = keys_by_server(2, 3)
        for key in (*keys[0], *keys[1]):
            talk.expect(b"get %b\r\n" % key, b"END\r\n")
        assert first.stats()["total_connections"] == connections + 1  # the connection that sends this request
        told = read_stats(talk)
        assert (told["cmd_get"], told["backends"]) == (11, 2)
        assert second.stats()["cmd_get"] == 3


def test_a_server_that_is_taken_out_answers_what_it_was_asked(scripted, memcached, configured):
    go_on = threading.Event()
    slow = scripted([expect(b"get k\r\n"), wait_for(go_on), FOUND])
    process = configured(servers(slow), "timeout = " + milliseconds(200))
    with process.talk() as talk, process.talk() as other:
        talk.send(b"get k\r\n")
        slow.wait_until_seen(b"get k\r\n")
        process.reload(servers(memcached()), "timeout = " + milliseconds(200))
        other.expect(b"get k\r\n", b"END\r\n")
        go_on.set()
        talk.expect_answer(FOUND)
        talk.expect(b"get k\r\n", b"END\r\n")
        talk.in_step()


def test_a_server_that_is_taken_out_and_hangs(scripted, memcached, configured):
    hanging = scripted([expect(b"get k\r\n"), hang()])
    process = configured(servers(hanging), "timeout = " + milliseconds(6))
    with process.talk() as talk:
        talk.send(b"get k\r\n")
        hanging.wait_until_seen(b"get k\r\n")
        process.reload(servers(memcached()), "timeout = " + milliseconds(6))
        talk.expect_answer(b"END\r\n")
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        talk.in_step()


@workers
def test_backups_come_and_go(memcached, configured, workers):
    primary, backup = memcached(), memcached()
    process = configured(servers(primary), workers=workers)
    with process.talk() as talk, backup.talk() as behind:
        talk.expect(storage(b"set", b"before", b"1"), b"STORED\r\n")
        process.reload(servers(primary), servers(backup, role="backup"))
        talk.expect(storage(b"set", b"with", b"2"), b"STORED\r\n")
        eventually(lambda: behind.ask(b"get with\r\n", b"END\r\n") != b"END\r\n", what="the copy")
        process.reload(servers(primary))
        talk.expect(storage(b"set", b"after", b"3"), b"STORED\r\n")
        talk.expect(b"get after\r\n", value(b"after", b"3") + b"END\r\n")
        behind.expect(b"get before with after\r\n", value(b"with", b"2") + b"END\r\n")


def test_backups_that_go_while_they_are_asked(scripted, memcached, configured):
    """The primary has failed, its backup has a request in flight, and then the configuration has no backup."""
    go_on = threading.Event()
    primary = Memcached()
    backup = scripted(answer=lambda request: go_on.wait(20) and (FOUND if request.startswith(b"get") else b"STORED\r\n"))
    with primary:
        long = "timeout = " + milliseconds(300)
        process = configured(servers(primary), servers(backup, role="backup"), long)
        primary.kill()
        with process.talk() as talk:
            talk.send(b"get k\r\n")
            eventually(lambda: any(backup.saw), what="the backup receives requests")
            process.reload(servers(memcached()), long)
            go_on.set()
            talk.expect_answer(FOUND)
            talk.expect(b"get k\r\n", b"END\r\n")
            talk.in_step()


# -- other settings


@workers
def test_limits_and_timeouts(scripted, memcached, configured, workers):
    server = memcached()
    process = configured(servers(server), workers=workers)
    with process.talk() as talk, process.talk() as silent:
        talk.in_step()
        silent.in_step()
        process.reload(servers(server), "max_item_size = 1k", "max_connections = 2", "disable_flush_all = yes")
        talk.expect(storage(b"set", b"k", b"x" * 2000), b"SERVER_ERROR object too large for cache\r\n")
        talk.expect(b"flush_all\r\n", b"CLIENT_ERROR flush_all not allowed\r\n")
        with process.talk() as third:
            third.expect_answer(b"SERVER_ERROR too many connections\r\n")
        assert b"STAT max_connections 2\r\n" in talk.ask(b"stats settings\r\n", b"END\r\n")
        hanging = scripted([expect(b"get k\r\n"), hang()])
        process.reload(servers(hanging), "timeout = " + milliseconds(6))
        talk.expect(b"get k\r\n", b"END\r\n")
        silent.in_step()


def test_more_and_fewer_links(memcached, configured):
    server = memcached()
    process = configured(servers(server), "server_connections = 1")
    with process.talk() as talk:
        for count in (3, 1, 2):
            process.reload(servers(server), f"server_connections = {count}")
            talk.expect(b"get k\r\n", b"END\r\n")
        talk.in_step()


def test_the_log(memcached, configured, tmp_path):
    server = memcached()
    process = configured(servers(server))
    process.reload(servers(server), "verbose = yes", f"log_file = {tmp_path / 'log'}")
    with process.talk() as talk:
        talk.in_step()
    eventually(lambda: "client left" in (tmp_path / "log").read_text(), what="more is logged, and there")
    process.reload(servers(server))
    assert "client" not in process.log()


def test_command_line_and_environment_still_win(memcached, configured):
    one, other = memcached(), memcached()
    process = configured(servers(one), "port = 1")
    told = process.reload(servers(other), "port = 2")
    assert told["changed"] == {"": ["server"]}


# -- refused


@pytest.mark.parametrize(
    "line, reason",
    [
        ("wrokers = 3", "there is no setting 'wrokers'"),
        ("timeout = never", "'never' is not a whole number"),
        ("server = :", "bad server"),
        ("unix_socket = /no/such/place", "cannot listen on /no/such/place"),
        ("log_file = /no/such/place", "cannot write log file"),
    ],
)
@workers
def test_a_bad_configuration_changes_nothing(memcached, configured, workers, line, reason):
    server = memcached()
    process = configured(servers(server), workers=workers)
    with process.talk() as talk:
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        told = process.reload(line, *([] if line.startswith("server") else [servers(server)]))
        assert reason in told["error"]
        talk.expect(b"get k\r\n", FOUND)
        talk.in_step()
    assert "reload refused" in process.log() and reason in process.log()
    assert process.reload(servers(server), "timeout = 700")["changed"] == {"": ["timeout"]}


def test_a_port_in_use(memcached, pools):
    server = memcached()
    ports = free_port(), server.port
    process = pools({"one": (ports[0], server)})
    told = process.reload({"one": (ports[0], server), "two": (ports[1], server), "three": (free_port(), server)})
    assert told == {"error": f"pool two: listen: cannot listen on {HOST}:{server.port}: Address already in use"}
    with process.talk() as talk:
        talk.in_step()


def test_a_file_that_is_gone(memcached, configured):
    process = configured(servers(memcached()))
    process.file.unlink()
    assert "No such file" in order(process, "reload")["error"]
    with process.talk() as talk:
        talk.in_step()


@workers
def test_what_needs_a_restart(memcached, configured, workers):
    server = memcached()
    process = configured(servers(server), workers=workers)
    assert process.reload(servers(server), "user = nobody", "timeout = 300")["needs_restart"] == ["user"]
    assert "setting needs a restart setting=user" in process.log()


# -- pools


@workers
def test_pools_come_and_go(memcached, pools, workers):
    """The pool that stays is under load."""
    first, second = memcached(), memcached()
    ports = [free_port() for _ in range(3)]
    with first.talk() as talk:
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
    process = pools({"stays": (ports[0], first), "goes": (ports[1], first)}, workers)
    with Load(ports[0]) as load, Talk(ports[1]) as leaving:
        leaving.expect(b"get k\r\n", FOUND)
        told = process.reload({"stays": (ports[0], first), "comes": (ports[2], second)})
        assert (told["added"], told["removed"], told["changed"]) == (["comes"], ["goes"], {})
        with Talk(ports[2]) as talk:
            talk.expect(b"get k\r\n", b"END\r\n")
        eventually(lambda: refuses(ports[1]), what="the old address is closed")
        leaving.expect(b"get k\r\n", FOUND)
        assert leaving.closed()
        load.wait_for_more()


def refuses(port):
    try:
        Talk(port).close()
    except ConnectionRefusedError:
        return True
    return False


@workers
def test_two_pools_change_places(memcached, pools, workers):
    first, second = memcached(), memcached()
    ports = free_port(), free_port()
    process = pools({"one": (ports[0], first), "two": (ports[1], second)}, workers)
    with Talk(ports[0]) as old:
        old.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        process.reload({"one": (ports[1], first), "two": (ports[0], second)})
        old.expect(b"get k\r\n", FOUND)  # clients that are connected stay in their pool
        eventually(lambda: asked(ports[1]) == FOUND and asked(ports[0]) == b"END\r\n", what="new clients come to the other one")


def asked(port):
    with Talk(port) as talk:
        return talk.ask(b"get k\r\n", b"END\r\n")


@workers
def test_another_address(memcached, configured, workers, tmp_path):
    server = memcached()
    process = configured(servers(server), workers=workers)
    with process.talk() as talk:
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        process.reload(servers(server), f"unix_socket = {tmp_path / 'sock'}")
        with Talk(path=tmp_path / "sock") as local:
            local.expect(b"get k\r\n", FOUND)
            process.reload(servers(server))
            assert not (tmp_path / "sock").exists()
            local.expect(b"get k\r\n", FOUND)
        talk.in_step()


# -- a worker that starts later


def test_a_worker_that_begins_after_a_reload_knows_of_it(memcached, configured):
    one, other = memcached(), memcached()
    process = configured(servers(one), workers=2)
    eventually(lambda: len(order(process, "ping")["workers"]) == 2, what="both have begun")
    process.reload(servers(other), "max_connections = 5")
    for pid in order(process, "pids")["workers"]:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(order(process, "ping").get("workers", [])) == 2, what="two new workers")
    with process.talk() as talk:
        assert read_stats(talk)["max_connections"] == 5
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
    with other.talk() as talk:
        talk.expect(b"get k\r\n", FOUND)
    clients_are(process, 1)


def test_in_the_background_with_a_file_named_from_here(memcached, tmp_path):
    """The working directory of the process is / by then. It finds the file nevertheless."""
    one, other = memcached(), memcached()
    port = free_port()
    (tmp_path / "a.conf").write_text(servers(one) + "\n")
    done = run("-c", "a.conf", "-l", HOST, "-p", port, "--daemon", "--pid-file", "pid", "--control", "control", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    try:
        (tmp_path / "a.conf").write_text(servers(other) + "\n")
        assert control_socket.send_command(str(tmp_path / "control"), "reload")["changed"] == {"": ["server"]}
        (tmp_path / "a.conf").write_text("nonsense\n")
        assert "a.conf:1: " in control_socket.send_command(str(tmp_path / "control"), "reload")["error"]
        with Talk(port) as talk:
            talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        with other.talk() as talk:
            talk.expect(b"get k\r\n", FOUND)
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    eventually(lambda: not (tmp_path / "pid").exists())


# -- without a signal


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_file_that_is_watched(memcached, configured, workers):
    one, other = memcached(), memcached()
    process = configured(servers(one), "watch = yes", workers=workers)
    with process.talk() as talk:
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        replacement = process.file.with_name("new")
        replacement.write_text(f"{servers(other)}\nwatch = yes\n")
        replacement.rename(process.file)
        eventually(lambda: talk.ask(b"get k\r\n", b"END\r\n") == b"END\r\n", what="the other server receives requests")
        process.file.write_text("nonsense\n")
        eventually(lambda: "reload refused" in process.log(), what="the mistake is seen")
        process.file.write_text(servers(one) + "\n")
        eventually(lambda: talk.ask(b"get k\r\n", b"END\r\n") == FOUND, what="and that it is mended")
        talk.in_step()


def test_rotated_logs(memcached, proxy, tmp_path):
    file = tmp_path / "log"
    process = proxy("-s", memcached().address, "--log-file", file, "--workers", "2", "-v")
    file.rename(tmp_path / "log.1")
    process.signal(signal.SIGUSR1)
    eventually(lambda: file.exists() and "log reopened" in file.read_text(), what="a new file")

    def told():
        with process.talk() as talk:
            talk.in_step()
        text = file.read_text()
        return "worker=1" in text and "worker=2" in text

    eventually(told, what="both workers write there")


# -- users


@workers
def test_users_come_and_go_with_their_file(configured, memcached, tmp_path, workers):
    """Clients that are logged in stay logged in. Each worker has the new users."""
    users = tmp_path / "users"
    users.write_text("old:one\n")
    users.chmod(0o600)
    lines = servers(memcached()), f"auth_file = {users}"
    process = configured(*lines, workers=workers)

    def login(user, password):
        return storage(b"set", b"login", b"%b %b" % (user, password))

    refused = b"CLIENT_ERROR authentication failure\r\n"
    with process.talk() as talk, process.talk() as waiting:
        talk.expect(login(b"old", b"one"), b"STORED\r\n")
        users.write_text("new:two\n")
        assert process.reload(*lines)["changed"] == {"": ["auth_file"]}
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        waiting.expect(login(b"old", b"one"), refused)
        waiting.expect(login(b"new", b"two") + b"get k\r\n", b"STORED\r\n" + FOUND)
    with ExitStack() as stack:
        others = [stack.enter_context(process.talk()) for _ in range(4)]
        for talk in others:  # each waits for a second, at the same time
            talk.send(login(b"old", b"one") + login(b"new", b"two"))
        for talk in others:
            talk.expect_answer(refused + b"STORED\r\n")
    assert process.reload(*lines)["changed"] == {}
    users.chmod(0o644)
    assert "must not be readable by others" in process.reload(*lines)["error"]
    assert "two" not in process.log()


@workers
def test_clients_that_are_there_keep_to_new_limits(configured, memcached, workers):
    process = configured(servers(memcached()), workers=workers)
    with process.talk() as talk:
        talk.expect(storage(b"set", b"k", b"x" * 2000), b"STORED\r\n")
        assert process.reload(process.file.read_text(), "max_item_size = 1k")["changed"] == {"": ["max_item_size"]}
        talk.expect(storage(b"set", b"k", b"x" * 2000), b"SERVER_ERROR object too large for cache\r\n")
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")


def test_servers_are_spoken_to_in_another_protocol(memcached, configured):
    """Open connections keep their protocol. New connections, here after a restart of the server, use the new one."""
    server = memcached()
    one = f"server = {server.address}"
    process = configured(one)
    with process.talk() as talk:
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        process.reload(one, "backend_protocol = binary")
        reloaded(process)
        talk.expect(b"get k\r\n", FOUND)
        talk.expect(b"mg k t\r\n", b"HD t-1\r\n")
        server.restart()
        talk.expect(b"get k\r\n", b"END\r\n")
        talk.expect(b"mg k t\r\n", b"CLIENT_ERROR the binary protocol of the server does not support flag t of mg\r\n")
        talk.in_step()
