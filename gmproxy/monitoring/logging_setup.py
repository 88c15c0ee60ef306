"""Sets up the log: stderr, a file, or syslog for a process in the background. One line for each event.

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

#: Maximum number of lines of one kind in WINDOW seconds. The others are replaced by one line with repeated=N.
BURST = 100
WINDOW = 10.0

#: Attribute of a record that stands for the lines left out.
SUMS_UP = "sums_up"


def set_up(config: Config, in_background: bool, worker: str = "") -> None:
    """Set up the log of this process by `config`; call it again to reopen the log file. `worker`: its number, added to each line, or "".

    Raises StartError; then the log stays as it was. Loop callback or greenlet, or before the loop runs; worker or master.
    """
    handler = _handler(config, in_background)
    suffix = f" worker={worker}" if worker else ""
    has_time = isinstance(handler, (log_output.SyslogOutput, log_output.JournalOutput))
    handler.setFormatter(logging.Formatter((BARE_FORMAT if has_time else FORMAT) + suffix))
    handler.addFilter(BurstFilter(handler))
    logging.raiseExceptions = False  # no traceback on stderr, which may be closed, if a line cannot be logged
    log = logging.getLogger("gmproxy")
    before = log.handlers[:]
    log.handlers[:] = [handler, RECENT_EVENTS]
    for old in before:
        if old is not RECENT_EVENTS:
            handler.dropped += getattr(old, "dropped", 0)
            old.close()
            old.filters.clear()  # a reference cycle, 2 KB for each reload, that the garbage collector would find late
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
    """Log the number of lines left out in bursts that have ended, and of dropped lines. Called about once a second. Loop callback or greenlet."""
    for handler in logging.getLogger("gmproxy").handlers:
        for bursts in handler.filters:
            if isinstance(bursts, BurstFilter):
                bursts.report_finished()
        if isinstance(handler, log_output.LogOutput):
            handler.report_dropped()


def forget_dropped() -> None:
    """Called in a forked worker: the dropped lines of the master are not its own."""
    for handler in logging.getLogger("gmproxy").handlers:
        if isinstance(handler, log_output.LogOutput):
            handler.dropped = 0


@dataclasses.dataclass
class _Window:
    """The number of `lines` of one kind since `began_at` (seconds); `left_out`: the last line that was not written."""

    began_at: float
    lines: int = 0
    left_out: logging.LogRecord | None = None


class BurstFilter(logging.Filter):
    """Passes at most BURST lines of one kind in WINDOW seconds. Lines are of one kind if they differ only in the values of their fields.

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
        """Log the number of lines left out in each window that has ended."""
        now = self._clock()
        for message, window in list(self._windows.items()):
            if now - window.began_at >= WINDOW:
                del self._windows[message]
                self._report(window)

    def _report(self, window: _Window) -> None:
        """Write the last line that was left out, with their number."""
        record = window.left_out
        if record is not None:
            record.msg = f"{record.getMessage()} repeated={window.lines - BURST}"
            record.args = ()
            record.__dict__[SUMS_UP] = True
            self._handler.handle(record)
