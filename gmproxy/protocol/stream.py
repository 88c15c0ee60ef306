"""The bytes of one connection that have arrived and are not yet understood, and the few ways to look at them.

This hot module is written twice: `_c/stream.pyx` does the same with C pointers. Where a message ends is decided in text.py and
reply.py alone, of which there is one source; they are quick because what they ask of a Stream is.
tests/unit/test_stream.py holds both builds to one behaviour.

Both parsers, of clients' requests and of servers' replies, read from one of these. Time stays linear however the bytes are cut:
a search for a line end goes on where the last one stopped, and a long data block in many chunks is joined once.
"""


class Stream:
    """
    data     what can be parsed, from offset `pos` on
    pos      how far the parser has understood it: the parser moves this
    need     bytes from `pos` on without which the parser cannot go on; 0: any more will do
    """

    __slots__ = ("data", "pos", "need", "_searched", "_parts", "_have")

    def __init__(self):
        self.data = b""
        self.pos = 0
        self.need = 0
        self._searched = 0  # no line end in `data` before this offset
        self._parts = []    # chunks that wait to be joined with `data`
        self._have = 0      # bytes in them

    def feed(self, chunk):
        """Take the bytes that arrived next."""
        if self._have == 0:
            self._searched -= self.pos
            if self.pos == len(self.data):
                self.data = chunk
                self.pos = 0
                self._searched = 0
                return
            self._parts.append(self.data[self.pos:])
            self._have = len(self.data) - self.pos
            self.data = b""
            self.pos = 0
        self._parts.append(chunk)
        self._have += len(chunk)
        if self._have >= self.need:
            self.data = b"".join(self._parts)
            self._parts.clear()
            self._have = 0

    def size(self):
        """Bytes that wait to be understood."""
        return self._have + len(self.data) - self.pos

    def forget(self):
        """Hold on to no memory if all bytes are understood: an idle connection is to cost little."""
        if self.pos == len(self.data):
            self.data = b""
            self.pos = 0
            self._searched = 0

    def ready(self):
        """True if the parser has something new to look at."""
        return self.pos < len(self.data)

    def line_end(self, start):
        """The offset of the first line feed from `start` on, or -1 while it has not arrived."""
        end = self.data.find(b"\n", self._searched if self._searched > start else start)
        if end < 0:
            self._searched = len(self.data)
        return end

    def word_end(self, start, stop):
        """The offset of the first blank from `start` on, or `stop` if there is none before it."""
        end = self.data.find(b" ", start, stop)
        return stop if end < 0 else end

    def find_nul(self, start, stop):
        """The offset of the first NUL in data[start:stop], or -1."""
        return self.data.find(b"\0", start, stop)

    def cut(self, start, stop):
        """data[start:stop]."""
        return self.data[start:stop]

    def begins(self, start, text):
        """True if `text` stands at offset `start`."""
        return self.data.startswith(text, start)

    def equals(self, start, stop, text):
        """True if data[start:stop] is `text`."""
        return self.data[start:stop] == text

    def number(self, start, stop):
        """The number written as data[start:stop], or -1 if that is not 1 to 10 digits and nothing else."""
        text = self.data[start:stop]
        return int(text) if len(text) <= 10 and text.isdigit() else -1

    def all_digits(self, start, stop):
        """True if data[start:stop] is one digit or more and nothing else."""
        return self.data[start:stop].isdigit()

    def wait_for(self, start, need):
        """Nothing can be done before `need` bytes from offset `start` on are there."""
        self.pos = start
        self.need = need

    def drop(self, count):
        """Throw away up to `count` bytes; returns how many were there."""
        available = len(self.data) - self.pos
        if available > count:
            available = count
        self.pos += available
        return available
