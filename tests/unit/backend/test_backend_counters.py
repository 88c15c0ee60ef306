"""The results of writes, counted as memcached counts them."""

import pytest

from gmproxy.backend.counters import BackendCounters
from gmproxy.protocol.commands import COMMANDS, META_COUNT, META_DELETE, META_GET, META_SET, META_SET_IF
from gmproxy.protocol.request import Request


def outcomes(command, line, reply):
    counters = BackendCounters()
    request = Request(command, b"k", line)
    request.reply = reply
    counters.count_write(request)
    names = (b"delete", b"incr", b"decr", b"cas", b"touch")
    return {name.decode(): counters.outcomes(name) for name in names if any(counters.outcomes(name))}


@pytest.mark.parametrize(
    "command, line, reply, counted",
    [
        (COMMANDS[b"delete"], b"delete k\r\n", b"DELETED\r\n", {"delete": (1, 0, 0)}),
        (COMMANDS[b"delete"], b"delete k\r\n", b"NOT_FOUND\r\n", {"delete": (0, 1, 0)}),
        (COMMANDS[b"delete"], b"delete k\r\n", b"SERVER_ERROR out of memory\r\n", {}),
        (COMMANDS[b"delete"], b"delete k\r\n", b"ERROR\r\n", {}),
        (COMMANDS[b"incr"], b"incr k 1\r\n", b"5\r\n", {"incr": (1, 0, 0)}),
        (COMMANDS[b"incr"], b"incr k 1\r\n", b"NOT_FOUND\r\n", {"incr": (0, 1, 0)}),
        (COMMANDS[b"incr"], b"incr k 1\r\n", b"CLIENT_ERROR cannot increment\r\n", {}),
        (COMMANDS[b"decr"], b"decr k 1\r\n", b"5\r\n", {"decr": (1, 0, 0)}),
        (COMMANDS[b"touch"], b"touch k 1\r\n", b"TOUCHED\r\n", {"touch": (1, 0, 0)}),
        (COMMANDS[b"cas"], b"cas k 0 0 1 5\r\nx\r\n", b"STORED\r\n", {"cas": (1, 0, 0)}),
        (COMMANDS[b"cas"], b"cas k 0 0 1 5\r\nx\r\n", b"EXISTS\r\n", {"cas": (0, 0, 1)}),
        (COMMANDS[b"cas"], b"cas k 0 0 1 5\r\nx\r\n", b"NOT_FOUND\r\n", {"cas": (0, 1, 0)}),
        (COMMANDS[b"set"], b"set k 0 0 1\r\nx\r\n", b"STORED\r\n", {}),
        (COMMANDS[b"add"], b"add k 0 0 1\r\nx\r\n", b"NOT_STORED\r\n", {}),
        (META_DELETE, b"md k\r\n", b"HD\r\n", {"delete": (1, 0, 0)}),
        (META_DELETE, b"md k\r\n", b"NF\r\n", {"delete": (0, 1, 0)}),
        (META_COUNT, b"ma k\r\n", b"HD\r\n", {"incr": (1, 0, 0)}),
        (META_COUNT, b"ma k v MD\r\n", b"VA 1\r\n5\r\n", {"decr": (1, 0, 0)}),
        (META_COUNT, b"ma k M-\r\n", b"NF\r\n", {"decr": (0, 1, 0)}),
        (META_SET, b"ms k 4\r\n C5 \r\n", b"HD\r\n", {}),
        (META_SET_IF, b"ms k 4 ME\r\n C5 \r\n", b"HD\r\n", {}),
        (META_SET_IF, b"ms k 4 ME\r\nabcd\r\n", b"NS\r\n", {}),
        (META_SET_IF, b"ms k 1 C5\r\nx\r\n", b"HD c9\r\n", {"cas": (1, 0, 0)}),
        (META_SET_IF, b"ms k 1 C5\r\nx\r\n", b"EX\r\n", {"cas": (0, 0, 1)}),
        (META_SET_IF, b"ms k 1 C5\r\nx\r\n", b"NF\r\n", {"cas": (0, 1, 0)}),
    ],
)
def test_outcomes(command, line, reply, counted):
    assert outcomes(command, line, reply) == counted


def test_touches():
    counters = BackendCounters()
    counters.count_touches(COMMANDS[b"gat"], 3, 1)
    assert (counters.keys_touched, counters.touches_found) == (3, 1)
    counters.count_touches(META_GET, 1, 0)
    assert (counters.keys_touched, counters.touches_found) == (3, 1), "an mg that finds nothing is a get"
    counters.reset()
    assert (counters.keys_touched, counters.touches_found) == (0, 0)
