"""The first instructions of a command, each in its own process."""

import signal
import subprocess
import sys

import pytest
from support.servers import environment

SCRIPT = "import os, signal, sys; from gmproxy.system import bootstrap; "


def run(code, **options):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT + code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        **options,
    )


def test_signals_are_kept_once_each_and_in_order():
    done = run(
        "bootstrap.hold_signals()\nfor number in (1, 12, 1, 15): os.kill(os.getpid(), number)\n"
        "print(bootstrap.end_is_pending(), bootstrap.take_held_signals(), bootstrap.take_held_signals(), bootstrap.end_is_pending())"
    )
    assert done.stdout == "True [1, 12, 15] [] False\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_command_that_does_not_serve_is_ended_by_what_was_kept(number):
    done = run(
        f"bootstrap.hold_signals(); os.kill(os.getpid(), {int(number)}); print(1, flush=True); bootstrap.default_signals(); print(2)"
    )
    assert (done.returncode, done.stdout) == (-number, "1\n")


def test_at_the_end_all_are_ignored():
    done = run(
        "bootstrap.hold_signals(); bootstrap.ignore_signals()\nfor number in bootstrap.SERVICE_SIGNALS: os.kill(os.getpid(), number)\n"
        "print(bootstrap.take_held_signals())"
    )
    assert (done.returncode, done.stdout) == (0, "[]\n")


def test_descriptors_that_are_closed_are_opened():
    done = run(
        "os.close(0); os.close(2); bootstrap.open_standard_descriptors(); "
        "print([os.readlink(f'/proc/self/fd/{number}') for number in (0, 2)], os.get_inheritable(0))"
    )
    assert done.stdout == "['/dev/null', '/dev/null'] True\n"
