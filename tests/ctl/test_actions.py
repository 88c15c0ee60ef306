"""gmproxyctl eject, restore, reload, log-level, drain: which control commands the service receives."""

import json

from support.keys import keys_by_server
from support.timing import eventually


def state_of(ask, running, server):
    told = json.loads(ask(running, "status", "--json").out)
    return next(backend for backend in told["pools"]["default"]["backends"] if backend["label"] == server.address)


def test_a_server_is_left_alone_until_it_is_restored(service, ask):
    running = service()
    server = running.servers[0]
    [key], _ = keys_by_server(2, 1)
    said = ask(running, "eject", server.address)
    assert (said.status, said.out) == (0, f"ejected until restored: {server.address}\n")
    assert eventually(lambda: state_of(ask, running, server)["state"] == "ejected")
    assert state_of(ask, running, server)["by_hand"]
    before = int(server.stats()["cmd_get"])
    with running.talk() as talk:
        talk.expect(b"get %b\r\n" % key, b"END\r\n")
    assert int(server.stats()["cmd_get"]) == before, "nobody asks it"
    assert ask(running, "restore", server.address).out == f"restored as soon as a probe succeeds: {server.address}\n"
    eventually(lambda: state_of(ask, running, server)["state"] not in ("ejected", "probing"))
    with running.talk() as talk:
        talk.expect(b"get %b\r\n" % key, b"END\r\n")
    assert int(server.stats()["cmd_get"]) == before + 1


def test_a_server_that_needs_no_restoring(service, ask):
    running = service()
    assert ask(running, "restore", running.servers[0].address).out == f"not ejected: {running.servers[0].address}\n"


def test_nobody_of_that_name(service, ask):
    running = service()
    assert "there is no server '10.9.9.9:1'" in ask(running, "eject", "10.9.9.9:1").refusal


def test_reload(service, ask, tmp_path):
    file = tmp_path / "gmproxy.conf"
    file.write_text("timeout = 300\n")
    running = service("-c", file)
    assert ask(running, "reload").out == "reloaded: no changes\n"
    file.write_text("timeout = 200\nwatch = yes\n")
    assert "timeout" in ask(running, "reload").out
    file.write_text("timeout = soon\n")
    assert f"{file}:1: timeout:" in ask(running, "reload").refusal
    assert json.loads(ask(running, "status", "--json").out)["pools"]["default"]["options"]["timeout"] == "200"


def test_reload_of_a_service_without_a_control_socket(service, ask, gmproxyctl, tmp_path):
    """A signal to the process that --pid names. Where there is a control socket, its reply counts."""
    file = tmp_path / "gmproxy.conf"
    file.write_text("timeout = 300\n")
    running = service("-c", file)
    assert "sets no control socket" in gmproxyctl("reload", "-c", file).complaint
    assert "no service at" in gmproxyctl("reload", "--control", tmp_path / "elsewhere").refusal
    for where in (("-c", file), ("--control", tmp_path / "elsewhere")):
        file.write_text(f"timeout = {400 + len(where[1].name)}\n")
        before = running.log().count("changed=timeout")
        said = gmproxyctl("reload", *where, "--pid", running.pid)
        assert (said.status, said.err) == (0, "")
        assert said.out.startswith(f"sent SIGHUP to {running.pid}; see the log for the result (")
        eventually(lambda before=before: running.log().count("changed=timeout") > before, what="it was reloaded")
    file.write_text("timeout = soon\n")
    assert "timeout:" in ask(running, "reload", "--pid", running.pid).refusal


def test_reload_of_a_process_that_is_gone(gmproxyctl, tmp_path):
    said = gmproxyctl("reload", "--control", tmp_path / "control", "--pid", "4194304")
    assert said.refusal == "gmproxyctl: cannot send SIGHUP to 4194304: No such process\n"


def test_log_level(service, ask):
    running = service()
    assert ask(running, "log-level", "debug").out == "debug\n"
    assert ask(running, "log-level").out == "debug\n"
    assert json.loads(ask(running, "log-level", "warning", "--json").out) == {"level": "warning"}


def test_drain(service, ask):
    running = service()
    talk = running.talk()
    talk.expect(b"version\r\n", talk.ask(b"version\r\n"))
    said = ask(running, "drain")
    assert said.status == 0 and said.out.startswith("draining: no new clients are accepted; ")
    assert json.loads(ask(running, "status", "--json").out)["draining"]
    assert "draining" in ask(running, "status").lines[0]
    talk.close()
