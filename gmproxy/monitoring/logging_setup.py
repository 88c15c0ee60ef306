"""Where the log goes: stderr, a file, or syslog for a process in the background. One line for each event."""

import logging
import os
import time

from gmproxy.errors import StartError
from gmproxy.monitoring import log_output
from gmproxy.monitoring.events import RECENT

FORMAT = "%(asctime)s %(levelname)s %(message)s"
SYSLOG_SOCKET = "/dev/log"

#: So many lines of one kind are written in WINDOW seconds. The rest is summed up in one line, with repeated=N.
BURST = 100
WINDOW = 10.0


def set_up(config, in_background, worker=""):
    """Log as `config` says; again, to have files opened anew. `worker` is added to each line. Raises StartError, and all is as before.

    Lines are written without waiting (gmproxy.monitoring.log_output), so the log can be used, and set up, in a loop callback.
    """
    handler = _handler(config, in_background)
    suffix = f" worker={worker}" if worker else ""
    handler.setFormatter(logging.Formatter(("%(message)s" if isinstance(handler, log_output.Syslog) else FORMAT) + suffix))
    handler.addFilter(Bursts(handler))
    logging.raiseExceptions = False  # a log that fails is no reason to print a traceback, least of all to a dead stderr
    log = logging.getLogger("gmproxy")
    before = log.handlers[:]
    log.handlers[:] = [handler, RECENT]
    for old in before:
        if old is not RECENT:
            handler.dropped += getattr(old, "dropped", 0)
            old.close()
            old.filters.clear()  # they refer to it: a cycle that the collector would find late, 2 KB for each reload
    log.propagate = False
    log.setLevel(logging.DEBUG if config.verbose else logging.INFO)


def _handler(config, in_background: bool) -> log_output.Output:
    """Raises StartError."""
    if config.log_file:
        try:
            return log_output.open_file(config.log_file)
        except OSError as error:
            raise StartError(f"cannot write log file {config.log_file}: {error.strerror}") from None
    if not in_background:
        return log_output.Stream(log_output.open_stderr())
    return log_output.Syslog(SYSLOG_SOCKET, f"gmproxy[{os.getpid()}]: ")


def sum_up():
    """Write what was left out of bursts that are over, and how many lines could not be written. To be called about once a second."""
    for handler in logging.getLogger("gmproxy").handlers:
        for bursts in handler.filters:
            bursts.sum_up()
        if isinstance(handler, log_output.Output):
            handler.report_dropped()


def forget_dropped() -> None:
    """For a process that was just forked: the lines that could not be written are the other's to report."""
    for handler in logging.getLogger("gmproxy").handlers:
        if isinstance(handler, log_output.Output):
            handler.dropped = 0


class Bursts(logging.Filter):
    """Lets BURST lines of a kind through in WINDOW seconds; lines are of a kind if only their values differ.

    What is asked for with -v is not bounded: who asks for it wants all.
    """

    def __init__(self, handler, clock=time.monotonic):
        super().__init__()
        self._handler = handler
        self._clock = clock
        self._kinds = {}  # kind -> [when its window began, lines in it, the last that was left out]

    def filter(self, record):
        if record.levelno <= logging.DEBUG or hasattr(record, "sums_up"):
            return True
        now = self._clock()
        kind = self._kinds.setdefault(record.msg, [now, 0, None])
        if now - kind[0] >= WINDOW:
            self._write(kind)
            kind[:] = [now, 0, None]
        kind[1] += 1
        if kind[1] <= BURST:
            return True
        kind[2] = record
        return False

    def sum_up(self):
        now = self._clock()
        for message, kind in list(self._kinds.items()):
            if now - kind[0] >= WINDOW:
                del self._kinds[message]
                self._write(kind)

    def _write(self, kind):
        """The last line that was left out, for all of them."""
        _, lines, record = kind
        if record is not None:
            record.msg = f"{record.getMessage()} repeated={lines - BURST}"
            record.args = ()
            record.sums_up = True
            self._handler.handle(record)
