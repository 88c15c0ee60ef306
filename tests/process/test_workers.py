"""Several workers: one service to its clients, whichever of them serves them."""

import os
import signal

import pytest
from support.keys import keys_by_server
from support.servers import HOST, free_port, read_stats, run
from support.talk import Talk, storage, value
from support.timing import eventually, milliseconds

from gmproxy.system import control_socket

FOUND = value(b"k", b"hello") + b"END\r\n"


@pytest.fixture
def service(memcached, proxy, tmp_path):
    """Call it with further arguments for a proxy with two workers, a control socket, and one memcached."""

    def start(*arguments, workers=2):
        path = tmp_path / "control"
        process = proxy("-s", memcached().address, "--workers", workers, "--control", path, *arguments)
        process.control = path
        return process

    return start


def pids(process):
    return control_socket.send_command(str(process.control), "pids")["workers"]


def all_serve(process):
    """Wait until both workers serve."""
    eventually(lambda: len(control_socket.send_command(str(process.control), "ping")["workers"]) == 2, what="all workers serve")


def served_by(talk, process):
    """The pid of the worker that serves the client `talk`: the one that has the other end of its connection."""
    ours = talk.socket.getsockname()[1]
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table]
    ends = f":{process.port:04X}", f":{ours:04X}"
    (inode,) = {row[9] for row in rows if row[1].endswith(ends[0]) and row[2].endswith(ends[1]) and row[3] == "01"}
    for pid in pids(process):
        if f"socket:[{inode}]" in descriptors(pid):
            return pid
    raise AssertionError("no worker has this connection")


def descriptors(pid):
    found = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{number}"))
        except FileNotFoundError:
            pass
    return found


def of_each_worker(process, count=1):
    """At least `count` clients of each worker: {pid: [Talk]}."""
    clients = {pid: [] for pid in pids(process)}

    def enough():
        talk = process.talk()
        talk.in_step()
        clients[served_by(talk, process)].append(talk)
        return all(len(talks) >= count for talks in clients.values())

    eventually(enough, what="every worker has its clients")
    return clients


def test_every_worker_answers(service):
    process = service()
    assert len(pids(process)) == 2
    for talks in of_each_worker(process).values():
        talks[0].expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        talks[0].expect(b"get k\r\n", FOUND)
        talks[0].in_step()


def test_stats_speak_for_all(service):
    process = service()
    clients = of_each_worker(process)
    everybody = [talk for talks in clients.values() for talk in talks]
    for talk in everybody:
        talk.expect(b"get k\r\n", b"END\r\n")
    for talks in clients.values():
        told = read_stats(talks[0])
        assert told["pid"] == process.pid
        assert told["curr_connections"] == len(everybody)
        assert told["cmd_get"] == told["get_misses"] == len(everybody)
        assert (told["threads"], told["backends"], told["backend_links"]) == (2, 1, 2)


def test_no_counter_falls_when_a_worker_dies(service):
    process = service()
    clients = of_each_worker(process)
    for talks in clients.values():
        talks[0].expect(b"get k\r\n" * 5, b"END\r\n" * 5)
    victim, survivor = clients
    other = clients[survivor][0]

    def counted():
        (backend,) = control_socket.send_command(str(process.control), "report")["pools"]["default"]["backends"]
        return backend["requests"].get("get", 0), read_stats(other)["cmd_get"]

    assert counted() == (10, 10)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(pids(process)) == 1, what="one worker is gone")
    assert counted() == (10, 10)
    assert control_socket.send_command(str(process.control), "report")["pools"]["default"]["clients"]["current"] == len(clients[survivor])
    eventually(lambda: len(set(pids(process)) - {victim}) == 2, what="another one has taken its place")
    other.expect(b"get k\r\n", b"END\r\n")
    eventually(lambda: counted() == (11, 11), what="all count on")
    other.expect(b"stats reset\r\n", b"RESET\r\n")
    assert counted() == (0, 0)


def test_counters_are_reset_everywhere(service):
    process = service()
    clients = of_each_worker(process)
    for talks in clients.values():
        talks[0].expect(b"get k\r\n", b"END\r\n")
    one, other = (talks[0] for talks in clients.values())
    one.expect(b"stats reset\r\n", b"RESET\r\n")
    assert read_stats(other)["cmd_get"] == read_stats(one)["cmd_get"] == 0
    one.in_step()


def test_stats_in_a_batch_keep_the_order(service):
    with service().talk() as talk:
        talk.send(b"get k\r\nstats\r\nget k\r\n")
        talk.expect_answer(b"END\r\n")
        assert b"STAT pid " in talk.read_until(b"END\r\n")
        talk.expect_answer(b"END\r\n")
        talk.in_step()


def test_settings_are_those_of_the_service(service):
    with service("-n", "7", "-i", "5").talk() as talk:
        told = talk.ask(b"stats settings\r\n", b"END\r\n")
    assert b"STAT max_connections 7\r\n" in told and b"STAT server_connections 5\r\n" in told


