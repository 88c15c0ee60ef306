"""The values of settings: a parser for each kind, text -> value. Each raises ValueError, which names the values that are accepted."""

import os
import re
from collections.abc import Callable
from typing import Any

from gmproxy.config import credentials
from gmproxy.config.suggestions import did_you_mean
from gmproxy.placement.server_spec import Server, is_bad_address, parse_servers

Parse = Callable[[str], Any]


def text(value: str) -> str:
    """Any text."""
    return value


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed
        return "/"


#: The directory in which gmproxy was started. A daemon changes its own to /, and a reload reads the same relative paths again.
TYPED_IN = _working_directory()


def path(value: str) -> str:
    """The absolute path of a file, which may be relative to the directory in which gmproxy was started."""
    return os.path.normpath(os.path.join(TYPED_IN, value)) if value else ""


def yes_or_no(value: str) -> bool:
    """yes, true, on, 1; or no, false, off, 0."""
    if value.lower() in ("yes", "true", "on", "1"):
        return True
    if value.lower() in ("no", "false", "off", "0"):
        return False
    raise ValueError(f"{value!r} is neither yes nor no")


class Whole:
    """A whole number from `least` to `most`."""

    def __init__(self, least: int, most: int) -> None:
        self.least = least
        self.most = most

    def __call__(self, value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", value) or not self.least <= int(value) <= self.most:
            raise ValueError(f"{value!r} is not a whole number from {self.least} to {self.most}")
        return int(value)


MILLISECONDS = Whole(1, 86_400_000)
WORKERS = Whole(1, 64)
MIN_SIZE, MAX_SIZE = 1024, 1 << 30


def milliseconds(value: str) -> float:
    """Milliseconds, as in twemproxy, returned as seconds."""
    return MILLISECONDS(value) / 1000


def number_of_workers(value: str) -> int | str:
    """1 to 64, or "auto"."""
    return value if value == "auto" else WORKERS(value)


def size(value: str) -> int:
    """Bytes, with k or m for KiB or MiB, as memcached -I."""
    match = re.fullmatch(r"([0-9]{1,10})([kKmM]?)", value)
    number = int(match[1]) << {"": 0, "k": 10, "m": 20}[match[2].lower()] if match else 0
    if not MIN_SIZE <= number <= MAX_SIZE:
        raise ValueError(f"{value!r} is not a size from 1k to 1024m")
    return number


class OneOf:
    """One of the words `choices`; "" among them: the setting may be unset."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def __call__(self, value: str) -> str:
        if value not in self.choices:
            named = list(filter(None, self.choices))
            raise ValueError(f"{value!r} is unknown{did_you_mean(value, named) or ':'} it must be one of {', '.join(named)}")
        return value


def servers(value: str) -> list[Server]:
    """host:port[:weight][ name], [v6]:port, unix:/path; several split by comma or semicolon."""
    return parse_servers(value)


def replica(value: str) -> list[Server]:
    """As `servers`: all the servers of one replica."""
    return parse_servers(value)


def zone_name(value: str) -> str:
    """One word, such as us-east-1a; "" for none."""
    if not re.fullmatch(r"[A-Za-z0-9_.:/-]{0,100}", value):
        raise ValueError(f"{value!r} is not the name of a zone: expected letters, digits and . _ - : / (at most 100)")
    return value


def credentials_file(value: str) -> credentials.Credentials | str:
    """The users and passwords in a file, or "" if no file is named."""
    return credentials.read_file(path(value)) if value else ""


def single_credentials_file(value: str) -> credentials.Credentials | str:
    """As `credentials_file`, for a file with exactly one user."""
    return credentials.read_single(path(value)) if value else ""


def octal_mode(value: str) -> str:
    """Permission bits of a file in octal, as for chmod, or "" for those that the umask leaves."""
    if not re.fullmatch(r"(0o?)?[0-7]{1,4}|", value):
        raise ValueError(f"{value!r} is not a file mode in octal, such as 0660")
    return value


def hash_tag(value: str) -> str:
    """Two characters, or "" for no hash tag."""
    if len(value) not in (0, 2):
        raise ValueError(f"{value!r} is not two characters, such as {{}}")
    return value


#: The host of an admin address that is only a port.
ADMIN_HOST = "127.0.0.1"


def admin_address(value: str) -> str:
    """address:port, [IPv6]:port, a port alone, or unix:/path; "" for none. Returned in the form of gmproxy.system.sockets."""
    if not value:
        return ""
    if value.startswith("unix:"):
        return path(value[len("unix:") :])
    host, _, port = value.rpartition(":")
    host = host.strip("[]") or ADMIN_HOST
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535 or re.search(r"\s", host) or is_bad_address(host):
        raise ValueError(f"{value!r} is not like 127.0.0.1:8211, [::1]:8211 or unix:/path")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen_hosts(value: str) -> str:
    """Addresses or host names separated by commas, with or without brackets; "" for all addresses."""
    for host in filter(None, (host.strip() for host in value.split(","))):
        if is_bad_address(host.strip("[]")):
            raise ValueError(f"{host!r} is not an address")
    return value


def host_names(value: str) -> str:
    """Host names separated by commas; returned in lower case and without duplicates."""
    names = [name.strip().rstrip(".").lower() for name in value.split(",") if name.strip()]
    for name in names:
        if not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]{0,253})", name):
            raise ValueError(f"{name!r} is not a host name")
    return ",".join(dict.fromkeys(names))
