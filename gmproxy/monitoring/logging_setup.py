"""Where the log goes: stderr, a file, or syslog for a process in the background. One line for each event.

Syslog and the journal add the time and the severity themselves.
"""

import dataclasses
import logging
import os
import time
from collections.abc import Callable

from gmproxy.config.configuration import Config
from gmproxy.errors import StartError
from gmproxy.monitoring import log_output
from gmproxy.monitoring.events import RECENT_EVENTS
from gmproxy.system import systemd

FORMAT = "%(asctime)s %(levelname)s %(message)s"
BARE_FORMAT = "%(message)s"
SYSLOG_SOCKET = "/dev/log"

#: Lines of one kind that are written in WINDOW seconds. The rest is summed up in one line, with repeated=N.
BURST = 100
WINDOW = 10.0

#: An attribute of the records that sum up a burst.
SUMS_UP = "sums_up"


def set_up(config: Config, in_background: bool, worker: str = "") -> None:
    """Log as `config` says; again, to have files opened anew. `worker` is added to each line. Raises StartError, and all is as before.

    Lines are written without waiting (gmproxy.monitoring.log_output), so the log can be used, and set up, in a loop callback.
    """
    handler = _handler(config, in_background)
    suffix = f" worker={worker}" if worker else ""
    has_time = isinstance(handler, (log_output.SyslogOutput, log_output.JournalOutput))
    handler.setFormatter(logging.Formatter((BARE_FORMAT if has_time else FORMAT) + suffix))
    handler.addFilter(BurstFilter(handler))
    logging.raiseExceptions = False  # a log that fails is no reason to print a traceback, least of all to a dead stderr
    log = logging.getLogger("gmproxy")
    before = log.handlers[:]
    log.handlers[:] = [handler, RECENT_EVENTS]
    for old in before:
        if old is not RECENT_EVENTS:
            handler.dropped += getattr(old, "dropped", 0)
            old.close()
            old.filters.clear()  # they refer to it: a cycle that the collector would find late, 2 KB for each reload
    log.propagate = False
    log.setLevel(config.log_level.upper() or (logging.DEBUG if config.verbose else logging.INFO))


def _handler(config: Config, in_background: bool) -> log_output.LogOutput:
    """Raises StartError."""
    if config.log_file:
        try:
            return log_output.open_file(config.log_file)
        except OSError as error:
            raise StartError(f"cannot write log file {config.log_file}: {error.strerror}") from None
    if not in_background:
        kind = log_output.JournalOutput if systemd.is_journal(log_output.STDERR, os.environ) else log_output.StreamOutput
        return kind(log_output.open_stderr())
    return log_output.SyslogOutput(SYSLOG_SOCKET, f"gmproxy[{os.getpid()}]: ")


def sum_up() -> None:
    """Write what was left out of bursts that are over, and how many lines could not be written. To be called about once a second."""
    for handler in logging.getLogger("gmproxy").handlers:
        for bursts in handler.filters:
            if isinstance(bursts, BurstFilter):
                bursts.report_finished()
        if isinstance(handler, log_output.LogOutput):
            handler.report_dropped()


def forget_dropped() -> None:
    """For a process that was just forked: the lines that could not be written are the other's to report."""
    for handler in logging.getLogger("gmproxy").handlers:
        if isinstance(handler, log_output.LogOutput):
            handler.dropped = 0


@dataclasses.dataclass
class _Window:
    """Lines of one kind since `began_at`, seconds; `left_out`: the last that was not written."""

    began_at: float
    lines: int = 0
    left_out: logging.LogRecord | None = None


class BurstFilter(logging.Filter):
    """Lets BURST lines of a kind through in WINDOW seconds; lines are of a kind if only their values differ.

    Debug lines (-v) are not limited.
    """

    def __init__(self, handler: logging.Handler, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._handler = handler
        self._clock = clock
        self._windows: dict[str, _Window] = {}  # by kind of line

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG or SUMS_UP in record.__dict__:
            return True
        now = self._clock()
        window = self._windows.setdefault(record.msg, _Window(now))
        if now - window.began_at >= WINDOW:
            self._report(window)
            window = self._windows[record.msg] = _Window(now)
        window.lines += 1
        if window.lines <= BURST:
            return True
        window.left_out = record
        return False

    def report_finished(self) -> None:
        now = self._clock()
        for message, window in list(self._windows.items()):
            if now - window.began_at >= WINDOW:
                del self._windows[message]
                self._report(window)

    def _report(self, window: _Window) -> None:
        """Write the last line that was left out, for all of them."""
        record = window.left_out
        if record is not None:
            record.msg = f"{record.getMessage()} repeated={window.lines - BURST}"
            record.args = ()
            record.__dict__[SUMS_UP] = True
            self._handler.handle(record)
