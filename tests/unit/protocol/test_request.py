"""The table of verbs, and what a fresh request is."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmproxy.protocol import request as message
from gmproxy.protocol.commands import COMMANDS
from gmproxy.protocol.request import new_request
from gmproxy.protocol.text import requests as text

COMMAND_NAMES = (
    "get gets gat gats set add replace append prepend cas incr decr delete touch flush_all version stats lru_crawler verbosity quit "
    "mg ms md ma me mn".split()
)
READS = {"get", "gets", "gat", "gats"}


def names(predicate):
    return {command.name.decode() for command in COMMANDS.values() if predicate(command)}


def test_all_commands_of_the_protocol_are_there_under_their_names():
    assert [name.decode() for name in COMMANDS] == COMMAND_NAMES
    assert all(command.name == name for name, command in COMMANDS.items())


def test_what_answers_with_values():
    assert names(lambda command: command.returns_values) == READS
    assert names(lambda command: command.is_read) == READS | {"mg"}


def test_what_the_backup_hears_of():
    silent = {"get", "gets", "flush_all", "version", "stats", "lru_crawler", "verbosity", "quit", "mg", "me", "mn"}
    assert names(lambda command: command.is_write) == set(COMMAND_NAMES) - silent
    assert names(lambda command: command.conditional) == {"add", "replace", "cas"}


def test_what_may_be_asked_twice():
    """Not even delete: the second time, the answer would be NOT_FOUND."""
    assert names(lambda command: command.idempotent) == READS | {"touch", "mg", "me"}


def test_what_is_a_miss():
    assert names(lambda command: command.miss_reply == b"END\r\n") == READS
    assert names(lambda command: command.miss_reply == b"EN\r\n") == {"mg", "me"}
    assert names(lambda command: command.miss_reply is None) == set(COMMAND_NAMES) - READS - {"mg", "me"}


@pytest.mark.parametrize(
    "name, line, known",
    [
        (b"set", b"STORED\r\n", True),
        (b"add", b"NOT_STORED\r\n", True),
        (b"cas", b"EXISTS\r\n", True),
        (b"cas", b"NOT_FOUND\r\n", True),
        (b"set", b"OK\r\n", False),
        (b"delete", b"DELETED\r\n", True),
        (b"delete", b"STORED\r\n", False),
        (b"touch", b"TOUCHED\r\n", True),
        (b"incr", b"NOT_FOUND\r\n", True),
        (b"incr", b"STORED\r\n", False),
        (b"flush_all", b"OK\r\n", True),
        (b"get", b"END\r\n", False),
    ],
)
def test_answers(name, line, known):
    assert (line in COMMANDS[name].valid_replies) is known


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS.values() if not command.is_meta], ids=lambda command: command.name.decode()
)
def test_how_many_words_it_takes(command):
    """With fewer it is a mistake, as in memcached; further ones mean nothing."""
    words = [command.name, b"1", b"0", b"0", b"0", b"0", b"x", b"y"]
    least = 6 if command.name == b"cas" else command.min_args  # a cas without a number is read to its end: it has a data block
    for count in range(1, len(words) + 1):
        parser = text.TextParser(100)
        parser.stream.feed(b" ".join(words[:count]) + b"\r\n\r\n")
        assert (parser.next_request().reply != text.BAD_FORMAT) is (least <= count), count


def test_a_fresh_request():
    request = message.Request(COMMANDS[b"get"], b"a", b"get a\r\n")
    assert (request.command, request.key, request.line) == (COMMANDS[b"get"], b"a", b"get a\r\n")
    assert (request.keys, request.reply, request.sink, request.error, request.failed_server) == (None,) * 5
    assert (request.quiet, request.retried, request.role, request.connection_index) == (False, False, message.PRIMARY, 0)


def test_a_local_reply_is_a_request_that_is_answered():
    request = message.local_reply(b"ERROR\r\n")
    assert (request.command, request.key, request.reply) == (None, b"", b"ERROR\r\n")


def test_repr_tells_the_state():
    request = message.Request(COMMANDS[b"get"], b"a", b"get a\r\n")
    assert repr(request) == "<Request get b'a' role=0 reply=None>"
    assert "STORED" in repr(message.local_reply(b"STORED\r\n"))


# -- the queue of a link


@given(runs=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12))
def test_a_queue_is_a_deque(runs):
    """So many requests come, and then so many go."""
    queue, wanted = message.RequestQueue(), deque()
    for come, go in runs:
        for _ in range(come):
            request = new_request(COMMANDS[b"get"], b"k", b"get k\r\n")
            queue.append(request)
            wanted.append(request)
        for _ in range(min(go, len(wanted))):
            assert queue.first() is wanted[0]
            assert queue.popleft() is wanted.popleft()
        assert (len(queue), queue.count, bool(queue)) == (len(wanted), len(wanted), bool(wanted))
        assert list(queue) == list(wanted)
        assert list(reversed(queue)) == list(reversed(wanted))


def test_an_empty_queue():
    queue = message.RequestQueue()
    assert queue.first() is None
    for wrong in (queue.popleft, lambda: queue[0], lambda: queue[-1]):
        with pytest.raises(IndexError):
            wrong()
