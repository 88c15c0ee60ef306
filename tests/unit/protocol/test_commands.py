"""The table of commands: the properties of each one for the routing, and which replies are valid."""

import pytest

from gmproxy.protocol.commands import COMMANDS
from gmproxy.protocol.text import requests as text

ALL = {name.decode() for name in COMMANDS}

READS = {"get", "gets", "gat", "gats"}


def names(predicate):
    return {command.name.decode() for command in COMMANDS.values() if predicate(command)}


def test_each_command_is_there_under_its_name():
    assert all(command.name == name for name, command in COMMANDS.items())


def test_what_answers_with_values():
    assert names(lambda command: command.returns_values) == READS
    assert names(lambda command: command.is_read) == READS | {"mg"}


def test_what_the_backup_hears_of():
    silent = {"get", "gets", "flush_all", "version", "stats", "lru_crawler", "verbosity", "quit", "mg", "me", "mn"}
    assert names(lambda command: command.is_write) == ALL - silent
    assert names(lambda command: command.conditional) == {"add", "replace", "cas"}


def test_what_may_be_asked_twice():
    """Delete is not in it: the second reply would be NOT_FOUND."""
    assert names(lambda command: command.idempotent) == READS | {"touch", "mg", "me"}


def test_what_is_a_miss():
    assert names(lambda command: command.miss_reply == b"END\r\n") == READS
    assert names(lambda command: command.miss_reply == b"EN\r\n") == {"mg", "me"}
    assert names(lambda command: command.miss_reply is None) == ALL - READS - {"mg", "me"}


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
    """Fewer words are an error, as in memcached; further ones are ignored."""
    words = [command.name, b"1", b"0", b"0", b"0", b"0", b"x", b"y"]
    least = 6 if command.name == b"cas" else command.min_args  # a cas without a number is read completely: it has a data block
    for count in range(1, len(words) + 1):
        parser = text.TextParser(100)
        parser.stream.feed(b" ".join(words[:count]) + b"\r\n\r\n")
        assert (parser.next_request().reply != text.BAD_FORMAT) is (least <= count), count
