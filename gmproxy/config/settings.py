"""Every setting, once: the command line, the configuration file, the environment, the documentation and the sample
configuration are all made from this table."""

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from gmproxy.config import credentials
from gmproxy.config.suggestions import did_you_mean
from gmproxy.placement.builder import DISTRIBUTIONS, HASHES, PROFILES
from gmproxy.placement.builder import SETTINGS as PLACEMENT
from gmproxy.placement.labels import LABELS
from gmproxy.placement.server_spec import Server, is_bad_address, parse_servers
from gmproxy.protocol.limits import DEFAULT_MAX_ITEM_SIZE

# -- types of values: text -> value. All of them raise ValueError with what was expected


def text(value: str) -> str:
    """Any text."""
    return value


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed
        return "/"


#: The directory in which the command was typed. The process may change its own, and read the same names again at a reload.
TYPED_IN = _working_directory()


def path(value: str) -> str:
    """A file, relative to the directory in which the command was typed."""
    return os.path.normpath(os.path.join(TYPED_IN, value)) if value else ""


def yes_or_no(value: str) -> bool:
    """yes, true, on, 1; or no, false, off, 0."""
    if value.lower() in ("yes", "true", "on", "1"):
        return True
    if value.lower() in ("no", "false", "off", "0"):
        return False
    raise ValueError(f"{value!r} is neither yes nor no")