@pytest.mark.parametrize("connections, workers, each", [(1, 3, 3), (2, 2, 2), (4, 2, 4)])
def test_connections_to_a_server_are_shared_by_the_workers(memcached, proxy, connections, workers, each):
    """A worker needs at least one connection. If that makes more than -i in total, a warning is logged at start-up."""
    server = memcached()
    before = server.stats()["curr_connections"]
    front = proxy("-s", server.address, "-i", connections, "--workers", workers, "--preconnect")
    warning = f"WARNING server_connections is below workers server_connections={connections} workers={workers}"
    eventually(lambda: front.log().count("serving build") == workers, what="all workers have said that they serve")
    assert (warning in front.log()) is (connections < workers)
    clients = [front.talk() for _ in range(16)]
    for talk in clients:
        talk.expect(b"get k\r\n", b"END\r\n")
    assert server.stats()["curr_connections"] - before <= each
    for talk in clients:
        talk.close()


def test_as_magent(memcached, proxy):
    server = memcached().address
    process = proxy("-s", server, "-D", "--workers", "2", program="magent")
    with process.talk() as talk:
        talk.expect(b"stats\r\n", b"memcached agent v0.6\r\nmatrix 1 -> %b, pool size 0\r\nEND\r\n" % server.encode())


def test_the_limit_of_clients_is_that_of_the_service(service):
    """It does not matter which worker accepts them."""
    process = service("-n", "10")
    clients = [process.talk() for _ in range(10)]
    for talk in clients:
        talk.in_step()
    with process.talk() as talk:
        talk.expect_answer(b"SERVER_ERROR too many connections\r\n")
        assert talk.closed()
    clients.pop().close()

    def lets_in():
        with process.talk() as talk:
            talk.send(b"version\r\n")
            return talk.read_line().startswith(b"VERSION")

    eventually(lets_in, what="there is room again")


def test_a_worker_that_dies_is_replaced_and_the_clients_of_others_do_not_notice(service):
    process = service()
    clients = of_each_worker(process)
    (victim, lost), (survivor, kept) = clients.items()
    os.kill(victim, signal.SIGKILL)
    for talk in lost:
        assert talk.closed()
    for talk in kept:
        talk.expect(b"get k\r\n", b"END\r\n")
        talk.in_step()
    eventually(lambda: len(pids(process)) == 2 and victim not in pids(process), what="another worker")
    assert survivor in pids(process)
    of_each_worker(process)
    assert f"worker died worker=1 pid={victim} reason=signal 9" in process.log() or f"worker=2 pid={victim}" in process.log()


def test_a_worker_that_dies_while_the_service_drains_is_replaced_by_one_that_drains(service):
    process = service()
    all_serve(process)
    control_socket.send_command(str(process.control), "drain")
    victims = pids(process)
    for victim in victims:
        os.kill(victim, signal.SIGKILL)

    def drains_again():
        response = control_socket.send_command(str(process.control), "report")
        return response.get("draining") and len(pids(process)) == 2 and not set(pids(process)) & set(victims)

    eventually(drains_again, what="others that drain")
    with pytest.raises(ConnectionRefusedError):
        process.talk()
    assert "internal error" not in process.log()
    assert "error" not in control_socket.send_command(str(process.control), "reload")
    with process.talk() as talk:
        talk.in_step()


def test_a_worker_that_is_started_later_logs_what_the_others_log(service):
    process = service()
    all_serve(process)
    control_socket.send_command(str(process.control), "log-level", "debug")
    victims = pids(process)
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(pids(process)) == 2 and not set(pids(process)) & set(victims), what="others")
    eventually(
        lambda: control_socket.send_command(str(process.control), "log-level") == {"level": "debug"}, what="the new workers have the level"
    )


def test_clients_of_a_worker_that_died_make_room(service):
    process = service("-n", "100")
    clients = of_each_worker(process)
    victim = next(iter(clients))
    left = sum(len(talks) for pid, talks in clients.items() if pid != victim)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: connections(process) == left + 1, what="the dead are not counted")


def connections(process):
    """The number of connections, as the service counts them. None if it refuses the connection that this needs."""
    try:
        return process.stats()["curr_connections"]
    except AssertionError:
        return None


def test_a_hanging_worker_does_not_hang_stats(service):
    process = service()
    clients = of_each_worker(process)
    (stopped, _), (_, talks) = clients.items()
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert read_stats(talks[0])["threads"] == 1
        talks[0].in_step()
    finally:
        os.kill(stopped, signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end(service, number):
    process = service()
    clients = of_each_worker(process)
    workers = pids(process)
    process.signal(number)
    assert process.wait() == 0
    for talks in clients.values():
        assert talks[0].closed()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)
    assert not process.control.exists()


def test_workers_end_with_their_master(service):
    process = service()
    workers = pids(process)
    process.kill()
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), what="the workers are gone")


