"""Ask a memcached server who it is, on a connection of its own: is it alive, is it the process it was, how long has it run?"""

from collections import namedtuple

from gevent import Timeout

from gmproxy import net
from gmproxy.errors import CLOSED, PROTOCOL, RESET, TIMEOUT, BackendError

#: What `stats` tells of a server. `pid` and `uptime` (seconds) are None if it does not say.
Identity = namedtuple("Identity", "pid uptime version")

MAX_STATS = 256 * 1024  # bytes of an answer to `stats`; memcached's own is below 4 KiB
RECV_SIZE = 16 * 1024


def identify(server, connect_timeout, timeout):
    """The Identity of `server` (gmproxy.address.Server), asked on a fresh connection. Raises BackendError."""
    sock = net.connect(server, connect_timeout)
    try:
        sock.settimeout(timeout)
        with Timeout(timeout):
            sock.sendall(b"stats\r\n")
            return _parse(_read_stats(sock))
    except (Timeout, TimeoutError):
        raise BackendError(TIMEOUT, "no answer to stats") from None
    except OSError as error:
        raise BackendError(RESET, str(error)) from error
    finally:
        sock.close()


def _read_stats(sock):
    answer = b""
    while not answer.endswith((b"END\r\n", b"ERROR\r\n")):
        if len(answer) > MAX_STATS:
            raise BackendError(PROTOCOL, "no end of stats")
        chunk = sock.recv(RECV_SIZE)
        if not chunk:
            raise BackendError(CLOSED)
        answer += chunk
    return answer


def _parse(answer):
    facts = {}
    for line in answer.split(b"\r\n"):
        words = line.split(b" ", 2)
        if len(words) == 3 and words[0] == b"STAT":
            facts[words[1]] = words[2].decode("ascii", "replace")
    return Identity(_number(facts.get(b"pid")), _number(facts.get(b"uptime")), facts.get(b"version", ""))


def _number(text):
    return int(text) if text and text.isdigit() else None