def whole(least: int, most: int) -> Callable[[str], int]:
    """Any whole number from `least` to `most`."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", value) or not least <= int(value) <= most:
            raise ValueError(f"{value!r} is not a whole number from {least} to {most}")
        return int(value)

    return parse


def milliseconds(value: str) -> float:
    """Written in milliseconds, as twemproxy does; kept in seconds."""
    return whole(1, 86_400_000)(value) / 1000


def number_of_workers(value: str) -> int | str:
    """1 to 64, or "auto"."""
    return value if value == "auto" else whole(1, 64)(value)


def size(value: str) -> int:
    """Bytes, with k or m for KiB or MiB, as memcached -I."""
    match = re.fullmatch(r"([0-9]{1,10})([kKmM]?)", value)
    number = int(match[1]) << {"": 0, "k": 10, "m": 20}[match[2].lower()] if match else 0
    if not 1024 <= number <= 1 << 30:
        raise ValueError(f"{value!r} is not a size from 1k to 1024m")
    return number


class OneOf:
    """One of the words `choices`; "" among them means that none is set."""

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


def credentials_file(value: str) -> credentials.Credentials | str:
    """The users.Users in a file, or "" for none."""
    return credentials.read_file(path(value)) if value else ""


def single_credentials_file(value: str) -> credentials.Credentials | str:
    """The same, of a file with one user."""
    return credentials.read_single(path(value)) if value else ""


def octal_mode(value: str) -> str:
    """File permissions as in chmod, octal."""
    if not re.fullmatch(r"(0o?)?[0-7]{1,4}|", value):
        raise ValueError(f"{value!r} are no permissions such as 0660")
    return value


def hash_tag(value: str) -> str:
    """Two characters, or none."""
    if len(value) not in (0, 2):
        raise ValueError(f"{value!r} is not two characters, such as {{}}")
    return value


#: The host of an admin address that is a port only.
ADMIN_HOST = "127.0.0.1"


def admin_address(value: str) -> str:
    """address:port, [v6]:port, a port alone, or unix:/path: kept as gmproxy.system.sockets writes an address; "" for none."""
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
    """Addresses or host names with commas, each perhaps in brackets; "" for all addresses."""
    for host in filter(None, (host.strip() for host in value.split(","))):
        if is_bad_address(host.strip("[]")):
            raise ValueError(f"{host!r} is not an address")
    return value


def host_names(value: str) -> str:
    """Host names with commas: in lower case, each once. Raises ValueError."""
    names = [name.strip().rstrip(".").lower() for name in value.split(",") if name.strip()]
    for name in names:
        if not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]{0,253})", name):
            raise ValueError(f"{name!r} is not a host name")
    return ",".join(dict.fromkeys(names))


Parse = Callable[[str], Any]

#: The log levels, from the one that logs most.
LOG_LEVELS = ("debug", "info", "warning", "error")


class Setting(NamedTuple):
    """
    name      as in the configuration file; with dashes the long option, with GMPROXY_ and in capitals the environment variable
    flag      the short option, or ""
    parse     text -> value. Raises ValueError
    default   as it would be written
    metavar   what stands for the value in the help; "" for a setting that is switched on by its mere name
    sentence  what it does
    group     the heading it stands under; what stands under "Process" holds for the process, all else for a pool
    """

    name: str
    flag: str
    parse: Parse
    default: str
    metavar: str
    sentence: str
    group: str


# fmt: off
_TABLE: dict[str, tuple[tuple[str, str, Parse, str, str, str], ...]] = {
    "Servers": (
        ("server", "-s", servers, "", "HOST:PORT",
         "memcached server: host:port[:weight][ name], [v6]:port or unix:/path; may be repeated, or a list with commas"),
        ("backup", "-b", servers, "", "HOST:PORT",
         "backup server: hears of every change and answers for a primary that is down or came back empty; may be repeated"),
    ),
    "Where clients connect": (
        ("listen", "-l", listen_hosts, "0.0.0.0", "ADDRESS", "address to listen on; several with commas"),
        ("port", "-p", whole(0, 65535), "11211", "PORT", "TCP port to listen on; 0: no TCP"),
        ("unix_socket", "-f", path, "", "PATH", "unix socket to listen on"),
        ("unix_mode", "", octal_mode, "", "MODE", "permissions of the unix socket, octal"),
        ("max_connections", "-n", whole(0, 1_000_000), "4096", "N",
         "clients at the same time, at most as many as open files allow beside connections to servers; 0: that many"),
        ("backlog", "", whole(1, 65535), "1024", "N", "connections that may wait to be accepted"),
    ),
    "Which server has a key": (
        ("ketama", "-k", yes_or_no, "no", "", "place keys as magent -k was meant to: ketama with the whole hash"),
        ("distribution", "", OneOf("", *DISTRIBUTIONS), "", "NAME", "how servers share the keys; magent's modulo if nothing is said"),
        ("hash", "", OneOf("", *HASHES), "", "NAME", "hash of the keys; if nothing is said, the one of the distribution"),
        ("hash_tag", "", hash_tag, "", "XY", "two characters, such as {}: only what stands between them is hashed"),
        ("profile", "", OneOf("", *PROFILES), "", "NAME", "place keys as this client library or proxy does (gmproxy --list-profiles)"),
        ("unhashed_prefix", "", text, "", "TEXT", PLACEMENT["unhashed_prefix"]),
        ("label", "", OneOf("", *LABELS), "", "NAME", PLACEMENT["label"]),
        ("points", "", whole(0, 100_000), "0", "N", PLACEMENT["points"]),
        ("point_hash", "", OneOf("", *HASHES), "", "NAME", PLACEMENT["point_hash"]),
        ("server_order", "", OneOf("", "given", "name", "host"), "", "HOW", PLACEMENT["server_order"]),
        ("hosts", "", text, "", "NAME=ADDRESS", PLACEMENT["hosts"]),
    ),
    "Links to the servers": (
        ("server_connections", "-i", whole(1, 1024), "20", "N",
         "connections to one server at most, in all workers together; each worker has at least one, and exactly one where there are backups"),
        ("timeout", "", milliseconds, "1000", "MS", "a server must answer within this time"),
        ("connect_timeout", "", milliseconds, "500", "MS",
         "a connection to a server must be made within this time, the lookup of its name included; a login may take as long again"),
        ("server_failure_limit", "", whole(1, 1_000_000), "3", "N",
         "failures in a row after which a server is left alone until a probe succeeds"),
        ("server_retry_timeout", "", milliseconds, "30000", "MS", "longest time between two probes of such a server"),
        ("server_idle_timeout", "", milliseconds, "300000", "MS", "a connection to a server that was not used for so long is closed"),
        ("backend_protocol", "", OneOf("text", "binary"), "text", "NAME",
         "what the servers are spoken to in: text; or binary, where they understand nothing else, as memcached -S"),
        ("server_auth_file", "", single_credentials_file, "", "FILE",
         "log in to servers with the USER:PASSWORD in this file, as to memcached -Y, or -S in binary; nobody else may read it"),
        ("tcpkeepalive", "", yes_or_no, "yes", "", "let the kernel find out that a silent server or client is gone"),
        ("preconnect", "", yes_or_no, "no", "", "connect to all servers at the start, not at the first request"),
    ),
    "Failures and backups": (
        ("auto_eject_hosts", "", yes_or_no, "no", "", "give the keys of a server that is left alone to the others, as twemproxy does"),
        ("failover_ttl", "", whole(0, 30 * 86400), "0", "S",
         "longest life of an item that another server takes for one that is left alone (auto_eject_hosts); 0: as the client said"),
        ("backup_writes", "", OneOf("async", "sync", "off"), "async", "HOW",
         "copy changes to the backup: async, sync (the client waits for both), or off (only while the server is down)"),
        ("journal_size", "", whole(0, 10_000_000), "100000", "N",
         "keys remembered for a server that missed changes, to delete them when it is back; if there are more, it is flushed"),
        ("on_get_error", "", OneOf("miss", "error"), "miss", "WHAT",
         "what a client gets for a key that no server could be asked for: miss or error"),
        ("on_miss", "", OneOf("warming", "always", "never"), "warming", "WHEN",
         "when a miss is looked up on the backup: while the server's memory is new or has holes (warming), always, or never"),
        ("warming_time", "", whole(1, 30 * 86400), "3600", "S", "seconds after its start, or its return, during which a server is warming"),
        ("refill_ttl", "", whole(0, 30 * 86400), "3600", "S",
         "life of an item that is copied back from a backup older than memcached 1.6, which does not tell; 0: for ever"),
    ),
    "Clients": (
        ("max_item_size", "-I", size, str(DEFAULT_MAX_ITEM_SIZE), "SIZE", "largest value that is taken from a client, as memcached -I"),
        ("client_write_timeout", "", milliseconds, "30000", "MS", "a client that takes nothing of its answers for so long is closed"),
        ("hibernate_after", "", whole(0, 86400), "10", "S",
         "a client that says nothing for so many seconds is kept with next to no memory until it speaks; 0: never"),
        ("auth_file", "", credentials_file, "", "FILE",
         "let in only who has a USER:PASSWORD of this file, by SASL PLAIN or as memcached -Y; not everybody may be able to read it"),
        ("slow_threshold", "", milliseconds, "100", "MS",
         "requests for which a server needs so long are logged and kept to be shown, while it is measured"),
        ("disable_flush_all", "-F", yes_or_no, "no", "", "refuse flush_all, as memcached -F"),
        ("disable_dumping", "-X", yes_or_no, "no", "", "refuse lru_crawler metadump, mgdump and stats cachedump, as memcached -X"),
    ),
    "Process": (
        ("pools", "", path, "", "FILE", "serve the memcached pools of this nutcracker.yml (-c FILE.yml does the same)"),
        ("redis_pools", "", OneOf("refuse", "skip"), "refuse", "HOW",
         "redis pools in that file: refuse the file, or skip them and serve the others"),
        ("workers", "", number_of_workers, "1", "N", "processes that serve clients; auto: one for each CPU"),
        ("user", "-u", text, "", "USER", "become this user, by name or number, when started as root"),
        ("group", "-g", text, "", "GROUP", "and this group; else the user's own"),
        ("foreground", "-D", yes_or_no, "no", "", "stay in the foreground (what gmproxy does anyway; magent does not)"),
        ("daemon", "", yes_or_no, "no", "", "go to the background"),
        ("pid_file", "", path, "", "PATH", "write the process number here"),
        ("log_file", "", path, "", "PATH", "write the log here; else to stderr, or in the background to syslog"),
        ("control", "", path, "", "PATH", "unix socket on which the service takes orders, such as reload, from its user and group"),
        ("admin", "", admin_address, "", "ADDRESS:PORT", "serve metrics, health and the status page over HTTP here; or unix:/path"),
        ("admin_host", "", host_names, "", "NAME",
         "answer at the admin address also to who asks for this host name, beside addresses and localhost; several with commas"),
        ("stats_port", "", admin_address, "", "[ADDRESS:]PORT",
         "serve the counters as JSON here, as twemproxy does on port 22222"),
        ("watch", "", yes_or_no, "no", "", "reload when the configuration file has changed"),
        ("verbose", "-v", yes_or_no, "no", "", "log more"),
        ("log_level", "", OneOf("", *LOG_LEVELS), "", "LEVEL",
         "log nothing below this level: debug, info, warning or error; if nothing is said, info, or debug with verbose"),
        ("grace", "", milliseconds, "5000", "MS", "at the end, wait for clients' requests in flight for so long"),
        ("compat", "", OneOf("gmproxy", "magent", "nutcracker"), "gmproxy", "PROGRAM",
         "program to emulate: magent goes to the background and answers stats and version in its own way; nutcracker has its own command "
         "line, stats port and signals"),
    ),
}
# fmt: on

SETTINGS = {row[0]: Setting(*row, group) for group, rows in _TABLE.items() for row in rows}

GROUPS = tuple(_TABLE)

#: What a pool of its own may set; the rest holds for the process.
POOL_SETTINGS = tuple(name for name, setting in SETTINGS.items() if setting.group != "Process")

#: Settings that take a list: repeated on the command line, they add up.
LISTS = ("server", "backup")

#: Settings that are users.Users, or "".
CREDENTIALS = ("auth_file", "server_auth_file")


def option_name(setting: Setting) -> str:
    """The long option of the command line."""
    return "--" + setting.name.replace("_", "-")


def render(setting: Setting, value: Any) -> str:
    """`value` as it would be written in the file."""
    if setting.parse is servers:
        return ", ".join(map(_render_server, value))
    if setting.parse is milliseconds:
        return str(round(value * 1000))
    if setting.parse is yes_or_no:
        return "yes" if value else "no"
    if setting.parse is admin_address and value.startswith("/"):
        return f"unix:{value}"
    return str(value)


def _render_server(server: Server) -> str:
    weight = f":{server.weight}" if server.weight != 1 else ""
    name = f" {server.name}" if server.name else ""
    return f"{server.label}{weight}{name}"
