"""Questions to a memcached server on a connection of their own: is it alive, is it the process it was, how long has it run?"""

from collections import namedtuple

from gevent import Timeout

from gmproxy import net
from gmproxy.errors import CLOSED, PROTOCOL, RESET, TIMEOUT, BackendError

#: What `stats` tells of a server. `pid` and `uptime` (seconds) are None if it does not say.
Identity = namedtuple("Identity", "pid uptime version")

MAX_ANSWER = 256 * 1024  # bytes; what memcached answers to `stats` is below 4 KiB
RECV_SIZE = 16 * 1024


def greet(server, connect_timeout, timeout):
    """Prove that a memcached answers at `server` (gmproxy.address.Server): `version` on a fresh connection. Raises BackendError."""
    answer = _ask(server, b"version\r\n", (b"\r\n",), connect_timeout, timeout)
    if not answer.startswith(b"VERSION "):
        raise BackendError(PROTOCOL, f"version was answered {answer[:60]!r}")


def identify(server, connect_timeout, timeout):
    """The Identity of `server`, asked on a fresh connection. Raises BackendError."""
    return _parse(_ask(server, b"stats\r\n", (b"END\r\n", b"ERROR\r\n"), connect_timeout, timeout))


def _ask(server, question, ends, connect_timeout, timeout):
    """What comes back up to one of `ends`."""
    sock = net.connect(server, connect_timeout)
    try:
        sock.settimeout(timeout)
        with Timeout(timeout):
            sock.sendall(question)
            answer = b""
            while not answer.endswith(ends):
                if len(answer) > MAX_ANSWER:
                    raise BackendError(PROTOCOL, "an answer without end")
                chunk = sock.recv(RECV_SIZE)
                if not chunk:
                    raise BackendError(CLOSED)
                answer += chunk
            return answer
    except (Timeout, TimeoutError):
        raise BackendError(TIMEOUT, f"no answer to {question.decode().strip()}") from None
    except OSError as error:
        raise BackendError(RESET, str(error)) from error
    finally:
        sock.close()


def _parse(answer):
    facts = {}
    for line in answer.split(b"\r\n"):
        words = line.split(b" ", 2)
        if len(words) == 3 and words[0] == b"STAT":
            facts[words[1]] = words[2].decode("ascii", "replace")
    return Identity(_number(facts.get(b"pid")), _number(facts.get(b"uptime")), facts.get(b"version", ""))


def _number(text):
    return int(text) if text and text.isdigit() else None
