"""Requests for unit tests, without a parser."""

from gmproxy.protocol import commands
from gmproxy.protocol import request as message


def request_for(line, keys=None):
    """A Request for the text protocol's `line`, data block included. `keys`: all of them, where there are several."""
    name, *words = line.split(b"\r\n")[0].split(b" ")
    key = words[1] if name in (b"gat", b"gats") else words[0]
    flags = words[2:] if name == b"ms" else words[1:]
    command = commands.COMMANDS[name]
    if any(flag[:1] == b"C" for flag in flags) and command.is_meta:
        command = {b"ms": commands.META_SET_IF, b"md": commands.META_DELETE_IF, b"ma": commands.META_COUNT_IF}[name]
    request = message.Request(command, key, line)
    request.keys = keys
    return request
