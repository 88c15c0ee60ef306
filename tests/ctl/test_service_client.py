"""gmproxyctl and the control socket: how it is found, and what is printed if no service replies or the reply is not valid."""

import json
import os
import socket
import threading

import pytest
from support.reports import report
from support.timing import PATIENCE, TICK

from gmproxy import __version__, ctl
from gmproxy.console import service_client
from gmproxy.system import control_socket

NOBODY = 65534


@pytest.fixture
def sockets(tmp_path):
    """Call it with a name and a reply for a socket that sends this reply to each client. Returns its path. With None it sends no reply."""
    listening = []

    def listen(name, answer):
        path = str(tmp_path / name)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        sock.listen()
        listening.append(sock)
        threading.Thread(target=serve, args=(sock, answer), daemon=True).start()
        return path

    def serve(sock, answer):
        kept = []
        while True:
            try:
                connection, _ = sock.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            connection.recv(1 << 16)
            if answer is None:
                kept.append(connection)
            else:
                connection.sendall(answer)
                connection.close()

    yield listen
    for sock in listening:
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def level(name):
    return json.dumps({"level": name}).encode() + b"\n"


# -- where it is


def test_the_nearest_wins(gmproxyctl, sockets, tmp_path, monkeypatch):
    paths = {name: sockets(name, level(name)) for name in ("option", "environment", "file", "default")}
    file = tmp_path / "gmproxy.conf"
    file.write_text(f"server = 10.0.0.1\ncontrol = {paths['file']}\n")
    monkeypatch.setattr(service_client, "DEFAULT_PATH", paths["default"])
    assert gmproxyctl("log-level").out == "default\n"
    assert gmproxyctl("log-level", "-c", file).out == "file\n"
    monkeypatch.setenv("GMPROXY_CONFIG", str(file))
    assert gmproxyctl("log-level").out == "file\n"
    monkeypatch.setenv("GMPROXY_CONTROL", paths["environment"])
    assert gmproxyctl("log-level", "-c", file).out == "environment\n"
    assert gmproxyctl("log-level", "-c", file, "--control", paths["option"]).out == "option\n"


def test_a_file_without_one(gmproxyctl, tmp_path):
    file = tmp_path / "gmproxy.conf"
    file.write_text("server = 10.0.0.1\n")
    assert f"{file} sets no control socket: set control there, or give --control PATH" in gmproxyctl("status", "-c", file).complaint


def test_a_file_that_is_wrong(gmproxyctl, tmp_path):
    file = tmp_path / "gmproxy.conf"
    file.write_text("sever = 10.0.0.1\n")
    assert f"{file}:1: there is no setting 'sever'" in gmproxyctl("status", "-c", file).complaint


# -- no service, or an invalid reply


#: Each command, with the arguments that it needs.
COMMANDS = [(name, *{"route": ["key"], "eject": ["a"], "restore": ["a"]}.get(name, [])) for name in ctl.COMMANDS]


@pytest.mark.parametrize("words", COMMANDS)
def test_nobody_is_there(words, gmproxyctl, tmp_path, monkeypatch):
    """Every command finds the socket in the same way, and prints which one it tried."""
    path = tmp_path / "none"
    file = tmp_path / "gmproxy.conf"
    file.write_text(f"control = {path}\n")
    assert f"no service at {path} (--control): check that it runs" in gmproxyctl(*words, "--control", path).refusal
    monkeypatch.setattr(service_client, "DEFAULT_PATH", str(path))
    assert f"no service at {path} (default): check that it runs" in gmproxyctl(*words).refusal
    monkeypatch.setenv("GMPROXY_CONFIG", str(file))
    assert f"no service at {path} (control in {file}): check that it runs" in gmproxyctl(*words).refusal
    monkeypatch.setenv("GMPROXY_CONTROL", f"{path}2")
    assert f"no service at {path}2 (GMPROXY_CONTROL): check that it runs" in gmproxyctl(*words).refusal


def test_a_socket_that_was_left_behind(gmproxyctl, tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "left"))
    assert "no service at" in gmproxyctl("status", "--control", tmp_path / "left").refusal


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_no_permission(gmproxyctl, shared_directory):
    path = shared_directory / "control"
    with control_socket.listen(str(path), (-1, -1)):
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            said = gmproxyctl("status", "--control", path)
        finally:
            os.seteuid(0)
            os.setegid(0)
    assert f"no permission for {path}: only root, the user root and the group root may use it" in said.refusal


@pytest.mark.parametrize(
    "answer, says",
    [
        (b'{"error": "there is no such thing"}\n', "gmproxyctl: there is no such thing"),
        (b"", "no reply from"),
        (b"hello\n", "no reply from"),
        (b"[]\n", "the message is not a JSON object"),
    ],
)
def test_what_it_may_answer(answer, says, gmproxyctl, sockets):
    assert says in gmproxyctl("status", "--control", sockets("control", answer)).refusal


@pytest.mark.parametrize("words", COMMANDS)
def test_another_program_behind_the_socket(words, gmproxyctl, sockets):
    """It replies with a JSON object, but not one of gmproxy."""
    path = sockets("control", b'{"jsonrpc": "2.0", "result": [], "level": 1, "clients": null}\n')
    refusal = gmproxyctl(*words, "--control", path).refusal
    assert f"unexpected reply from {path}: no field " in refusal and f"Is it the control socket of gmproxy {__version__}?" in refusal


def test_a_service_of_another_version(gmproxyctl, sockets):
    """Its report lacks a field that is not at the top level."""
    told = report()
    del told["pools"]["default"]["backends"][1]["latency"]
    path = sockets("control", json.dumps(told).encode() + b"\n")
    assert f"unexpected reply from {path}: no field 'latency'" in gmproxyctl("status", "--control", path).refusal


def test_it_does_not_answer(gmproxyctl, sockets, monkeypatch):
    monkeypatch.setattr(service_client, "RESPONSE_TIMEOUT", TICK)
    assert "does not reply within" in gmproxyctl("status", "--control", sockets("control", None)).refusal


# -- invalid settings


@pytest.mark.parametrize(
    "words, says",
    [
        (("status", "--colour"), "--colour"),
        (("eject",), "SERVER"),
        (("log-level", "loud"), "'loud'"),
        (("hotkeys", "0"), "'0' is not a number of seconds from 0.1 to 60"),
        (("tail", "many"), "'many' is not a whole number from 1 to 1000"),
        (("top", "--interval", "nan"), "'nan' is not a number of seconds"),
        (("status", "--control"), "--control"),
        (("status", "--poool", "x"), "there is no option --poool: did you mean --pool?"),
        (("servers", "beta"), "unexpected argument 'beta'"),
    ],
)
def test_what_makes_no_sense(words, says, gmproxyctl):
    complaint = gmproxyctl(*words).complaint
    assert says in complaint and f"see gmproxyctl {words[0]} --help" in complaint
