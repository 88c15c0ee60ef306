"""Where log lines are written: stderr, the journal, a file or syslog. No write ever waits, and none ever raises.

A log line is written in the loop of a worker or of the master. If the reader of a pipe, a terminal or /dev/log is slow or gone, a write that
waits would stop every client, and one that raises would end whatever was being done. So a line that cannot be written at once is dropped
and counted, and the count is logged as soon as lines can be written again.
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

#: A syslog daemon cuts messages longer than this (rsyslog's default), and a datagram must fit into the socket's buffer; bytes.
LONGEST_SYSLOG_MESSAGE = 8192

#: Facility and severities of syslog(3).
LOG_DAEMON = 3
SEVERITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))

#: Permissions of a log file that is created, before the umask: its lines may name keys, and are not for everybody.
MODE = 0o640

STDERR = 2


def severity_of(level: int) -> int:
    """The severity of syslog(3) for a `level` of logging."""
    return next(severity for least, severity in SEVERITIES if level >= least)


class LogOutput(logging.Handler):
    """A handler that formats a record and hands it to `write_line`. May be called from a loop callback, a greenlet or before either.

    It has no lock: nothing in it switches to another greenlet, and gmproxy logs from one thread.

    dropped   lines that could not be written and of which the log says nothing yet
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
        except Exception:  # a record that cannot be formatted: our own fault, which must not become the caller's
            self.dropped += 1
            return False

    def emit(self, record: logging.LogRecord) -> None:
        self.report_dropped()
        if not self._try_write(record):
            self.dropped += 1

    def report_dropped(self) -> None:
        """Log how many lines were dropped, if that can be written now."""
        if self.dropped:
            record = logging.LogRecord("gmproxy", logging.WARNING, "", 0, "log lines dropped count=%d", (self.dropped,), None)
            if self._try_write(record):
                self.dropped = 0

    def _try_write(self, record: logging.LogRecord) -> bool:
        return self.write_line(self.format(record).encode("utf-8", "backslashreplace"), record.levelno)

    def write_line(self, line: bytes, level: int) -> bool:
        """Write `line`, which has no line end, without waiting. False if it could not be written. Never raises OSError."""
        raise NotImplementedError


class StreamOutput(LogOutput):
    """Writes to an open descriptor: a pipe, a socket, a terminal or a file. It stays open at `close` unless it is `owned`."""

    def __init__(self, descriptor: int, owned: bool = False) -> None:
        super().__init__()
        self.descriptor = descriptor
        self._owned = owned
        self._torn = False  # the latest line was written in part

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
    """Writes to stderr where that is the journal of systemd. It takes each line for a message, and the severity from the front of it
    (sd-daemon(3)); it knows the time."""

    def write_line(self, line: bytes, level: int = logging.INFO) -> bool:
        prefix = b"<%d>" % severity_of(level)
        return super().write_line(b"\n".join(prefix + part for part in line.split(b"\n")), level)


class SyslogOutput(LogOutput):
    """Sends to the syslog socket at `path`. Connects again when the daemon was restarted; while there is none, lines are dropped."""

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
            except OSError:  # it has gone; perhaps another one is there by now
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
            self._disconnect()  # of a stream, with half a message in it
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
    """Stands in for sys.stderr in a serving process: what is printed there neither waits nor raises."""

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            _write_now(self._descriptor, memoryview(text.encode(self.encoding, self.errors))[:PIPE_BUF])
        return len(text)

    def flush(self) -> None:
        """Nothing is kept."""

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return STDERR


_stderr: int | None = None


def open_stderr() -> int:
    """A descriptor for stderr that never blocks, opened once for this process and those that it forks.

    Processes that share our stderr must not find it non-blocking, so it is opened anew by its name in /proc where that can be done (pipes,
    terminals): call it before the user is changed, who may not be allowed to. Else it is descriptor 2 itself.
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
    """The log file `path`, created if need be, and no symbolic link that another user made. Raises OSError."""
    descriptor = safe_files.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, MODE)
    facts = os.fstat(descriptor)
    if os.geteuid() == 0 and stat.S_ISREG(facts.st_mode) and facts.st_nlink > 1:  # perhaps a user's link to a file of root
        os.close(descriptor)
        raise OSError(errno.EMLINK, "root does not write to a file with several hard links")
    return StreamOutput(descriptor, owned=True)


def _write_now(descriptor: int, data: memoryview) -> int:
    """Write what can be written without waiting. Returns the number of bytes; raises OSError, BlockingIOError if it would wait."""
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
    """True if a write of PIPE_BUF bytes does not wait (or fails)."""
    watched = plain_poll()
    watched.register(descriptor, select.POLLOUT)
    return bool(watched.poll(0))
