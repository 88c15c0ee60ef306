"""A memcached server as a dict: it executes the request lines that gmproxy sends, and returns the replies of memcached 1.6.

Items do not expire, except at once with a negative exptime, and are never evicted.
"""

import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

STORAGE = (b"set", b"add", b"replace", b"append", b"prepend", b"cas")
RETRIEVAL = (b"get", b"gets", b"gat", b"gats")
CRLF = b"\r\n"


class Item(NamedTuple):
    value: bytes
    flags: bytes
    cas: int


def split_requests(received: bytearray) -> Iterator[bytes]:
    """Removes the complete requests from the start of `received` and yields them, each a line with its data block if it has one."""
    while (end := received.find(CRLF)) >= 0:
        end += 2
        words = received[:end].split()
        if words[0] in STORAGE:
            end += int(words[4]) + 2
        elif words[0] == b"ms":
            end += int(words[2]) + 2
        if len(received) < end:
            return
        yield bytes(received[:end])
        del received[:end]


class MemcachedModel:
    """
    items         {key: Item}
    cas           the last cas number of an item
    links         connections of the proxy
    started_at    when it was started (monotonic seconds); None: long ago
    """

    def __init__(self, name: str, first_cas: int) -> None:
        self.name = name
        self.items: dict[bytes, Item] = {}
        self.cas = first_cas
        self.links: list[Link] = []
        self.started_at: float | None = None
        self._accepted: dict[str, int] = {}  # {name of a worker: number of its connections so far}

    def restart(self, now: float) -> None:
        """The server is restarted, with an empty memory; `now` in monotonic seconds."""
        self.items.clear()
        self.started_at = now

    def accept(self, sock: socket.socket, peer_fd: int, owner: str) -> None:
        """Accept a connection: `sock` is the server's end, `peer_fd` the file descriptor of the other end. `owner`: the name of the worker at the
        other end; "" if there is only one."""
        self._accepted[owner] = number = self._accepted.get(owner, 0) + 1
        self.links.append(Link(self, owner, ".".join(filter(None, (self.name, owner, str(number)))), sock, peer_fd))

    def execute(self, request: bytes) -> bytes:
        """Execute one request and return the reply. Raises KeyError for a command that the model does not implement."""
        line, _, block = request.partition(CRLF)
        name, *words = line.split()
        return self._commands[name](self, name, words, block[:-2])

    @staticmethod
    def changes(request: bytes) -> bool:
        """False if `request` changes no item."""
        name, *words = request.split(CRLF)[0].split()
        return name not in (b"get", b"gets", b"me", b"version") and not (name == b"mg" and not any(word[:1] == b"T" for word in words[1:]))

    def _store(self, key: bytes, value: bytes, flags: bytes) -> Item:
        self.cas += 1
        self.items[key] = Item(value, flags, self.cas)
        return self.items[key]

    def _end_if_over(self, key: bytes, exptime: bytes) -> None:
        if int(exptime) < 0:
            del self.items[key]

    # -- the classic commands

    def _retrieve(self, name: bytes, words: list[bytes], block: bytes) -> bytes:
        reply = b""
        exptime = words.pop(0) if name in (b"gat", b"gats") else b"0"
        for key in words:
            if item := self.items.get(key):
                cas = b" %d" % item.cas if name in (b"gets", b"gats") else b""
                reply += b"VALUE %b %b %d%b\r\n%b\r\n" % (key, item.flags, len(item.value), cas, item.value)
                self._end_if_over(key, exptime)
        return reply + b"END\r\n"

    def _storage(self, name: bytes, words: list[bytes], value: bytes) -> bytes:
        key, flags = words[:2]
        item = self.items.get(key)
        if name == b"cas":
            if item is None:
                return b"NOT_FOUND\r\n"
            if item.cas != int(words[4]):
                return b"EXISTS\r\n"
        elif (name == b"add" and item is not None) or (name in (b"replace", b"append", b"prepend") and item is None):
            return b"NOT_STORED\r\n"
        if name in (b"append", b"prepend"):
            flags = item.flags
            value = item.value + value if name == b"append" else value + item.value
        self._store(key, value, flags)
        self._end_if_over(key, words[2] if name not in (b"append", b"prepend") else b"0")
        return b"STORED\r\n"

    def _count(self, name: bytes, words: list[bytes], block: bytes) -> bytes:
        key, delta = words
        item = self.items.get(key)
        if item is None:
            return b"NOT_FOUND\r\n"
        if not item.value.isdigit():
            return b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
        number = int(item.value) + int(delta) if name == b"incr" else max(int(item.value) - int(delta), 0)
        return self._store(key, b"%d" % number, item.flags).value + CRLF

    def _delete(self, name: bytes, words: list[bytes], block: bytes) -> bytes:
        return b"NOT_FOUND\r\n" if self.items.pop(words[0], None) is None else b"DELETED\r\n"

    def _touch(self, name: bytes, words: list[bytes], block: bytes) -> bytes:
        if words[0] not in self.items:
            return b"NOT_FOUND\r\n"
        self._end_if_over(*words)
        return b"TOUCHED\r\n"

    def _flush_all(self, name: bytes, words: list[bytes], block: bytes) -> bytes:
        self.items.clear()
        return b"OK\r\n"

    def _version(self, name: bytes, words: list[bytes], block: bytes) -> bytes:
        return b"VERSION 1.6.45\r\n"

    # -- the meta commands

    def _meta_get(self, name: bytes, words: list[bytes], block: bytes) -> bytes:
        key, *flags = words
        item = self.items.get(key)
        if item is None:
            return b"EN\r\n"
        reply = _meta_reply(item, flags)
        for flag in flags:
            if flag[:1] == b"T":
                self._end_if_over(key, flag[1:])
        return reply

    def _meta_debug(self, name: bytes, words: list[bytes], block: bytes) -> bytes:
        return b"ME %b exp=-1\r\n" % words[0] if words[0] in self.items else b"EN\r\n"

    def _meta_set(self, name: bytes, words: list[bytes], value: bytes) -> bytes:
        key, _, *flags = words
        arguments = {flag[:1]: flag[1:] for flag in flags}
        item = self.items.get(key)
        mode = arguments.get(b"M", b"S")
        if b"C" in arguments:
            if item is None:
                return b"NF\r\n"
            if item.cas != int(arguments[b"C"]):
                return b"EX\r\n"
        if (mode == b"E" and item is not None) or (mode in b"RAP" and item is None):
            return b"NS\r\n"
        if mode in b"AP":
            value = item.value + value if mode == b"A" else value + item.value
        item = self._store(key, value, arguments.get(b"F", b"0"))
        self._end_if_over(key, arguments.get(b"T", b"0"))
        return _meta_reply(item, flags)

    def _meta_delete(self, name: bytes, words: list[bytes], block: bytes) -> bytes:
        key, *flags = words
        item = self.items.get(key)
        if item is None:
            return b"NF\r\n"
        if any(flag[:1] == b"C" and item.cas != int(flag[1:]) for flag in flags):
            return b"EX\r\n"
        del self.items[key]
        return b"HD\r\n"

    def _meta_arithmetic(self, name: bytes, words: list[bytes], block: bytes) -> bytes:
        key, *flags = words
        arguments = {flag[:1]: flag[1:] for flag in flags}
        item = self.items.get(key)
        if item is None:
            return b"NF\r\n"
        if b"C" in arguments and item.cas != int(arguments[b"C"]):
            return b"EX\r\n"
        way = 1 if arguments.get(b"M", b"I") in (b"I", b"+") else -1
        number = max(int(item.value) + way * int(arguments.get(b"D", b"1")), 0)
        return _meta_reply(self._store(key, b"%d" % number, item.flags), flags)

    _commands: dict[bytes, Callable[..., bytes]] = {
        **dict.fromkeys(RETRIEVAL, _retrieve),
        **dict.fromkeys(STORAGE, _storage),
        b"incr": _count,
        b"decr": _count,
        b"delete": _delete,
        b"touch": _touch,
        b"flush_all": _flush_all,
        b"version": _version,
        b"mg": _meta_get,
        b"me": _meta_debug,
        b"ms": _meta_set,
        b"md": _meta_delete,
        b"ma": _meta_arithmetic,
    }


