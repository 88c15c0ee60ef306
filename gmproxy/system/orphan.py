"""Starts a program as a child of init (or of the subreaper) instead of this process: systemd logs a warning if the new main process of a
service is not its own child.

A helper process, another Python, starts the program and exits. This process does not fork: it may have threads, and in the copy a lock held by
another thread would never be released.
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

#: The code of the helper. Its arguments: the descriptor for its report, the path of the program, and the words of the command. It writes the
#: pid, or the negative errno.
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
    """Start the program `path` with the arguments `command` (the first is its name) in `environment`. It gets the inheritable descriptors.
    Returns its pid.

    Blocks the process, not only a greenlet, until the program is started, at most for HELPER_TIMEOUT. Raises OSError.
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
            os.kill(helper, signal.SIGKILL)  # in case of a timeout; otherwise it has exited
            os.waitpid(helper, 0)
    finally:
        os.close(reading)
    number = int(report or -errno.ECHILD)
    if number < 0:
        raise OSError(-number, os.strerror(-number), path)
    return number


def _read(descriptor: int) -> bytes:
    """The report of the helper, b"" if it exited without one. Raises TimeoutError."""
    poll = plain_poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(HELPER_TIMEOUT * 1000):
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), sys.executable)
    return os.read(descriptor, 32)


def plain_poll() -> Any:
    """Python's own select.poll(). gevent's would let other greenlets run."""
    monkey = sys.modules.get("gevent.monkey")
    return (select.poll if monkey is None else monkey.get_original("select", "poll"))()
