"""The bytes of one connection that have been received and not yet parsed. Each parser, of a client's requests or of a server's replies, has a
RecvBuffer.

This hot module is written twice: recv_buffer.pyx does the same with C pointers, so that bytes are copied only when a message is cut out. Where a
message ends is decided by the parsers, and where a value ends by value_header.py, of which there is one source. System calls are in
gmproxy.transport. tests/unit/protocol/test_recv_buffer.py and tests/differential/test_reply_mutations.py hold both builds to the same behaviour.

However the bytes are split, the time is linear in their number: a search for a line end continues where the last one stopped, and a long data block
that arrives in many chunks is joined once.
"""

from gmproxy.protocol.limits import NOT_TEXT
from gmproxy.protocol.value_header import ValueHeader
from gmproxy.transport.plain import PLAIN

#: Bytes received in one call.
RECV_SIZE = 64 * 1024

_buffer = bytearray(RECV_SIZE)
_view = memoryview(_buffer)


class RecvBuffer:
    """Received bytes, which methods address by offsets. An offset is valid until the next `receive`, `feed` or `release_memory`. The
    compiled build does not check offsets: callers must not look beyond `end`, where only `cut`, `starts_with` and `equals` stop.

    pos      offset of the first byte that is not parsed; the parser sets it
    end      offset behind the last byte that can be parsed
    need     number of bytes from `pos` on that the parser needs to continue; 0: any number. The parser sets it
    filled   True if the last `receive` filled its buffer: then more may have arrived
    """

    __slots__ = ("pos", "end", "need", "filled", "_data", "_searched", "_parts", "_have")

    def __init__(self) -> None:
        self.pos = 0
        self.end = 0
        self.need = 0
        self.filled = False
        self._data = b""
        self._searched = 0  # there is no line end in `_data` before this offset
        self._parts: list[bytes] = []  # while fewer than `need` bytes have arrived, all of them, and `_data` is empty
        self._have = 0  # number of bytes in `_parts`

    def receive(self, fd: int) -> int:
        """Receive what has arrived at the socket `fd`. Returns the number of bytes, 0 if the peer has closed the connection, -1 if no bytes
        have arrived. Raises OSError if the connection is broken. Does not wait."""
        count = PLAIN.recv_into(fd, _buffer, RECV_SIZE)
        self.filled = count == RECV_SIZE
        if count > 0:
            self.feed(bytes(_view[:count]))
        return count

    def feed(self, chunk: bytes) -> None:
        """Append `chunk`, as if it had been received."""
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
        """The number of bytes that are not parsed."""
        return self._have + self.end - self.pos

    def release_memory(self) -> None:
        """Free the memory if all bytes are parsed, so that an idle connection needs little."""
        if self.pos == self.end:
            self._data = b""
            self.pos = self.end = 0
            self._searched = 0

    def has_news(self) -> bool:
        """True if there are bytes that are not parsed, at least `need` of them."""
        return self.pos < self.end

    def byte_at(self, at: int) -> int:
        """The byte at offset `at`, 0 to 255."""
        return self._data[at]

    def line_end(self, start: int) -> int:
        """The offset of the first line feed from `start` on, or -1 if it has not arrived. `start` must not be before that of an earlier call
        that returned -1."""
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
        """True if the bytes from `start` to before `stop` can be a key of the text protocol, or a part of one."""
        return NOT_TEXT.search(self._data, start, stop) is None

    def cut(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to before `stop`."""
        return self._data[start:stop]

    def starts_with(self, start: int, text: bytes) -> bool:
        """True if `text` is at offset `start`, completely."""
        return self._data.startswith(text, start)

    def equals(self, start: int, stop: int, text: bytes) -> bool:
        """True if the bytes from `start` to before `stop` are `text`."""
        return self._data[start:stop] == text

    def parse_number(self, start: int, stop: int) -> int:
        """The number from `start` to before `stop`, or -1 if the bytes are not 1 to 10 digits."""
        text = self._data[start:stop]
        return int(text) if len(text) <= 10 and text.isdigit() else -1

    def is_cas_number(self, start: int, stop: int) -> bool:
        """True if the bytes from `start` to before `stop` are 1 to 20 digits."""
        text = self._data[start:stop]
        return len(text) <= 20 and text.isdigit()

    def parse_value_header(self, header: ValueHeader, key_end: int, stop: int) -> bool:
        """ValueHeader.parse_after_key with the bytes in this buffer."""
        return header.parse_after_key(self._data, key_end, min(stop, self.end))

    def require(self, start: int, need: int) -> None:
        """Set `pos` to `start`, and `need`."""
        self.pos = start
        self.need = need

    def discard(self, count: int) -> int:
        """Discard up to `count` bytes from `pos` on; returns how many."""
        available = self.end - self.pos
        if available > count:
            available = count
        self.pos += available
        return available
