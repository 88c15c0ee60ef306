"""The first steps of a command: descriptors 0, 1 and 2, and the signals that arrive during start-up.

This module imports as little as possible, so that it takes effect as soon as Python has started. From `hold_signals` on, signals of the service
do not end the process: they are held, and the service acts on them once it serves.
"""

import os
import signal
import sys

#: The signals that the service acts on (docs/signals.md).
SERVICE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

#: The signals that end the service.
END_SIGNALS = (signal.SIGTERM, signal.SIGINT)

STANDARD_DESCRIPTORS = (0, 1, 2)

_held: list[int] = []


def open_standard_descriptors() -> None:
    """Open /dev/null for each of the descriptors 0, 1 and 2 that is closed; init scripts and cron may close them. Otherwise the first sockets
    would have these numbers, and code that prints or goes to the background would write to the sockets or close them."""
    for descriptor in STANDARD_DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the kernel returns the lowest free number, which is this one
            os.set_inheritable(descriptor, True)
    sys.stdin = sys.stdin or open(0, closefd=False)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False, errors="backslashreplace")


def discard_output() -> None:
    """Send further output to /dev/null. Called when the reader of stdout has closed the pipe, as `head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_error(text: str) -> None:
    """Write `text` to stderr. If that fails, stderr becomes /dev/null: Python would try again at exit, fail, and change the exit status."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), STANDARD_DESCRIPTORS[2])


def hold_signals() -> None:
    """Hold the signals of the service from now on, each at most once, until `take_held_signals` is called."""
    for number in SERVICE_SIGNALS:
        signal.signal(number, _hold)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SERVICE_SIGNALS)  # the parent process may have blocked them


def _hold(number: int, frame: object) -> None:
    if number not in _held:
        _held.append(number)


def take_held_signals() -> list[int]:
    """The signals held since the last call, in order of arrival. They are held no longer."""
    held = _held[:]
    _held.clear()
    return held


def end_is_pending() -> bool:
    """True if a held signal ends the service."""
    return any(number in END_SIGNALS for number in _held)


def default_signals() -> None:
    """Restore the default actions of signals, and raise those that were held. For a command that does not serve."""
    for number in SERVICE_SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for held in take_held_signals():
        signal.raise_signal(held)


def ignore_signals() -> None:
    """Ignore the signals of the service: nothing interrupts its cleanup, nor Python's own exit."""
    for number in SERVICE_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
