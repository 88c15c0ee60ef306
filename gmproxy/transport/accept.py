"""Accepting connections where descriptors or memory may be lacking.

gevent's servers answer a failed accept with a traceback on stderr and wait. Meanwhile connections fill the backlog: clients believe that
they are connected, and wait for answers that nobody will send. Here one log line says what is lacking, and the connections that wait are
accepted with a descriptor kept for that purpose, told why where the protocol has words for it, and closed.
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

#: gevent's closes later if somebody waits for the descriptor; nobody does.
close = get_original("os", "close")

#: What accept(2) fails with when this process or the system lacks descriptors or memory. Time helps, and nothing else.
EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

#: accept(2) hands on what happened to a connection that was waiting: the next one may be well.
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

#: Connections that one attempt turns away: clients that are connected have their turn in between.
TURNED_AWAY_AT_ONCE = 128

#: Seconds between two log lines about one listener.
LOG_EVERY = 10.0


class Spare:
    """A descriptor that is kept open so that there is one where there is no other."""

    def __init__(self) -> None:
        self._fd = -1
        self._reserve()

    def _reserve(self) -> None:
        if self._fd < 0:
            try:
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                self._fd = -1  # the next attempt begins with this

    def turn_away(self, sock: Any, refusal: bytes) -> bool:
        """Accept one connection at the listening socket `sock`, send it `refusal` as far as the kernel takes them at once, and close it.
        False if there is no descriptor for it all the same. Raises BlockingIOError if no connection waits. Never waits: may be called from a
        loop callback."""
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
            say_and_close(fd, refusal)
            return True
        finally:
            self._reserve()


#: One for all listeners of the process: an attempt ends before the next one begins.
SPARE = Spare()


def say_and_close(fd: int, words: bytes) -> None:
    """Send `words` to the connected socket `fd`, as far as the kernel takes them at once, and close it. Never raises, never waits."""
    try:
        os.set_blocking(fd, False)
        if words:
            os.write(fd, words)
    except OSError:
        pass
    finally:
        close(fd)


class Patient:
    """Stands before a gevent server among the bases of a class: its accept never raises, and goes on by itself after a pause.

    `refusal`: what a connection gets that cannot be served for lack of descriptors; b"" for nothing.
    """

    refusal = b""

    if TYPE_CHECKING:  # of the gevent server
        socket: Any
        address: Any
        loop: Any
        stop_accepting: Any
        _start_accepting_if_started: Any

    _turned_away = 0
    _log_at = 0.0

    def accepted(self, fd: int, address: Any) -> tuple[Any, Any]:
        """What the server's handler gets for the connection `fd` from `address`. Should this raise, the connection is closed."""
        os.set_blocking(fd, False)
        return gevent.socket.socket(self.socket.family, self.socket.type, self.socket.proto, fileno=fd), address

    def do_read(self) -> tuple[Any, Any] | None:
        """Called from the loop: the next connection, or None if there is none, or none can be accepted now."""
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
        """Called from the loop. gevent closes a connection for which no greenlet can be made."""
        try:
            super().do_handle(*connection)  # type: ignore[misc]
        except Exception:
            internal_errors.record("accept.do_handle")

    def on_accept_error(self, error: OSError) -> None:
        """accept(2) has failed. Called from the loop."""
        if error.errno in CONNECTION_FAILED:
            return
        if error.errno in EXHAUSTED and not self._turn_away():
            return
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + LOG_EVERY
            log.warning("connection not accepted at=%s error=%r closed=%d", host_and_port(self.address), str(error), self._turned_away)
            self._turned_away = 0
        self.pause()

    def _turn_away(self) -> bool:
        """False if no connection waited: accept asks for a descriptor before it looks for a connection."""
        turned_away = 0
        try:
            while turned_away < TURNED_AWAY_AT_ONCE and SPARE.turn_away(self.socket, self.refusal):
                turned_away += 1
        except BlockingIOError:
            return turned_away > 0
        finally:
            self._turned_away += turned_away
        return True

    def pause(self) -> None:
        """Accept nobody for RETRY_AFTER seconds. Called from the loop."""
        self.stop_accepting()
        self._timer = self.loop.timer(RETRY_AFTER)
        self._timer.start(self._start_accepting_if_started)


class Limited:
    """Stands between Patient and a gevent server among the bases of a class: `max_connections` connections at most. For the next one it
    closes the one that has been inactive longest: idle clients, incomplete requests, and clients that do not read keep nobody out.

    `handle(sock, address)` is called in a greenlet for each connection; the socket is closed when it returns.
    """

    if TYPE_CHECKING:  # of the gevent server, and of the class that derives from both
        close: Any
        handle: Any

    max_connections = ADMIN_CONNECTIONS
    max_accept = 4  # one turn of the loop: clients of the proxy come first

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._open: dict[Any, Any] = {}  # greenlet -> its socket; first the one whose last activity is longest ago
        super().__init__(*arguments, **options)

    def do_handle(self, sock: Any, address: Any) -> None:
        """Called from the loop. Never raises: what fails ends this connection."""
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
        """Close the listening socket and all connections. Does not wait."""
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
            pass  # the client is gone, or does not read
        except Exception:
            internal_errors.record("accept.serve")
        finally:
            self._open.pop(gevent.getcurrent(), None)
            sock.close()

    def note_activity(self) -> None:
        """Called by `handle`, in its greenlet: a request has been read, or a response sent."""
        greenlet = gevent.getcurrent()
        if greenlet in self._open:
            self._open[greenlet] = self._open.pop(greenlet)
