"""Requests for unit tests, made with or without a parser."""

from gmproxy.protocol import commands
from gmproxy.protocol import request as message
from gmproxy.protocol.binary.requests import BinaryParser
from gmproxy.protocol.text.requests import TextParser
from support.packets import Answer, taken_apart

#: Maximum size of a value in these requests, bytes.
MAX_ITEM_SIZE = 1000


def request_for(line, keys=None):
    """A Request for `line` of the text protocol, which includes the data block. `keys`: all keys, if there are several."""
    name, *words = line.split(b"\r\n")[0].split(b" ")
    key = words[1] if name in (b"gat", b"gats") else words[0]
    flags = words[2:] if name == b"ms" else words[1:]
    command = commands.COMMANDS[name]
    if any(flag[:1] == b"C" for flag in flags) and command.is_meta:
        command = {b"ms": commands.META_SET_IF, b"md": commands.META_DELETE_IF, b"ma": commands.META_COUNT_IF}[name]
    request = message.Request(command, key, line)
    request.keys = keys
    return request


def client_request(line):
    """The parsed Request for `line` of a text client, which includes the data block."""
    parser = TextParser(1024 * 1024)
    parser.stream.feed(line)
    request = parser.next_request()
    assert request.command is not None, request.reply
    return request


def parsed_request(line):
    """As `client_request`, as the router sends it to a server."""
    request = client_request(line)
    if request.keys:
        request.line = request.keys.command_line(request.line)
    return request


def binary_parser(*chunks):
    """The parser of a binary client that has sent `chunks`."""
    parser = BinaryParser(MAX_ITEM_SIZE)
    for chunk in chunks:
        parser.stream.feed(chunk)
    return parser


def binary_requests(data):
    """All Requests in the packets `data`."""
    return list(iter(binary_parser(data).next_request, None))


def binary_request(data):
    """The only Request in the packets `data`."""
    (request,) = binary_requests(data)
    return request


def binary_replies(data, reply) -> list[Answer]:
    """The Answers that a binary client receives to `data`, a single request, if a text server replies `reply`."""
    request = binary_request(data)
    request.reply = reply
    return taken_apart(request.renderer.render(request))
