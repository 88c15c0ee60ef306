"""A raw client: it sends and receives bytes, and can prove that no byte is left over."""

import select
import socket

from support.timing import PATIENCE, QUIET, eventually

RECV_SIZE = 64 * 1024


class Talk:
    """One connection to memcached or gmproxy. Every wait ends after PATIENCE."""

    def __init__(self, port=None, host="127.0.0.1", path=None, timeout=PATIENCE):
        if path is not None:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(str(path))
        else:
            self.socket = socket.create_connection((host, port), timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.close()

    def close(self):
        self.socket.close()

    # -- sending

    def send(self, data):
        self.socket.sendall(data)

    def send_in_pieces(self, data, size=1):
        """Send each piece in its own packet, as far as the kernel allows."""
        for start in range(0, len(data), size):
            self.socket.sendall(data[start : start + size])

    def wait_until_alone(self):
        """Wait until the proxy has closed all other connections of clients. Sends nothing to servers."""
        eventually(lambda: b"STAT curr_connections 1\r\n" in self.ask(b"stats proxy\r\n", b"END\r\n"), what="the others are gone")

    # -- receiving

    def read_until(self, suffix):
        """All bytes up to the first `suffix`, including it."""
        searched = 0
        while True:
            at = self._unread.find(suffix, max(0, searched - len(suffix)))
            if at >= 0:
                return self._take(at + len(suffix))
            searched = len(self._unread)
            self._receive(f"up to {suffix!r}")

    def read_line(self):
        return self.read_until(b"\r\n")

    def read_exactly(self, count):
        while len(self._unread) < count:
            self._receive(f"{count} bytes")
        return self._take(count)

    def _receive(self, wanted):
        try:
            chunk = self.socket.recv(RECV_SIZE)
        except TimeoutError:
            raise AssertionError(f"waited for {wanted}, have {self._tail()!r} and nothing more comes") from None
        except ConnectionError as error:
            raise AssertionError(f"waited for {wanted}, have {self._tail()!r}, then: {error}") from None
        if not chunk:
            raise AssertionError(f"waited for {wanted}, have {self._tail()!r}, then the peer closed")
        self._unread += chunk

    def _tail(self):
        return bytes(self._unread[-200:])

    def _take(self, count):
        data = bytes(memoryview(self._unread)[:count])
        del self._unread[:count]
        return data

    # -- both

    def ask(self, data, end=b"\r\n"):
        self.send(data)
        return self.read_until(end)

    def expect(self, sent, answer):
        """Send `sent`. Exactly `answer` must arrive next."""
        self.send(sent)
        self.expect_answer(answer, sent)

    def expect_answer(self, answer, sent=b""):
        try:
            got = self.read_exactly(len(answer))
        except AssertionError as error:
            raise AssertionError(f"sent {_short(sent)}, wanted {_short(answer)}: {error}") from None
        assert got == answer, f"sent {_short(sent)}\n  wanted {_short(answer)}\n  got    {_short(got + self._unread)}"

    def in_step(self):
        """Prove that no byte is left over, and that the connection still works."""
        line = self.ask(b"version\r\n")
        assert line.startswith(b"VERSION "), f"not in step: asked for the version and got {_short(line)}"
        assert not self._unread, f"not in step: left over after the version: {_short(self._unread)}"

    def silent(self, within=QUIET):
        """True if nothing arrives for `within` seconds, not even the end of the connection."""
        return not self._unread and not select.select([self.socket], [], [], within)[0]

    def closed(self, within=PATIENCE):
        """True if the peer closes the connection within `within` seconds without sending another byte."""
        assert not self._unread, f"left over: {_short(self._unread)}"
        if not select.select([self.socket], [], [], within)[0]:
            return False
        try:
            last_words = self.socket.recv(RECV_SIZE)
        except ConnectionError:
            return True
        assert not last_words, f"wanted the end, got {_short(last_words)}"
        return True


def nobody_listens(port):
    try:
        Talk(port).close()
    except OSError:
        return True
    return False


def _short(data):
    data = bytes(data)
    return repr(data) if len(data) <= 300 else f"{data[:150]!r} ... {data[-150:]!r} ({len(data)} bytes)"


def value(key, data, flags=0):
    """The VALUE block of a reply."""
    return b"VALUE %b %d %d\r\n%b\r\n" % (key, flags, len(data), data)


def storage(command, key, data, flags=0, exptime=0, more=b""):
    """A storage command with its data block."""
    return b"%b %b %d %d %d%b\r\n%b\r\n" % (command, key, flags, exptime, len(data), more, data)