class Link:
    """The server's end of one connection. It executes and replies in two steps, so that a request can be executed and its reply lost.

    owner      the name of the worker at the other end
    name       of the server, the worker if there are several, and the number of the connection
    requests   received, but not executed
    replies    of executed requests, not sent yet
    askers     for each request without a reply, oldest first: the numbers of the clients for which it was sent
    given_up   True after the other end has closed its sending direction; it may not read any more either
    is_orphaned   True after the process at the other end has died
    """

    def __init__(self, server: MemcachedModel, owner: str, name: str, sock: socket.socket, peer_fd: int) -> None:
        self.server = server
        self.owner = owner
        self.name = name
        self.peer_fd = peer_fd
        self.requests: deque[bytes] = deque()
        self.replies: deque[tuple[bytes, bytes]] = deque()  # (request, reply)
        self.askers: deque[frozenset[int]] = deque()
        self.given_up = False
        self.is_orphaned = False
        self.executed = 0
        self.replied = 0
        self._sock = sock
        self._received = bytearray()

    def receive(self, askers: frozenset[int]) -> bool:
        """Read the requests that have arrived; they were sent for `askers`. Returns False if none have."""
        before = len(self.requests)
        while not self.given_up:
            try:
                chunk = self._sock.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                chunk = b""
            self.given_up = not chunk
            self._received += chunk
            self.requests.extend(split_requests(self._received))
        self.askers.extend([askers] * (len(self.requests) - before))
        return len(self.requests) > before

    def execute(self) -> None:
        request = self.requests.popleft()
        self.executed += 1
        self.replies.append((request, self.server.execute(request)))

    def reply(self) -> None:
        """Send the oldest reply. If its request is not executed yet, execute it now."""
        if not self.replies:
            self.execute()
        self._sock.send(self.replies.popleft()[1])
        self.askers.popleft()
        self.replied += 1

    def give_up(self, sent: int) -> None:
        """The other end no longer exists. Only `sent` requests have reached the server, and are executed later."""
        self.given_up = self.is_orphaned = True
        while len(self.requests) > sent:
            self.requests.pop()
        if not self.requests:
            self.close()

    def next_to_reply(self) -> bytes:
        """The request that gets the next reply."""
        return self.replies[0][0] if self.replies else self.requests[0]

    def is_busy(self) -> bool:
        return bool(self.requests or self.replies)

    def close(self) -> None:
        self.server.links.remove(self)
        self._sock.close()


def _meta_reply(item: Item, flags: list[bytes]) -> bytes:
    """The reply of a meta command with the values for its `flags`."""
    returned = {b"f": item.flags, b"t": b"-1", b"c": b"%d" % item.cas, b"s": b"%d" % len(item.value)}
    words = [flag + returned[flag] for flag in flags if flag in returned]
    if b"v" in flags:
        return b" ".join([b"VA %d" % len(item.value), *words]) + CRLF + item.value + CRLF
    return b" ".join([b"HD", *words]) + CRLF
