"""An epoll set whose descriptors are reported once for each arrival (edge-triggered): who is busy need not be taken out of it, and who has
been told reads until nothing is left.

This hot module is written twice, as plain.py is: epoll.pyx calls epoll_ctl(2) and epoll_wait(2), and keeps what they report in an array, where
Python's select.epoll makes a list of tuples. tests/unit/transport/test_epoll.py holds both to one behaviour.
"""

from gevent.monkey import get_original

#: Descriptors reported by one `wait`: then the loop looks at other sockets.
MAX_EVENTS = 64

# From <sys/epoll.h>.
EPOLLIN, EPOLLERR, EPOLLHUP, EPOLLRDHUP, EPOLLET = 0x1, 0x8, 0x10, 0x2000, 1 << 31

WATCHED = EPOLLIN | EPOLLRDHUP | EPOLLET
HUNG_UP = EPOLLRDHUP | EPOLLHUP | EPOLLERR

#: gevent takes it away because its `poll` may wait; ours never does.
_new_epoll = get_original("select", "epoll")


class Epoll:
    """
    count   descriptors that the last `wait` has reported

    A descriptor leaves the set when it is closed. No method waits: they may be called from a loop callback or a greenlet.
    """

    __slots__ = ("count", "_epoll", "_events")

    def __init__(self) -> None:
        """Raises OSError if there is no descriptor for it."""
        self.count = 0
        self._epoll = _new_epoll()
        self._events: list[tuple[int, int]] = []

    def fileno(self) -> int:
        """The descriptor of the set itself: it is readable while `wait` has something to report. -1 after `close`."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def watch(self, fd: int) -> None:
        """Report `fd` from now on, and at once if something has arrived there before. Raises OSError where the kernel has no room, or if it
        is in the set."""
        self._epoll.register(fd, WATCHED)

    def ignore(self, fd: int) -> None:
        """Report nothing of it, but for a lost connection, until `watch_again`. Raises OSError if it is not in the set."""
        self._epoll.modify(fd, EPOLLET)

    def watch_again(self, fd: int) -> None:
        """As `watch`, for one that is in the set: there is room for it. Raises OSError if it is not."""
        self._epoll.modify(fd, WATCHED)

    def wait(self) -> None:
        """Find out at which descriptors something has arrived, and how many they are, at most MAX_EVENTS. Raises OSError."""
        self.count = 0
        self._events = self._epoll.poll(0, MAX_EVENTS)
        self.count = len(self._events)

    def fd_at(self, index: int) -> int:
        """The descriptor number `index` of those reported, 0 to `count` - 1."""
        return self._events[index][0]

    def hung_up_at(self, index: int) -> bool:
        """True if the peer of that one sends nothing any more: after what has arrived comes the end, which is not reported anew."""
        return bool(self._events[index][1] & HUNG_UP)

    def close(self) -> None:
        """Close the set. The descriptors in it stay open."""
        self._epoll.close()
