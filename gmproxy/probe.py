"""What the proxy itself has to say to a memcached server, on a connection of its own: is it alive, which process is it, forget these keys."""

from collections import namedtuple

from gevent import Timeout, sleep

from gmproxy import net
from gmproxy.errors import CLOSED, PROTOCOL, RESET, TIMEOUT, BackendError
from gmproxy.protocol import orders

#: What `stats` tells of a server. `pid` and `uptime` (seconds) are None if it does not say.
Identity = namedtuple("Identity", "pid uptime version")

MAX_ANSWER = 256 * 1024  # bytes; what memcached answers to `stats` is below 4 KiB
RECV_SIZE = 16 * 1024

_ERRORS = (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")


class Conversation:
    """A connection of our own to `server` (gmproxy.address.Server), with `timeout` seconds for each question. Use it in a `with`.

    `users` says who we are, as for net.connect.

    Everything here raises BackendError.
    """

    def __init__(self, server, connect_timeout, timeout, users=None):
        self._sock = net.connect(server, connect_timeout, users=users)
        self._sock.settimeout(timeout)
        self._timeout = timeout

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self._sock.close()

    def greet(self):
        """Prove that a memcached answers."""
        answer = self._ask(b"version\r\n", lambda answer: answer.endswith(b"\r\n"))
        if not answer.startswith(b"VERSION "):
            raise BackendError(PROTOCOL, f"version was answered {answer[:60]!r}")

    def identify(self):
        """The server's Identity."""
        facts = dict(self.stats())
        return Identity(_number(facts.get("pid")), _number(facts.get("uptime")), facts.get("version", ""))

    def stats(self, arguments=b""):
        """What it says to `stats` with these arguments: [(name, value)]. Nothing, if it does not know them."""
        question = b"stats %b\r\n" % arguments if arguments else b"stats\r\n"
        answer = self._ask(question, lambda answer: answer.endswith((b"END\r\n", b"ERROR\r\n", b"RESET\r\n")) or answer.startswith(_ERRORS))
        words = [line.split(b" ", 2) for line in answer.split(b"\r\n")]
        return [(name.decode("ascii", "replace"), value.decode("ascii", "replace")) for what, name, value in
                (each for each in words if len(each) == 3) if what == b"STAT"]

    def delete(self, keys, rest=0.0):
        """See to it that the server has none of `keys`. It answers in many pieces: after `rest` seconds they can be read at once."""
        answer = self._ask(orders.forget_all(keys), lambda answer: answer.count(b"\n") >= len(keys), rest)
        for line in set(answer.splitlines()) - orders.FORGOTTEN:
            raise BackendError(PROTOCOL, f"delete was answered {line[:60]!r}")

    def flush(self):
        """See to it that the server has nothing."""
        answer = self._ask(b"flush_all\r\n", lambda answer: answer.endswith(b"\r\n"))
        if answer != b"OK\r\n":
            raise BackendError(PROTOCOL, f"flush_all was answered {answer[:60]!r}")

    def _ask(self, question, is_whole, rest=0.0):
        name = question[:20].decode("latin-1").split()[0]
        try:
            with Timeout(self._timeout):
                self._sock.sendall(question)
                if rest:
                    sleep(rest)
                answer = b""
                while not is_whole(answer):
                    if len(answer) > MAX_ANSWER:
                        raise BackendError(PROTOCOL, "an answer without end")
                    chunk = self._sock.recv(RECV_SIZE)
                    if not chunk:
                        raise BackendError(CLOSED)
                    answer += chunk
                return answer
        except (Timeout, TimeoutError):
            raise BackendError(TIMEOUT, f"no answer to {name}") from None
        except OSError as error:
            raise BackendError(RESET, str(error)) from error


def _number(text):
    return int(text) if text and text.isdigit() else None
