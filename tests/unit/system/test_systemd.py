"""Notifications to systemd: which are sent, and when none is."""

import os
import socket

import pytest
from support.timing import PATIENCE

from gmproxy.system.systemd import READY, Notifier


@pytest.fixture
def systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def test_nobody_wants_to_know():
    notifier = Notifier({"WATCHDOG_USEC": "1000000"})
    notifier.notify(READY)
    assert (notifier.watchdog_interval, notifier.environment()) == (None, {})


def test_it_is_told(systemd):
    environment = {"NOTIFY_SOCKET": systemd.getsockname(), "HOME": "/"}
    notifier = Notifier(environment)
    assert environment == {"HOME": "/"}
    notifier.notify(READY, "MAINPID=7")
    assert systemd.recv(1000) == b"READY=1\nMAINPID=7"
    notifier.notify_reloading()
    assert systemd.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")


def test_an_abstract_address():
    name = f"gmproxy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(PATIENCE)
        listener.bind("\0" + name)
        notifier = Notifier({"NOTIFY_SOCKET": "@" + name})
        notifier.notify(READY)
        assert listener.recv(1000) == b"READY=1"
        assert notifier.environment() == {"NOTIFY_SOCKET": "@" + name}


def test_systemd_is_gone(tmp_path):
    """A message that cannot be sent is dropped. The next one is sent once systemd is reachable again."""
    path = str(tmp_path / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": path})
    notifier.notify(READY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(PATIENCE)
        listener.bind(path)
        notifier.notify("STATUS=here")
        assert listener.recv(1000) == b"STATUS=here"


@pytest.mark.parametrize(
    "usec, pid, seconds",
    [
        ("4000000", "", 4.0),
        pytest.param("4000000", str(os.getpid()), 4.0, id="this process"),
        ("4000000", "1", None),
        ("", "", None),
        ("many", "", None),
    ],
)
def test_the_watchdog(tmp_path, usec, pid, seconds):
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path), "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid})
    assert notifier.watchdog_interval == seconds
    assert notifier.environment().get("WATCHDOG_USEC") == (usec if seconds else None)
