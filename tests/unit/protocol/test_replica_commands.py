"""The copy of a write that a backup receives, where it differs from the write."""

import time

import pytest

from gmproxy.protocol import replica_commands
from gmproxy.protocol.request import Request
from gmproxy.protocol.text import requests as text

DAY = 86400
PASSED = b"1000000000"  # a date in 2001


def understood(line):
    parser = text.TextParser(1000)
    parser.stream.feed(line)
    return parser.next_request()


@pytest.mark.parametrize(
    "line, told",
    [
        (b"gat 5 a\r\n", b"touch a 5\r\n"),
        (b"gats -1 a\r\n", b"touch a -1\r\n"),
        (b"mg a v T5 k O1\r\n", b"mg a T5\r\n"),
        (b"mg Zm9v v T5 b\r\n", b"mg Zm9v T5 b\r\n"),
        (b"mg a N30 T5\r\n", b"mg a T5\r\n"),
    ],
)
def test_of_a_retrieval_only_the_life(line, told):
    request = understood(line)
    command, key, copy = replica_commands.touch_command(request, request.key)
    assert (key, copy) == (request.key, told)
    assert command.name == told.split(b" ")[0] and command.is_write and command.idempotent


@pytest.mark.parametrize(
    "line, told",
    [
        (b"add a 1 2 1\r\nx\r\n", b"set a 1 2 1\r\nx\r\n"),
        (b"cas a 1 2 1 99\r\nx\r\n", b"set a 1 2 1\r\nx\r\n"),
        (b"ms a 1 ME T2 F1 c k O1\r\nx\r\n", b"ms a 1 T2 F1\r\nx\r\n"),
        (b"ms a 1 C5 I\r\nx\r\n", b"ms a 1\r\nx\r\n"),
        (b"ms a 1 MR C5\r\nx\r\n", b"ms a 1\r\nx\r\n"),
        (b"ms a 1 C5 MA\r\nx\r\n", b"ms a 1 MA\r\nx\r\n"),
        (b"ms Zm9v 1 C5 MP b\r\nx\r\n", b"ms Zm9v 1 MP b\r\nx\r\n"),
        (b"ms a 4 ME\r\n\r\n\r\n\r\n", b"ms a 4\r\n\r\n\r\n\r\n"),
        (b"md a C5 I T30 k\r\n", b"md a I T30\r\n"),
        (b"ma a C5 D3 MD v t N0 J5\r\n", b"ma a D3 MD N0 J5\r\n"),
    ],
)
def test_of_a_change_on_a_condition_its_outcome(line, told):
    request = understood(line)
    assert request.command.conditional
    command, key, copy = replica_commands.unconditional_write(request)
    assert (key, copy) == (request.key, told)
    assert command.name == told.split(b" ")[0] and command.is_write and not command.conditional


@pytest.mark.parametrize(
    "line",
    [
        b"delete a\r\n",
        b"md a\r\n",
        b"md a I T30\r\n",
        b"md a C5 q\r\n",
        b"flush_all\r\n",
        b"flush_all 10\r\n",
        b"set a 0 -1 1\r\nx\r\n",
        b"set a 0 %b 1 noreply\r\nx\r\n" % PASSED,
        b"set a 0 4000000000 1\r\nx\r\n",  # a negative number of 32 bits
        b"add a 0 -1 1\r\nx\r\n",
        b"replace a 0 -1 1\r\nx\r\n",
        b"cas a 0 -1 1 7\r\nx\r\n",
        b"ms a 1 T-1\r\nx\r\n",
        b"ms a 1 MA T%b\r\nx\r\n" % PASSED,
        b"touch a -1\r\n",
        b"gat -1 a\r\n",
        b"gats %b a b\r\n" % PASSED,
        b"mg a T-1 v\r\n",
        b"ma a T-1\r\n",
        b"ma a N-1\r\n",
    ],
)
def test_commands_after_which_there_is_no_value(line):
    request = understood(line)
    assert replica_commands.is_delete_like(request)
    assert replica_commands.changes_value(request)


@pytest.mark.parametrize(
    "line, changes",
    [
        (b"set a 0 0 9\r\nx T-1 -1 \r\n", True),
        (b"set a 4294967295 1 1\r\nx\r\n", True),
        (b"set a 0 %d 1\r\nx\r\n" % (30 * DAY), True),
        (b"append a 0 -1 1\r\nx\r\n", True),  # memcached ignores the exptime
        (b"prepend a 0 -1 1\r\nx\r\n", True),
        (b"ms T-1 3\r\nT-1\r\n", True),
        (b"ms a 1 T0\r\nx\r\n", True),
        (b"incr a 1\r\n", True),
        (b"ma a N30 T30\r\n", True),
        (b"touch a 0\r\n", True),
        (b"gat 30 a\r\n", False),
        (b"mg a T30 v\r\n", False),
        (b"mg a N-1 T30 v\r\n", False),
    ],
)
def test_commands_after_which_there_may_be_a_value(line, changes):
    request = understood(line)
    assert not replica_commands.is_delete_like(request)
    assert replica_commands.changes_value(request) == changes


