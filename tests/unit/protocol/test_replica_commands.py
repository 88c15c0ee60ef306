"""The copy of a write that a backup receives, where it differs from the write."""

import pytest

from gmproxy.protocol import replica_commands
from gmproxy.protocol.text import requests as text


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