def test_a_worker_that_hangs_at_the_end_is_killed(service):
    process = service("--grace", "100")
    eventually(lambda: process.log().count("INFO serving ") == 2, what="both workers serve")
    workers = pids(process)
    os.kill(workers[0], signal.SIGSTOP)
    assert process.stop() == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)
    assert f"worker does not end worker=1 pid={workers[0]}" in process.log()


def test_workers_that_cannot_start_end_the_master(tmp_path):
    """gevent cannot be imported: one line reports it."""
    (tmp_path / "gevent.py").write_text("raise ImportError('gevent is broken')\n")
    port = free_port()
    done = run("-s", "a:1", "-l", HOST, "-p", port, "--workers", "2", "--pid-file", tmp_path / "pid", cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot load the program: gevent is broken" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "pid").exists()


def test_in_the_background(memcached, tmp_path):
    port = free_port()
    done = run("-s", memcached().address, "-l", HOST, "-p", port, "--workers", "2", "--daemon", "--pid-file", tmp_path / "pid")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pid = int((tmp_path / "pid").read_text())
    try:
        with Talk(port) as talk:
            assert read_stats(talk)["pid"] == pid
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    assert not (tmp_path / "pid").exists()


def test_signals_to_all_processes_at_once(service):
    """killall and Ctrl-C send them in this way, at any moment."""
    process = service()
    before = process.log()
    for _ in range(3):
        for number in (signal.SIGHUP, signal.SIGUSR1):
            os.killpg(process.pid, number)
    eventually(lambda: "INFO reloaded" in process.log() and "INFO log reopened" in process.log(), what="the master follows")
    with process.talk() as talk:
        talk.expect(b"get k\r\n", b"END\r\n")
    assert "worker died" not in process.log()[len(before) :]
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 0


def test_one_for_each_cpu(service):
    assert len(pids(service(workers="auto"))) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("backed", [False, True], ids=["without_backup", "with_a_backup"])
def test_nobody_reads_what_another_worker_has_still_to_delete(memcached, proxy, tmp_path, backed):
    """A write of a key failed in one worker, which is stopped before it can delete the key. The other worker has noticed nothing."""
    server, backup = memcached(), memcached()
    process = proxy(
        "-s",
        server.address,
        *(("-b", backup.address) if backed else ()),
        "--workers",
        "2",
        "--control",
        tmp_path / "control",
        "--timeout",
        milliseconds(4),
        "--on-miss",
        "never",
    )
    process.control = tmp_path / "control"
    (writer, writers), (reader, readers) = of_each_worker(process).items()
    write, read = writers[0], readers[0]
    keys = [b"key-%d" % number for number in range(200)]
    write.expect(b"".join(storage(b"set", key, b"old") for key in keys), b"STORED\r\n" * len(keys))
    read.expect(b"get key-0\r\n", value(b"key-0", b"old") + b"END\r\n")
    server.pause()
    write.expect(storage(b"set", b"key-0", b"new"), b"STORED\r\n" if backed else b"SERVER_ERROR timeout %b\r\n" % server.address.encode())
    os.kill(writer, signal.SIGSTOP)
    server.resume()
    found = value(b"key-0", b"new") if backed else b""
    try:
        read.expect(b"get key-0\r\n", found + b"END\r\n")
        read.send(b"get %b\r\n" % b" ".join(keys))
        rest = read.read_until(b"END\r\n")
        assert rest.startswith(found) and value(b"key-0", b"old") not in rest
        assert rest.count(b"old") > 190, "other keys are not concerned, or seldom"
        read.in_step()
    finally:
        os.kill(writer, signal.SIGCONT)
    with server.talk() as there:
        eventually(lambda: there.ask(b"get key-0\r\n", b"END\r\n") == b"END\r\n", what="it is deleted")
    eventually(lambda: process.stats()["journal_keys"] == 0, what="nothing is owed")
    read.expect(storage(b"set", b"key-0", b"newer"), b"STORED\r\n")
    read.expect(b"get key-0\r\n", value(b"key-0", b"newer") + b"END\r\n")


def test_backups_and_failures_as_ever(memcached, proxy):
    primaries = [memcached(), memcached()]
    backup = memcached()
    process = proxy(*(part for server in primaries for part in ("-s", server.address)), "-b", backup.address, "--workers", "2")
    keys = [key for (key, *_) in keys_by_server(2, 1)]
    with process.talk() as talk:
        for key in keys:
            talk.expect(storage(b"set", key, b"hello"), b"STORED\r\n")
    with backup.talk() as talk:
        eventually(lambda: all(talk.ask(b"get %b\r\n" % key, b"END\r\n") != b"END\r\n" for key in keys), what="the copies")
    primaries[0].kill()
    for _ in range(6):  # most likely connections to both workers
        with process.talk() as talk:
            for key in keys:
                talk.expect(b"get %b\r\n" % key, value(key, b"hello") + b"END\r\n")
