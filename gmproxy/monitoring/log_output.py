"""Writes log lines to stderr, the journal, a file or syslog. No write waits, and none raises.

Log lines are written in the event loop of a worker or of the master. If the reader of a pipe, a terminal or /dev/log is slow or gone, a write
that waits would stop all clients, and one that raises would abort the caller. So a line that cannot be written at once is dropped and
counted, and the count is logged as soon as a line can be written again.
"""

import _socket  # the plain socket: `socket.socket` is gevent's in a worker, and may switch to another greenlet in the middle of a line
import contextlib
import errno
import logging
import os
import select
import stat
from typing import Any

from gmproxy.system import safe_files
from gmproxy.system.orphan import plain_poll

#: A pipe takes a write of at most this many bytes whole or not at all (PIPE_BUF of Linux; POSIX guarantees 512).
PIPE_BUF = select.PIPE_BUF

#: In bytes. A syslog daemon truncates longer messages (rsyslog's default), and a datagram must fit into the socket's buffer.
LONGEST_SYSLOG_MESSAGE = 8192

#: Facility and severities of syslog(3).
LOG_DAEMON = 3
SEVERITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))

#: Permission bits of a new log file, before the umask. Not readable by all users: its lines may contain keys.
MODE = 0o640

STDERR = 2


def severity_of(level: int) -> int:
    """The severity of syslog(3) for a `level` of logging."""
    return next(severity for least, severity in SEVERITIES if level >= least)


class LogOutput(logging.Handler):
    """Formats each record and passes it to `write_line`. Loop callback or greenlet, or before the loop runs; worker or master.

    It has no lock: nothing in it switches to another greenlet, and gmproxy logs from one thread.

    dropped   number of lines that could not be written since the last `log lines dropped`
    """

    def __init__(self) -> None:
        super().__init__()
        self.dropped = 0

    def createLock(self) -> None:
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """As logging.Handler, without the lock. Never raises Exception."""
        try:
            passed = bool(self.filter(record))
            if passed:
                self.emit(record)
            return passed
        except Exception:  # a record that cannot be formatted must not raise in the caller
            self.dropped += 1
            return False

    def emit(self, record: logging.LogRecord) -> None:
        self.report_dropped()
        if not self._try_write(record):
            self.dropped += 1

    def report_dropped(self) -> None:
        """Log the number of dropped lines, if that line can be written now."""
        if self.dropped:
            record = logging.LogRecord("gmproxy", logging.WARNING, "", 0, "log lines dropped count=%d", (self.dropped,), None)
            if self._try_write(record):
                self.dropped = 0

    def _try_write(self, record: logging.LogRecord) -> bool:
        return self.write_line(self.format(record).encode("utf-8", "backslashreplace"), record.levelno)

    def write_line(self, line: bytes, level: int) -> bool:
        """Write `line`, without a line end, and do not wait. False if it could not be written. Never raises OSError."""
        raise NotImplementedError


class StreamOutput(LogOutput):
    """Writes to an open file descriptor: a pipe, a socket, a terminal or a file. `close` closes it only if it is `owned`."""

    def __init__(self, descriptor: int, owned: bool = False) -> None:
        super().__init__()
        self.descriptor = descriptor
        self._owned = owned
        self._torn = False  # True after a line that was written in part

    def write_line(self, line: bytes, level: int = logging.INFO) -> bool:
        data = memoryview((b"\n" if self._torn else b"") + line + b"\n")
        sent = 0
        with contextlib.suppress(OSError):  # the reader is gone, the disk is full ...
            while sent < len(data):
                sent += _write_now(self.descriptor, data[sent : sent + PIPE_BUF])
        if sent:
            self._torn = sent < len(data)
        return sent == len(data)

    def close(self) -> None:
        super().close()
        if self._owned:
            self._owned = False
            os.close(self.descriptor)


