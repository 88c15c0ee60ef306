"""The bytes of one connection that have been received and not yet parsed, and the few ways to look at them.

This hot module is written twice: recv_buffer.pyx does the same with C pointers, so that nothing is copied before a message is cut out. The
sockets belong to gmproxy.transport. Where a message ends is decided by the parsers, and where a value ends by value_header.py, of which there
is one source. tests/unit/protocol/test_recv_buffer.py and tests/differential/test_reply_mutations.py hold both builds to one behaviour.

Both parsers, of clients' requests and of servers' replies, read from one of these. Time stays linear however the bytes are cut:
a search for a line end goes on where the last one stopped, and a long data block in many chunks is joined once.
"""

from gmproxy.protocol.limits import NOT_TEXT
from gmproxy.protocol.value_header import ValueHeader
from gmproxy.transport.plain import PLAIN

#: Bytes received at once.
RECV_SIZE = 64 * 1024

_buffer = bytearray(RECV_SIZE)
_view = memoryview(_buffer)


class RecvBuffer:
    """
    pos      how far the parser has understood it: the parser moves this
    end      where what can be parsed ends; offsets count until the next `receive`, `feed` or `forget`
    need     bytes from `pos` on without which the parser cannot go on; 0: any more will do
    filled   True if the last `receive` had room for no more than it received: then more may be there
    """

    __slots__ = ("pos", "end", "need", "filled", "_data", "_searched", "_parts", "_have")

    def __init__(self) -> None:
        self.pos = 0
        self.end = 0
        self.need = 0
        self.filled = False
        self._data = b""
        self._searched = 0  # no line end in `_data` before this offset
        self._parts: list[bytes] = []  # chunks that wait to be joined with `_data`
        self._have = 0  # bytes in them

    def receive(self, fd: int) -> int:
        """Receive what has arrived at the socket `fd`: returns how many bytes, 0 once the peer has closed, -1 if there are none now. Raises
        OSError if the connection is broken. May be called from a loop callback or a greenlet; never waits."""
        count = PLAIN.recv_into(fd, _buffer, RECV_SIZE)
        self.filled = count == RECV_SIZE
        if count > 0:
            self.feed(bytes(_view[:count]))
        return count

    def feed(self, chunk: bytes) -> None:
        """Take the bytes that arrived next."""
        if self._have == 0:
            self._searched -= self.pos
            if self.pos == self.end:
                self._data = chunk
                self.pos = 0
                self.end = len(chunk)
                self._searched = 0
                return
            self._parts.append(self._data[self.pos :])
            self._have = self.end - self.pos
            self._data = b""
            self.pos = self.end = 0
        self._parts.append(chunk)
        self._have += len(chunk)
        if self._have >= self.need:
            self._data = b"".join(self._parts)
            self.end = self._have
            self._parts.clear()
            self._have = 0

    def size(self) -> int:
        """Bytes that wait to be understood."""
        return self._have + self.end - self.pos

    def release_memory(self) -> None:
        """Hold on to no memory if all bytes are understood: an idle connection is to cost little."""
        if self.pos == self.end:
            self._data = b""
            self.pos = self.end = 0
            self._searched = 0

    def has_news(self) -> bool:
        """True if the parser has something new to look at."""
        return self.pos < self.end

    def byte_at(self, at: int) -> int:
        """The byte at offset `at`, as a number."""
        return self._data[at]

    def line_end(self, start: int) -> int:
        """The offset of the first line feed from `start` on, or -1 while it has not arrived."""
        end = self._data.find(b"\n", self._searched if self._searched > start else start)
        if end < 0:
            self._searched = self.end
        return end

    def word_end(self, start: int, stop: int) -> int:
        """The offset of the first blank from `start` on, or `stop` if there is none before it."""
        end = self._data.find(b" ", start, stop)
        return stop if end < 0 else end

    def find_nul(self, start: int, stop: int) -> int:
        """The offset of the first NUL from `start` to before `stop`, or -1."""
        return self._data.find(b"\0", start, stop)

    def is_text(self, start: int, stop: int) -> bool:
        """True if what stands from `start` to before `stop` may be a key of the text protocol, or part of one."""
        return NOT_TEXT.search(self._data, start, stop) is None

    def cut(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to before `stop`."""
        return self._data[start:stop]

    def starts_with(self, start: int, text: bytes) -> bool:
        """True if `text` stands at offset `start`."""
        return self._data.startswith(text, start)

    def equals(self, start: int, stop: int, text: bytes) -> bool:
        """True if `text` is all there is from `start` to before `stop`."""
        return self._data[start:stop] == text

    def parse_number(self, start: int, stop: int) -> int:
        """The number written from `start` to before `stop`, or -1 if that is not 1 to 10 digits and nothing else."""
        text = self._data[start:stop]
        return int(text) if len(text) <= 10 and text.isdigit() else -1

    def is_cas_number(self, start: int, stop: int) -> bool:
        """True if from `start` to before `stop` there are 1 to 20 digits and nothing else."""
        text = self._data[start:stop]
        return len(text) <= 20 and text.isdigit()

    def parse_value_header(self, header: ValueHeader, key_end: int, stop: int) -> bool:
        """As ValueHeader.parse_after_key, of the bytes in this buffer."""
        return header.parse_after_key(self._data, key_end, min(stop, self.end))

    def require(self, start: int, need: int) -> None:
        """Nothing can be done before `need` bytes from offset `start` on are there."""
        self.pos = start
        self.need = need

    def discard(self, count: int) -> int:
        """Throw away up to `count` bytes; returns how many were there."""
        available = self.end - self.pos
        if available > count:
            available = count
        self.pos += available
        return available
