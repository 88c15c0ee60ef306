"""An edge-triggered epoll set: a descriptor is reported once when data arrives. A busy client can stay in the set, and the code that gets a
report must read until no data is left.

This hot module is written twice, as plain.py is: epoll.pyx keeps the events of epoll_wait(2) in an array, while Python's select.epoll makes a list
of tuples. tests/unit/transport/test_epoll.py checks that both behave the same.
"""

from gevent.monkey import get_original

#: Maximum number of descriptors reported by one `wait`; then the loop serves other sockets.
MAX_EVENTS = 64

# From <sys/epoll.h>.
EPOLLIN, EPOLLERR, EPOLLHUP, EPOLLRDHUP, EPOLLET = 0x1, 0x8, 0x10, 0x2000, 1 << 31

WATCHED = EPOLLIN | EPOLLRDHUP | EPOLLET
HUNG_UP = EPOLLRDHUP | EPOLLHUP | EPOLLERR

#: gevent removes select.epoll because its `poll` may block. Here it is only called with a timeout of 0.
_new_epoll = get_original("select", "epoll")


class Epoll:
    """A set of descriptors. A descriptor leaves the set when it is closed.

    count   number of descriptors reported by the last `wait`

    Loop callback or greenlet; nothing here blocks.
    """

    __slots__ = ("count", "_epoll", "_events")

    def __init__(self) -> None:
        """Raises OSError if no descriptor is free."""
        self.count = 0
        self._epoll = _new_epoll()
        self._events: list[tuple[int, int]] = []

    def fileno(self) -> int:
        """The descriptor of the set itself, which is readable while `wait` has something to report; -1 after `close`."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def watch(self, fd: int) -> None:
        """Add `fd` to the set. It is reported from now on, at once if data has arrived before. Raises OSError if the kernel's limit of watches is
        reached or `fd` is in the set."""
        self._epoll.register(fd, WATCHED)

    def ignore(self, fd: int) -> None:
        """Report `fd` only if its connection is lost, until `watch_again`. Raises OSError if it is not in the set."""
        self._epoll.modify(fd, EPOLLET)

    def watch_again(self, fd: int) -> None:
        """Undo `ignore`: report `fd` again, at once if data has arrived. Raises OSError if it is not in the set."""
        self._epoll.modify(fd, WATCHED)

    def wait(self) -> None:
        """Get the descriptors at which data has arrived, at most MAX_EVENTS, without blocking. Sets `count`. Raises OSError."""
        self.count = 0
        self._events = self._epoll.poll(0, MAX_EVENTS)
        self.count = len(self._events)

    def fd_at(self, index: int) -> int:
        """The reported descriptor at `index`, from 0 to `count` - 1."""
        return self._events[index][0]

    def hung_up_at(self, index: int) -> bool:
        """True if the peer of the descriptor at `index` has closed its side: the end of the stream follows the data that has arrived, without
        another report."""
        return bool(self._events[index][1] & HUNG_UP)

    def close(self) -> None:
        """Close the set itself. The descriptors in it stay open."""
        self._epoll.close()
