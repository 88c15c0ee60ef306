"""Servers as an operator writes them: after `-s` and `-b`, and in a pool.

    host                     port 11211
    host:port[:weight][ name]
    [v6]:port[:weight][ name]
    unix:/path[:weight][ name]      without `unix:`, too, as in nutcracker.yml

Lists are separated by commas or semicolons. Host names are not resolved here, and hosts and paths stay exactly as they were written,
because several client libraries hash this text (labels.py).
"""

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv6Address

DEFAULT_PORT = 11211
MAX_PORT = 65535

EXPECTED = "expected host:port[:weight][ name], [v6]:port[:weight][ name] or unix:/path[:weight][ name]"

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")


@dataclass(frozen=True, slots=True)
class Server:
    """A memcached server as the operator wrote it.

    host, unix_path  for a unix socket, both are its path; else `unix_path` is None
    port             0 for a unix socket
    weight           above 0; whole numbers are ints
    name             the text that is hashed in place of the address, so that keys keep their server when its address changes; None if unset
    """

    host: str
    port: int = DEFAULT_PORT
    weight: int | float = 1
    name: str | None = None
    unix_path: str | None = None

    @property
    def label(self) -> str:
        """The address for logs and statistics: `host:port`, `[v6]:port` or `unix:/path`."""
        if self.unix_path is not None:
            return f"unix:{self.unix_path}"
        if ":" in self.host:
            return f"[{self.host}]:{self.port}"
        return f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.label} {self.name}" if self.name else self.label


def parse_servers(text: str, default_weight: int | float = 1) -> list[Server]:
    """The servers in `text`, in its order. A server without a weight has `default_weight`.

    Raises ValueError, which quotes the bad item and says what was expected.
    """
    return [_parse_server(item.strip(), default_weight) for item in re.split("[,;]", text)]


def _parse_server(item: str, default_weight: int | float) -> Server:
    if not item:
        raise ValueError(f"empty server: {EXPECTED}")
    address, name = _split_name(item)
    if address.startswith(("unix:", "/")):
        return _parse_unix(item, address.removeprefix("unix:"), name, default_weight)
    if address.startswith("["):
        host, rest = _split_bracket(item, address)
    else:
        host, rest = _split_host(item, address)
    port, _, weight = rest.partition(":")
    return Server(
        host=host,
        port=_parse_port(item, port) if rest else DEFAULT_PORT,
        weight=_parse_weight(item, weight) if rest.count(":") else default_weight,
        name=name,
    )


def _split_name(item: str) -> tuple[str, str | None]:
    """(address, name or None) of an item that is not empty."""
    address, *names = item.split()
    if len(names) > 1:
        raise _bad(item, "a name is one word")
    if not names:
        return address, None
    if names[0] in ('""', "''"):
        raise _bad(item, "the name is empty")
    return address, names[0]


def _split_bracket(item: str, address: str) -> tuple[str, str]:
    """(host without brackets, rest) of `[v6]:rest`; the rest is "" if there is no port."""
    host, bracket, rest = address[1:].partition("]")
    if not bracket:
        raise _bad(item, "the closing bracket is missing")
    try:
        IPv6Address(host)
    except ValueError:
        raise _bad(item, f"{host!r} is not an IPv6 address") from None
    if rest and not rest.startswith(":"):
        raise _bad(item, "a colon and the port must follow the bracket")
    return host, _without_colon(item, rest)


def _split_host(item: str, address: str) -> tuple[str, str]:
    """(host, rest) of `host:rest`; the rest is "" if there is no port."""
    if "]" in address:
        raise _bad(item, "the opening bracket is missing")
    if "::" in address or address.count(":") > 2:
        raise _bad(item, "an IPv6 address needs brackets")
    host, colon, rest = address.partition(":")
    if not host:
        raise _bad(item, "the host is empty")
    if host.isdecimal():
        raise _bad(item, "the host is missing")
    if is_bad_address(host):
        raise _bad(item, f"{host!r} is not an IPv4 address")
    try:
        host.encode("idna")
    except UnicodeError:
        raise _bad(item, f"{host!r} is not a valid host name") from None
    return host, _without_colon(item, colon + rest)


def is_bad_address(host: str) -> bool:
    """True if `host` has the form of an IPv4 or IPv6 address but is not a valid one."""
    try:
        if ":" in host:
            IPv6Address(host)
        elif re.fullmatch("[0-9.]+", host):
            socket.inet_aton(host)  # accepts 127.1, too, as the C library does
    except (ValueError, OSError):
        return True
    return False


def _without_colon(item: str, rest: str) -> str:
    if rest == ":":
        raise _bad(item, "the port is empty")
    return rest[1:]


def _parse_unix(item: str, path: str, name: str | None, default_weight: int | float) -> Server:
    weight = default_weight
    head, colon, tail = path.rpartition(":")
    # A path may contain colons: only a number after the last one is a weight.
    if colon and re.fullmatch(r"-?[0-9.]*", tail):
        path, weight = head, _parse_weight(item, tail)
    if not path.startswith("/") or path == "/":
        raise _bad(item, "a unix socket needs an absolute path")
    return Server(host=path, port=0, weight=weight, name=name, unix_path=path)


def _parse_port(item: str, text: str) -> int:
    # int() alone accepts "+1", "1_0" and digits of other scripts, too.
    if not re.fullmatch("[0-9]+", text):
        raise _bad(item, f"port {text!r} is not a number")
    if len(text) > len(str(MAX_PORT)) or not 1 <= int(text) <= MAX_PORT:
        raise _bad(item, f"port {text} is not a number from 1 to {MAX_PORT}")
    return int(text)


def _parse_weight(item: str, text: str) -> int | float:
    if not _NUMBER.fullmatch(text):
        raise _bad(item, f"weight {text!r} is not a positive number")
    weight = float(text)
    if weight <= 0:
        raise _bad(item, f"weight {text} is not positive")
    return int(weight) if weight.is_integer() else weight


def _bad(item: str, reason: str) -> ValueError:
    return ValueError(f"bad server {item!r}: {reason}; {EXPECTED}")