class JournalOutput(StreamOutput):
    """Writes to stderr where that is the journal of systemd: each line is a message and begins with its severity (sd-daemon(3)). The journal
    adds the time."""

    def write_line(self, line: bytes, level: int = logging.INFO) -> bool:
        prefix = b"<%d>" % severity_of(level)
        return super().write_line(b"\n".join(prefix + part for part in line.split(b"\n")), level)


class SyslogOutput(LogOutput):
    """Sends to the syslog socket at `path`. Reconnects after a restart of the daemon; until then, lines are dropped."""

    def __init__(self, path: str, ident: str) -> None:
        super().__init__()
        self._path = path
        self._ident = ident
        self._socket: Any = None
        self._connect()

    def write_line(self, line: bytes, level: int) -> bool:
        message = f"<{LOG_DAEMON << 3 | severity_of(level)}>{self._ident}".encode() + line[:LONGEST_SYSLOG_MESSAGE] + b"\0"
        if self._socket is not None:
            try:
                self._send(message)
                return True
            except BlockingIOError:  # the daemon does not read at the moment
                return False
            except OSError:  # the daemon has ended; another one may be running
                pass
        try:
            self._connect()
            if self._socket is not None:
                self._send(message)
                return True
        except OSError:
            pass
        return False

    def _send(self, message: bytes) -> None:
        if self._socket.send(message, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL) != len(message):
            self._disconnect()  # a stream with an incomplete message
            raise BlockingIOError

    def _connect(self) -> None:
        self._disconnect()
        for kind in (_socket.SOCK_DGRAM, _socket.SOCK_STREAM):
            sock = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC)
            try:
                sock.setblocking(False)
                sock.connect(self._path)
                self._socket = sock
                return
            except OSError:
                sock.close()

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        super().close()
        self._disconnect()


class NonBlockingStderr:
    """Replaces sys.stderr in a serving process: a print to it neither waits nor raises."""

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            _write_now(self._descriptor, memoryview(text.encode(self.encoding, self.errors))[:PIPE_BUF])
        return len(text)

    def flush(self) -> None:
        """Does nothing: there is no buffer."""

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return STDERR


_stderr: int | None = None


def open_stderr() -> int:
    """A file descriptor for stderr, non-blocking where possible; opened once for this process and those that it forks.

    Descriptor 2 itself must not become non-blocking, since other processes may share it. So pipes and terminals are opened again by their name
    in /proc. Call this before the process changes its user, who may lack the permission. Everything else is descriptor 2 itself.
    """
    global _stderr
    if _stderr is None:
        _stderr = STDERR
        with contextlib.suppress(OSError):
            mode = os.fstat(STDERR).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
                _stderr = os.open(f"/proc/self/fd/{STDERR}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_APPEND | os.O_CLOEXEC)
    return _stderr


def open_file(path: str) -> StreamOutput:
    """Open or create the log file `path`. Raises OSError, also for a symbolic link of another user."""
    descriptor = safe_files.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, MODE)
    facts = os.fstat(descriptor)
    if os.geteuid() == 0 and stat.S_ISREG(facts.st_mode) and facts.st_nlink > 1:  # a user may have linked to one of root's files
        os.close(descriptor)
        raise OSError(errno.EMLINK, "root does not write to a file with several hard links")
    return StreamOutput(descriptor, owned=True)


def _write_now(descriptor: int, data: memoryview) -> int:
    """Write as much of `data` as possible without waiting. Returns the number of bytes. Raises OSError; BlockingIOError if it would wait."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        sock = _socket.socket(fileno=descriptor)
        try:
            return sock.send(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
        finally:
            sock.detach()
    if not stat.S_ISREG(mode) and not _can_be_written(descriptor):
        raise BlockingIOError
    return os.write(descriptor, data)


def _can_be_written(descriptor: int) -> bool:
    """True if a write of PIPE_BUF bytes would not wait; it may fail."""
    watched = plain_poll()
    watched.register(descriptor, select.POLLOUT)
    return bool(watched.poll(0))