@pytest.mark.parametrize("line", [b"get a\r\n", b"mg a v\r\n", b"mg a N-1\r\n"])
def test_a_read_is_not_like_a_delete(line):
    assert not replica_commands.is_delete_like(understood(line))


@pytest.mark.parametrize(
    "line, seconds",
    [
        (b"flush_all\r\n", 0),
        (b"flush_all 0\r\n", 0),
        (b"flush_all -5 noreply\r\n", 0),
        (b"flush_all 60\r\n", 60),
        (b"flush_all %d\r\n" % (30 * DAY), 30 * DAY),
        (b"flush_all %b\r\n" % PASSED, 0),
    ],
)
def test_when_a_flush_is_executed(line, seconds):
    assert replica_commands.flush_delay(understood(line)) == seconds


def test_a_flush_at_a_date():
    date = int(time.time()) + 60 * DAY
    assert 0 <= 60 * DAY - replica_commands.flush_delay(understood(b"flush_all %d\r\n" % date)) < DAY


# -- a refused set: memcached has deleted the old value

TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"
NO_MEMORY = b"SERVER_ERROR out of memory storing object\r\n"


@pytest.mark.parametrize(
    "line, reply, reply_of_copy, differ",
    [
        (b"set a 0 0 1\r\nx\r\n", TOO_LARGE, b"STORED\r\n", True),
        (b"set a 0 0 1\r\nx\r\n", NO_MEMORY, b"STORED\r\n", True),
        (b"set a 0 0 1\r\nx\r\n", b"STORED\r\n", NO_MEMORY, True),
        (b"set a 0 0 1\r\nx\r\n", TOO_LARGE, NO_MEMORY, True),
        (b"set a 0 0 1\r\nx\r\n", TOO_LARGE, TOO_LARGE, False),
        (b"ms a 1\r\nx\r\n", TOO_LARGE, b"HD\r\n", True),
        (b"ms a 1 c\r\nx\r\n", b"HD c5\r\n", NO_MEMORY, True),
        (b"ms a 1 MA\r\nx\r\n", TOO_LARGE, b"HD\r\n", True),
        (b"ms a 1 MA\r\nx\r\n", b"HD\r\n", TOO_LARGE, True),
        (b"append a 0 0 1\r\nx\r\n", TOO_LARGE, b"STORED\r\n", True),
    ],
)
def test_a_set_that_one_server_refused(line, reply, reply_of_copy, differ):
    request, copy = understood(line), understood(line)
    request.reply, copy.reply = reply, reply_of_copy
    assert replica_commands.replies_differ(request, copy) == differ


@pytest.mark.parametrize("line", [b"add a 0 0 1\r\nx\r\n", b"ms a 1 C5\r\nx\r\n", b"ms a 1 MR\r\nx\r\n"])
def test_the_result_of_a_conditional_write_that_the_backup_refused(line):
    request = understood(line)
    request.reply = b"HD\r\n" if line.startswith(b"ms") else b"STORED\r\n"
    copy = Request(*replica_commands.unconditional_write(request))
    copy.reply = NO_MEMORY
    assert replica_commands.replies_differ(request, copy)


@pytest.mark.parametrize(
    "line, reply, removed",
    [
        (b"set a 0 0 1\r\nx\r\n", TOO_LARGE, True),
        (b"ms a 1 C5\r\nx\r\n", NO_MEMORY, True),
        (b"ms a 1 ME\r\nx\r\n", TOO_LARGE, True),
        (b"ms a 1 ME\r\nx\r\n", b"NS\r\n", False),
        (b"add a 0 0 1\r\nx\r\n", TOO_LARGE, False),
        (b"cas a 0 0 1 7\r\nx\r\n", NO_MEMORY, False),
        (b"append a 0 0 1\r\nx\r\n", NO_MEMORY, False),
    ],
)
def test_whether_the_old_value_is_gone(line, reply, removed):
    """As memcached 1.6.18 and 1.6.45 do it: tests/proxy/test_refused_writes.py."""
    request = understood(line)
    request.reply = reply
    assert replica_commands.has_removed_value(request) == removed
