"""The first instructions of a command: descriptors 0, 1 and 2, and the signals that come before anybody can act on them.

Imports next to nothing, so that it takes effect as soon as Python has started. From `hold_signals` on no signal of the service ends the
process by itself: each is held, and the service does what it asks for once it serves.
"""

import os
import signal
import sys

#: The signals that the service acts on (docs/signals.md).
SERVICE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

#: Those that end it.
END_SIGNALS = (signal.SIGTERM, signal.SIGINT)

STANDARD_DESCRIPTORS = (0, 1, 2)

_held: list[int] = []


def open_standard_descriptors() -> None:
    """Open /dev/null for each of the descriptors 0, 1 and 2 that is closed, as init scripts and cron may leave them: else the first
    sockets would get these numbers, and whatever prints or goes to the background would write to them or close them."""
    for descriptor in STANDARD_DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
            os.set_inheritable(descriptor, True)
    sys.stdin = sys.stdin or open(0, closefd=False)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False, errors="backslashreplace")


def discard_output() -> None:
    """The reader of our output has closed the pipe, as `head` does: from now on what is printed goes to /dev/null."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_error(text: str) -> None:
    """Write `text` to stderr. If nobody reads that, it is discarded: Python would fail to write it once more at its end, and change the exit
    status for that."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), STANDARD_DESCRIPTORS[2])


def hold_signals() -> None:
    """From now on a signal of the service is held, each once, until `take_held_signals` is called."""
    for number in SERVICE_SIGNALS:
        signal.signal(number, _hold)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SERVICE_SIGNALS)  # the parent process may have blocked them


def _hold(number: int, frame: object) -> None:
    if number not in _held:
        _held.append(number)


def take_held_signals() -> list[int]:
    """The signals that arrived since the last call, in order."""
    held = _held[:]
    _held.clear()
    return held


def end_is_pending() -> bool:
    """True if one of the signals held ends the service."""
    return any(number in END_SIGNALS for number in _held)


def default_signals() -> None:
    """For a command that does not serve: signals end it as they end every program, also those that were held."""
    for number in SERVICE_SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for held in take_held_signals():
        signal.raise_signal(held)


def ignore_signals() -> None:
    """The service has ended and tidies up: nothing can interrupt that, not even while Python itself ends."""
    for number in SERVICE_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
