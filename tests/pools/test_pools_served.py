"""Several pools in one process, each with its own servers and options."""

import os
import signal
import stat
import time

import pytest
import yaml
from support.servers import HOST, free_port, run
from support.talk import Talk, storage, value
from support.timing import TICK, eventually, milliseconds

END = b"END\r\n"


@pytest.fixture
def serve(proxy, tmp_path):
    """Call it with pools, of which the first listens on TCP, for a proxy that serves them."""

    def start(pools):
        port = free_port()
        first = next(iter(pools.values()))
        first["listen"] = f"{HOST}:{port}"
        file = tmp_path / "nutcracker.yml"
        file.write_text(yaml.safe_dump(pools, sort_keys=False))
        return proxy("--pools", file, port=port)

    return start


def served_by(*servers, **keys):
    return {"servers": [f"{server.address}:1" for server in servers], **keys}


def test_each_pool_has_servers_of_its_own(serve, memcached, tmp_path):
    first, second, third = memcached(), memcached(), memcached()
    other_port = free_port()
    process = serve(
        {
            "alpha": served_by(first),
            "beta": served_by(second, listen=f"{HOST}:{other_port}"),
            "gamma": served_by(third, listen=str(tmp_path / "socket")),
        }
    )
    talks = [process.talk(), Talk(other_port), Talk(path=tmp_path / "socket")]
    for talk, data in zip(talks, (b"one", b"two", b"three")):
        talk.expect(storage(b"set", b"k", data), b"STORED\r\n")
    for talk, server, data in zip(talks, (first, second, third), (b"one", b"two", b"three")):
        talk.expect(b"get k\r\n", value(b"k", data) + END)
        talk.in_step()
        talk.close()
        with server.talk() as direct:
            direct.expect(b"get k\r\n", value(b"k", data) + END)


def test_a_pool_with_a_role_is_served_if_it_listens(serve, memcached):
    servers = first, second, third = memcached(), memcached(), memcached()
    other_port = free_port()
    process = serve(
        {
            "alpha": served_by(first, replicas=["beta"], gutter="gamma", failover_ttl=10),
            "beta": served_by(second, listen=f"{HOST}:{other_port}"),
            "gamma": served_by(third),
        }
    )
    eventually(lambda: " serving " in process.log())
    assert " pools=2 " in process.log()
    with Talk(other_port) as talk:
        talk.expect(storage(b"set", b"k", b"of beta"), b"STORED\r\n")
        talk.expect(b"get k\r\n", value(b"k", b"of beta") + END)
    for server, reply in zip(servers, (END, value(b"k", b"of beta") + END, END)):
        with server.talk() as direct:
            direct.expect(b"get k\r\n", reply)


def test_a_line_about_a_server_names_it_and_its_pool(serve, memcached):
    """A server may be in several pools: its address alone does not show which clients are affected."""
    server, other_port = memcached(), free_port()
    settings = {"auto_eject_hosts": True, "server_failure_limit": 1, "server_retry_timeout": 100}
    process = serve({"alpha": served_by(server, **settings), "beta": served_by(server, listen=f"{HOST}:{other_port}", **settings)})
    server.kill()
    with Talk(other_port) as talk:
        talk.expect(b"get k\r\n", END)
    eventually(lambda: f"backend ejected server={server.address}" in process.log())
    server.restart()
    eventually(lambda: f"backend restored server={server.address}" in process.log())
    lines = [line for line in process.log().splitlines() if " backend " in line or " ring " in line]
    assert len(lines) >= 3 and all(f" server={server.address} " in line and line.endswith(" pool=beta") for line in lines), lines


@pytest.mark.parametrize("mode", ["0666", "0600", "660"])
def test_permissions_of_a_socket(mode, serve, memcached, tmp_path):
    path = tmp_path / "socket"
    server = memcached()
    serve({"alpha": served_by(server), "beta": served_by(server, listen=f"{path} {mode}")})
    assert stat.S_IMODE(os.stat(path).st_mode) == int(mode, 8)
    with Talk(path=path) as talk:
        talk.expect(storage(b"set", b"k", b"x"), b"STORED\r\n")
        talk.in_step()


def test_trouble_in_one_pool_is_none_in_another(serve, memcached, tmp_path):
    dead, alive = memcached(), memcached()
    process = serve(
        {
            "alpha": served_by(dead, server_failure_limit=1, on_get_error="error"),
            "beta": served_by(alive, listen=str(tmp_path / "socket")),
        }
    )
    dead.kill()
    with process.talk() as talk, Talk(path=tmp_path / "socket") as other:
        eventually(lambda: talk.ask(b"get k\r\n") == b"SERVER_ERROR ejected %b\r\n" % dead.address.encode())
        other.expect(storage(b"set", b"k", b"x"), b"STORED\r\n")
        other.expect(b"get k\r\n", value(b"k", b"x") + END)


