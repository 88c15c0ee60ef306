"""Starting a program that is no child of this process but of init, or of what stands in for it: systemd accepts its own children alone as the
main process of a service without remark.

A helper, another Python, starts the program and ends. This process is not forked: it may have threads and a loop, whose copy could wait for
ever for a lock that another thread holds.
"""

import errno
import os
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

#: Seconds for the helper to start the program.
HELPER_TIMEOUT = 10.0

#: What the helper does: argv is the descriptor for its report, the program, and the words of its command. It reports the pid, or the negative
#: number of the error.
HELPER = """
import os, sys
report = int(sys.argv[1])
os.set_inheritable(report, False)
try:
    number = os.posix_spawn(sys.argv[2], sys.argv[3:], os.environ)
except OSError as error:
    number = -error.errno
os.write(report, b"%d" % number)
"""


def spawn_orphan(path: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the program `path` with the words `command` (the first is its name) in `environment`; it inherits what is inheritable. Returns its pid.

    Waits until it has been started, at most HELPER_TIMEOUT, and lets no greenlet run meanwhile. Raises OSError.
    """
    reading, writing = os.pipe()
    try:
        try:
            os.set_inheritable(writing, True)
            words = [sys.executable, "-I", "-S", "-c", HELPER, str(writing), path, *command]
            helper = os.posix_spawn(sys.executable, words, environment)
        finally:
            os.close(writing)
        try:
            report = _read(reading)
        finally:
            os.kill(helper, signal.SIGKILL)  # it has ended, or is too late
            os.waitpid(helper, 0)
    finally:
        os.close(reading)
    number = int(report or -errno.ECHILD)
    if number < 0:
        raise OSError(-number, os.strerror(-number), path)
    return number


def _read(descriptor: int) -> bytes:
    """What the helper reports, b"" if it ended without. Raises TimeoutError."""
    watched = plain_poll()
    watched.register(descriptor, select.POLLIN)
    if not watched.poll(HELPER_TIMEOUT * 1000):
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), sys.executable)
    return os.read(descriptor, 32)


def plain_poll() -> Any:
    """select.poll() as Python has it; gevent's would let other greenlets run."""
    monkey = sys.modules.get("gevent.monkey")
    return (select.poll if monkey is None else monkey.get_original("select", "poll"))()
