"""Accepts connections also when file descriptors or memory run out.

If accept fails, gevent's servers print a traceback to stderr and pause. Meanwhile the backlog fills with clients that are connected and wait
for replies that never come. Here the error is logged in one line. The waiting connections are accepted with a descriptor reserved for this,
sent an error line if the protocol has one, and closed.
"""

import errno
import logging
import os
import time
from typing import TYPE_CHECKING, Any

import gevent
import gevent.socket
from gevent.monkey import get_original

from gmproxy import internal_errors
from gmproxy.system.descriptors import ADMIN_CONNECTIONS
from gmproxy.transport.tcp import host_and_port

log = logging.getLogger("gmproxy")

#: Python's own os.close. gevent's closes later if a greenlet waits for the descriptor; here none does.
close = get_original("os", "close")

#: Errors of accept(2) if this process or the system lacks descriptors or memory: accept is tried again after a pause.
EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

#: Errors of accept(2) that concern the waiting connection only: the next connection is accepted at once.
CONNECTION_FAILED = frozenset(
    (
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
        errno.EPERM,
        errno.EINTR,
    )
)

#: Seconds until the next attempt.
RETRY_AFTER = 0.1

#: Maximum number of connections refused in one turn of the loop, which serves connected clients in between.
REFUSED_AT_ONCE = 128

#: Minimum number of seconds between two log lines about a listener.
LOG_EVERY = 10.0


class SpareDescriptor:
    """A descriptor that is kept open. It is closed to accept a connection when no other descriptor is free."""

    def __init__(self) -> None:
        self._fd = -1
        self._reserve()

    def _reserve(self) -> None:
        if self._fd < 0:
            try:
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                self._fd = -1  # the next call tries again

    def refuse(self, sock: Any, refusal: bytes) -> bool:
        """Accept a connection at the listening socket `sock`, send `refusal` and close it (send_and_close). Returns False if accept fails even
        so. Raises BlockingIOError if no connection waits. Loop callback or greenlet."""
        self._reserve()
        if self._fd < 0:
            return False
        close(self._fd)
        self._fd = -1
        try:
            fd, _ = sock._accept()
        except BlockingIOError:
            raise
        except OSError:
            return False
        else:
            send_and_close(fd, refusal)
            return True
        finally:
            self._reserve()


#: Shared by all listeners of the process: no call of `refuse` runs during another.
SPARE = SpareDescriptor()


def send_and_close(fd: int, data: bytes) -> None:
    """Send `data` to the connected socket `fd`, as much as its buffer takes, and close it. Never blocks or raises."""
    try:
        os.set_blocking(fd, False)
        if data:
            os.write(fd, data)
    except OSError:
        pass
    finally:
        close(fd)


class AcceptRetry:
    """A mixin for gevent's servers, listed before the server among the base classes: accepting never raises, and resumes after a pause.

    refusal   bytes sent to a connection that is refused for lack of descriptors; b"" for none
    """

    refusal = b""

    if TYPE_CHECKING:  # attributes of gevent's server
        socket: Any
        address: Any
        loop: Any
        stop_accepting: Any
        _start_accepting_if_started: Any

    _refused = 0  # connections since the last log line
    _log_at = 0.0  # monotonic seconds from which the next line may be logged

    def accepted(self, fd: int, address: Any) -> tuple[Any, Any]:
        """The arguments of the server's handler for the connection `fd` from `address`: (gevent's socket, address). If this raises, the
        connection is closed."""
        os.set_blocking(fd, False)
        return gevent.socket.socket(self.socket.family, self.socket.type, self.socket.proto, fileno=fd), address

    def do_read(self) -> tuple[Any, Any] | None:
        """Accept a connection: (gevent's socket, address), or None if none waits or accept fails. Loop callback; called by gevent's server."""
        try:
            fd, address = self.socket._accept()
        except BlockingIOError:
            return None
        except OSError as error:
            self.on_accept_error(error)
            return None
        try:
            return self.accepted(fd, address)
        except Exception:
            internal_errors.record("accept.accepted")
            close(fd)
            return None

    def do_handle(self, *connection: Any) -> None:
        """Handle a connection. If no greenlet can be created, gevent closes it. Loop callback; called by gevent's server."""
        try:
            super().do_handle(*connection)  # type: ignore[misc]  # of gevent's server, which comes after this class
        except Exception:
            internal_errors.record("accept.do_handle")

    def on_accept_error(self, error: OSError) -> None:
        """accept(2) has failed with `error`: refuse the waiting connections if descriptors run out, log it, and pause. Loop callback."""
        if error.errno in CONNECTION_FAILED:
            return
        if error.errno in EXHAUSTED and not self._refuse_waiting():
            return
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + LOG_EVERY
            log.warning("connection not accepted at=%s error=%r closed=%d", host_and_port(self.address), str(error), self._refused)
            self._refused = 0
        self.pause()

    def _refuse_waiting(self) -> bool:
        """Refuse the connections that wait. Returns False if none waits: accept(2) fails for lack of descriptors even then."""
        count = 0
        try:
            while count < REFUSED_AT_ONCE and SPARE.refuse(self.socket, self.refusal):
                count += 1
        except BlockingIOError:
            return count > 0
        finally:
            self._refused += count
        return True

    def pause(self) -> None:
        """Accept no connections for RETRY_AFTER seconds. Loop callback."""
        self.stop_accepting()
        self._timer = self.loop.timer(RETRY_AFTER)
        self._timer.start(self._start_accepting_if_started)


class LimitedConnections:
    """A mixin for gevent's servers, listed between AcceptRetry and the server: at most `max_connections` connections. For a further one it
    closes the connection that has been inactive longest, so idle clients, incomplete requests and clients that do not read keep no others out.

    `handle(sock, address)` is called in a greenlet for each connection; the socket is closed when it returns.
    """

    if TYPE_CHECKING:  # attributes of gevent's server and of the derived class
        close: Any
        handle: Any

    max_connections = ADMIN_CONNECTIONS
    max_accept = 4  # connections accepted in one turn of the loop: few, so that the proxy's clients do not wait

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._open: dict[Any, Any] = {}  # greenlet -> its socket; the one inactive longest is first
        super().__init__(*arguments, **options)

    def do_handle(self, sock: Any, address: Any) -> None:
        """Start a greenlet for a connection. Loop callback; never raises: if it fails the connection is closed."""
        try:
            while len(self._open) >= self.max_connections:
                self._end(next(iter(self._open)))
            greenlet = gevent.Greenlet(self._serve, sock, address)
            self._open[greenlet] = sock
            greenlet.start()
        except Exception:
            internal_errors.record("accept.do_handle")
            sock.close()

    def stop(self, timeout: float | None = None) -> None:
        """Close the listening socket and all connections. Loop callback or greenlet; `timeout` is not used."""
        self.close()
        for greenlet in list(self._open):
            self._end(greenlet)

    def _end(self, greenlet: Any) -> None:
        sock = self._open.pop(greenlet)
        greenlet.kill(block=False)
        sock.close()

    def _serve(self, sock: Any, address: Any) -> None:
        try:
            self.handle(sock, address)
        except OSError:
            pass  # the client has disconnected, or does not read
        except Exception:
            internal_errors.record("accept.serve")
        finally:
            self._open.pop(gevent.getcurrent(), None)
            sock.close()

    def note_activity(self) -> None:
        """Called by `handle` in its greenlet, when it has read a request or sent a response."""
        greenlet = gevent.getcurrent()
        if greenlet in self._open:
            self._open[greenlet] = self._open.pop(greenlet)