def test_each_pool_has_its_own_bound_of_clients(serve, memcached, tmp_path):
    server = memcached()
    process = serve(
        {
            "alpha": served_by(server),
            "beta": served_by(server, listen=str(tmp_path / "socket"), client_connections=1),
        }
    )
    with Talk(path=tmp_path / "socket") as only, Talk(path=tmp_path / "socket") as refused:
        only.in_step()
        assert refused.read_line() == b"SERVER_ERROR too many connections\r\n"
        with process.talk() as one, process.talk() as two:
            one.in_step()
            two.in_step()


def test_backups_of_a_pool(serve, memcached, tmp_path):
    primary, backup, other = memcached(), memcached(), memcached()
    process = serve(
        {
            "alpha": served_by(primary, backups=[f"{backup.address}:1"], on_miss="always"),
            "beta": served_by(other, listen=str(tmp_path / "socket")),
        }
    )
    with process.talk() as talk, primary.talk() as direct:
        talk.expect(storage(b"set", b"k", b"x"), b"STORED\r\n")
        direct.expect(b"delete k\r\n", b"DELETED\r\n")
        talk.expect(b"get k\r\n", value(b"k", b"x") + END)
        talk.in_step()
    assert backup.stats()["cmd_set"] == 1
    assert other.stats()["cmd_set"] == 0


@pytest.mark.parametrize("on_get_error, answer", [("miss", END), ("error", b"SERVER_ERROR timeout {server}\r\n")])
def test_what_a_pool_says_when_nobody_answers(on_get_error, answer, serve, memcached):
    server = memcached()
    process = serve({"alpha": served_by(server, on_get_error=on_get_error, timeout=int(milliseconds(2)))})
    with process.talk() as talk:
        talk.expect(b"get k\r\n", END)
        server.pause()
        talk.expect(b"get k\r\n", answer.replace(b"{server}", server.address.encode()))


def test_preconnect(serve, memcached, tmp_path):
    eager, lazy = memcached(), memcached()
    serve(
        {
            "alpha": served_by(eager, preconnect=True),
            "beta": served_by(lazy, listen=str(tmp_path / "socket"), preconnect=False),
        }
    )

    def is_connected():
        return eager.stats()["curr_connections"] == lazy.stats()["curr_connections"] + 1

    eventually(is_connected, what="a connection before any request")
    time.sleep(4 * TICK)  # the proxy checks its connections
    eventually(is_connected, what="it is kept")


def test_two_pools_cannot_listen_on_one_port(memcached, tmp_path):
    port = free_port()
    file = tmp_path / "nutcracker.yml"
    file.write_text(
        yaml.safe_dump(
            {
                "alpha": served_by(memcached(), listen=f"{HOST}:{port}"),
                "beta": served_by(memcached(), listen=f"{HOST}:{port}"),
            }
        )
    )
    done = run("--pools", file)
    assert (
        done.returncode == 2
        and f"pool beta: listen: {HOST}:{port}: pool alpha listens on this address, too" in done.stderr
        and done.stderr.count("\n") == 1
    )


def test_all_pools_end_together(serve, memcached, tmp_path):
    path = tmp_path / "socket"
    process = serve({"alpha": served_by(memcached()), "beta": served_by(memcached(), listen=str(path))})
    with process.talk() as talk, Talk(path=path) as other:
        talk.in_step()
        other.in_step()
        process.signal(signal.SIGTERM)
        assert talk.closed() and other.closed()
    assert process.wait() == 0


def test_a_redis_pool_that_a_reload_brings_is_reported(memcached, proxy, tmp_path):
    port, server = free_port(), memcached()
    file = tmp_path / "nutcracker.yml"
    pools = {"alpha": {"listen": f"{HOST}:{port}", **served_by(server)}}
    file.write_text(yaml.safe_dump(pools, sort_keys=False))
    process = proxy("--pools", file, "--redis-pools", "skip", port=port)
    queue = {"listen": f"{HOST}:{free_port()}", "redis": True, "servers": [f"{HOST}:1:1"]}
    file.write_text(yaml.safe_dump(pools | {"queue": queue}, sort_keys=False))
    process.signal(signal.SIGHUP)
    eventually(lambda: "INFO reloaded" in process.log(), what="the file is read again")
    assert process.log().count("WARNING configuration warning: pool queue is a redis pool: not served (redis_pools = skip)\n") == 1
    process.signal(signal.SIGHUP)
    eventually(lambda: process.log().count("INFO reloaded") == 2, what="and again")
    assert process.log().count("configuration warning") == 1
