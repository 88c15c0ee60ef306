"""Where the log goes: stderr, a file, or syslog for a process in the background. One line for each event."""

import logging
import logging.handlers
import os

from gmproxy.errors import StartError

FORMAT = "%(asctime)s %(levelname)s %(message)s"
SYSLOG_SOCKET = "/dev/log"


def set_up(config, in_background):
    """Raises StartError."""
    if config.log_file:
        try:
            handler = logging.FileHandler(config.log_file)
        except OSError as error:
            raise StartError(f"cannot write log file {config.log_file}: {error.strerror}") from None
    elif not in_background:
        handler = logging.StreamHandler()
    elif os.path.exists(SYSLOG_SOCKET):
        handler = logging.handlers.SysLogHandler(SYSLOG_SOCKET, logging.handlers.SysLogHandler.LOG_DAEMON)
        handler.ident = f"gmproxy[{os.getpid()}]: "
    else:
        handler = logging.NullHandler()
    syslog = isinstance(handler, logging.handlers.SysLogHandler)
    handler.setFormatter(logging.Formatter("%(message)s" if syslog else FORMAT))
    log = logging.getLogger("gmproxy")
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.DEBUG if config.verbose else logging.INFO)
