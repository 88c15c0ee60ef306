"""The settings table: the command line, the configuration file, the environment, docs/options.md, the manual pages and the sample
configuration are made from it. After a change, run `make generated`."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from gmproxy.config.values import (
    MILLISECONDS,
    WORKERS,
    OneOf,
    Parse,
    Whole,
    admin_address,
    credentials_file,
    hash_tag,
    host_names,
    listen_hosts,
    milliseconds,
    number_of_workers,
    octal_mode,
    path,
    replica,
    servers,
    single_credentials_file,
    size,
    text,
    yes_or_no,
    zone_name,
)
from gmproxy.placement.builder import DISTRIBUTIONS
from gmproxy.placement.builder import SETTINGS as PLACEMENT
from gmproxy.placement.hashes import HASHES
from gmproxy.placement.labels import LABELS
from gmproxy.placement.profiles import PROFILES
from gmproxy.placement.server_spec import Server
from gmproxy.protocol.limits import DEFAULT_MAX_ITEM_SIZE

#: The log levels, from the one that logs most.
LOG_LEVELS = ("debug", "info", "warning", "error")


class Setting(NamedTuple):
    """
    name          as in the configuration file. The long option has dashes instead of underscores, the environment variable is GMPROXY_NAME
    flag          the short option, or ""
    parse         text -> value; raises ValueError
    default       as it is written in the configuration file
    metavar       the placeholder for the value in the help; "" for a switch, which takes no value on the command line
    common        True if `gmproxy --help` shows the option; `--help-all` shows all options
    description   what the setting does, without a capital letter and a full stop
    group         the heading under which it is listed. Settings under "Process" apply to the whole process, all others to a pool
    """

    name: str
    flag: str
    parse: Parse
    default: str
    metavar: str
    common: bool
    description: str
    group: str


COMMON, RARE = True, False

# fmt: off
_TABLE: dict[str, tuple[tuple[str, str, Parse, str, str, bool, str], ...]] = {
    "Servers": (
        ("server", "-s", servers, "", "HOST:PORT", COMMON,
         "memcached server: host:port[:weight][ name], [IPv6]:port or unix:/path; can be repeated, or a list separated by commas"),
        ("backup", "-b", servers, "", "HOST:PORT", COMMON,
         "backup server: receives a copy of every write, and is used when a server is down or has lost its items; can be repeated: each key"
         " then has one of them as its backup"),
    ),
    "Listening": (
        ("listen", "-l", listen_hosts, "0.0.0.0", "ADDRESS", COMMON,
         "address or host name to listen on; several separated by commas"),
        ("port", "-p", Whole(0, 65535), "11211", "PORT", COMMON, "TCP port to listen on; 0: no TCP"),
        ("unix_socket", "-f", path, "", "PATH", COMMON, "unix socket to listen on, in addition to the TCP port"),
        ("unix_mode", "", octal_mode, "", "MODE", RARE,
         "permission bits of the unix socket, in octal; if unset, the umask determines them"),
        ("max_connections", "-n", Whole(0, 1_000_000), "4096", "N", COMMON,
         "maximum number of client connections, unless the open files limit allows fewer; 0: as many as that limit allows"),
        ("backlog", "", Whole(1, 65535), "1024", "N", RARE,
         "length of the queue of connections that wait to be accepted, as memcached -b; the kernel limits it to net.core.somaxconn"),
    ),
    "Key placement": (
        ("ketama", "-k", yes_or_no, "no", "", COMMON,
         "place keys by ketama; magent 0.6 -k has a bug and places nearly all keys on one server: to keep them there, use distribution"
         " magent-ketama-0.6 instead"),
        ("distribution", "", OneOf("", *DISTRIBUTIONS), "", "NAME", COMMON,
         "how keys are distributed over the servers: ketama, modula, random ...; if unset, magent (hash modulo number of servers)"),
        ("hash", "", OneOf("", *HASHES), "", "NAME", COMMON,
         "hash function of the keys, such as md5 or fnv1a_64; if unset, that of the distribution"),
        ("hash_tag", "", hash_tag, "", "XY", RARE,
         "two characters, such as {}: of a key that contains both, only the part between them is hashed"),
        ("profile", "", OneOf("", *PROFILES), "", "NAME", COMMON,
         "place keys as this client library or proxy does; gmproxy --list-profiles lists the names"),
        ("unhashed_prefix", "", text, "", "TEXT", RARE, PLACEMENT["unhashed_prefix"]),
        ("label", "", OneOf("", *LABELS), "", "NAME", RARE, PLACEMENT["label"]),
        ("points", "", Whole(0, 100_000), "0", "N", RARE, PLACEMENT["points"]),
        ("point_hash", "", OneOf("", *HASHES), "", "NAME", RARE, PLACEMENT["point_hash"]),
        ("server_order", "", OneOf("", "given", "name", "host"), "", "HOW", RARE, PLACEMENT["server_order"]),
        ("hosts", "", text, "", "NAME=ADDRESS", RARE, PLACEMENT["hosts"]),
    ),
    "Connections to servers": (
        ("server_connections", "-i", Whole(1, 1024), "20", "N", RARE,
         "maximum number of connections to each server, divided among the workers; each worker has at least one, with backups exactly one"),
        ("timeout", "", milliseconds, "1000", "MS", COMMON, "a request fails if the server does not reply within this time"),
        ("connect_timeout", "", milliseconds, "500", "MS", COMMON,
         "maximum time to connect to a server, name resolution included; a login may take the same time again; at most timeout"),
        ("server_failure_limit", "", Whole(1, 1_000_000), "3", "N", RARE,
         "number of consecutive failures after which a server is ejected: no requests are sent to it until a probe succeeds"),
        ("server_retry_timeout", "", milliseconds, "30000", "MS", RARE,
         "maximum interval between probes of an ejected server; it starts at 200 ms and doubles"),
        ("server_idle_timeout", "", milliseconds, "300000", "MS", RARE,
         "close a connection to a server that was not used for this time"),
        ("backend_protocol", "", OneOf("text", "binary"), "text", "NAME", RARE,
         "protocol used with the servers: text, or binary for servers that accept no other (memcached -S or -B binary)"),
        ("server_auth_file", "", single_credentials_file, "", "FILE", RARE,
         "file with one line USER:PASSWORD, used to log in to the servers (memcached -Y; binary protocol: -S); must not be readable by"
         " others"),
        ("tcpkeepalive", "", yes_or_no, "yes", "yes|no", RARE,
         "enable TCP keepalive on connections of clients and to servers, so that the kernel detects a peer that is gone"),
        ("preconnect", "", yes_or_no, "no", "", RARE, "connect to all servers at start-up instead of at the first request"),
    ),
    "Failures and backups": (
        ("auto_eject_hosts", "", yes_or_no, "no", "", COMMON,
         "while a server is ejected, distribute its keys over the other servers, as twemproxy does"),
        ("failover_ttl", "", Whole(0, 30 * 86400), "0", "S", RARE,
         "with auto_eject_hosts or a gutter, maximum lifetime of an item that is stored on another server while its own is ejected; 0: that set"
         " by the client"),
        ("backup_writes", "", OneOf("async", "sync", "off"), "async", "HOW", RARE,
         "when the backup receives writes: async (the client waits only for the primary), sync (it waits for both) or off (only if the"
         " primary fails)"),
        ("journal_size", "", Whole(0, 10_000_000), "100000", "N", RARE,
         "maximum number of keys to remember for a server that missed writes: they are deleted on it later; if there are more, it is "
         "flushed"),
        ("on_get_error", "", OneOf("miss", "error"), "miss", "WHAT", RARE,
         "reply to a read that fails: miss (not found) or error (SERVER_ERROR)"),
        ("on_miss", "", OneOf("warming", "always", "never"), "warming", "WHEN", RARE,
         "when a miss on the primary server is looked up on its backup: warming (while the primary is warming), always or never"),
        ("warming_time", "", Whole(1, 30 * 86400), "3600", "S", RARE,
         "a server is warming for this time after it was started or missed writes: its memory may lack keys that the backup has"),
        ("proxies", "", OneOf("one", "several"), "one", "HOW", RARE,
         "number of gmproxy services that write to the same servers: one (with any number of workers), or several: then a value that is copied"
         " from a backup to its primary is verified, and the backup receives a delete first; requires memcached 1.6"),
        ("refill_ttl", "", Whole(0, 30 * 86400), "3600", "S", RARE,
         "lifetime of an item copied from the backup to the primary, if the backup does not report how long the item lives (before"
         " memcached 1.6); 0: unlimited"),
    ),
    "Replicas": (
        ("replica", "", replica, "", "HOST:PORT,...", COMMON,
         "servers of a replica, a set with a copy of all items: it receives every write, and is read from when a server of -s is down; keys are"
         " placed as on the servers of -s; can be repeated: each time for one more replica"),
        ("write", "", OneOf("main", "majority", "all"), "main", "HOW", COMMON,
         "with replicas, which sets of servers must have replied to a write before the client receives the reply: main (the first that is up),"
         " majority or all; if too few succeed, the reply is SERVER_ERROR"),
        ("read", "", OneOf("first", "near", "spread"), "first", "HOW", COMMON,
         "with replicas, which set of servers a get is sent to: first (the servers of -s), near (a set in the zone of the proxy) or spread (each"
         " in turn); the next set if the server is down"),
        ("server_zone", "", zone_name, "", "NAME", RARE,
         "zone of the servers of the pool, for read = near; in nutcracker.yml the key is zone"),
    ),
    "Clients": (
        ("max_item_size", "-I", size, str(DEFAULT_MAX_ITEM_SIZE), "SIZE", RARE,
         "maximum size of a value that a client stores, as memcached -I"),
        ("client_write_timeout", "", milliseconds, "30000", "MS", RARE,
         "close the connection of a client that reads nothing of its replies for this time"),
        ("hibernate_after", "", Whole(0, 86400), "10", "S", RARE,
         "release the memory of a client that was idle for this time; its connection stays open; 0: disabled"),
        ("auth_file", "", credentials_file, "", "FILE", RARE,
         "file with lines USER:PASSWORD; clients must then log in: by SASL PLAIN in the binary protocol, as with memcached -Y in the text"
         " protocol; must not be readable by others"),
        ("slow_threshold", "", milliseconds, "100", "MS", RARE,
         "log requests that take a server at least this time, and show them in gmproxyctl slow; requests are measured only with admin, or"
         " after the first gmproxyctl command that needs it"),
        ("disable_flush_all", "-F", yes_or_no, "no", "", RARE, "refuse flush_all, as memcached -F"),
        ("disable_dumping", "-X", yes_or_no, "no", "", RARE,
         "refuse to list keys (lru_crawler metadump, mgdump, stats cachedump), as memcached -X"),
    ),
    "Process": (
        ("pools", "", path, "", "FILE", COMMON, "serve the memcached pools of this nutcracker.yml, as -c FILE.yml does"),
        ("redis_pools", "", OneOf("refuse", "skip"), "refuse", "HOW", RARE,
         "if nutcracker.yml has redis pools: refuse the file, or skip them and serve the other pools"),
        ("workers", "", number_of_workers, "1", "N", COMMON, "number of processes that serve clients; auto: one per CPU"),
        ("user", "-u", text, "", "USER", COMMON, "user name or number to run as; only root can change the user"),
        ("group", "-g", text, "", "GROUP", RARE, "group name or number to run as; only root can change the group; if unset, the group of the user"),
        ("foreground", "-D", yes_or_no, "no", "", RARE, "stay in the foreground: the default, except when magent is emulated"),
        ("daemon", "", yes_or_no, "no", "", COMMON, "run in the background"),
        ("pid_file", "", path, "", "PATH", COMMON, "file to write the process ID to"),
        ("log_file", "", path, "", "PATH", COMMON, "file to log to; if unset, stderr, or syslog when in the background"),
        ("journal_dir", "", path, "", "PATH", RARE,
         "directory in which the keys to delete on servers that missed writes (pending invalidations) are kept across restarts; if unset, a"
         " restart forgets them"),
        ("control", "", path, "", "PATH", COMMON,
         "unix socket for gmproxyctl; only root and the user and group of the service can connect; if unset, there is none"),
        ("admin", "", admin_address, "", "ADDRESS:PORT", COMMON,
         "address to serve metrics, health and the status page over HTTP; PORT alone: on 127.0.0.1; or unix:/path"),
        ("admin_host", "", host_names, "", "NAME", RARE,
         "host name by which HTTP requests may address the admin listener, besides addresses and localhost; several separated by commas"),
        ("stats_port", "", admin_address, "", "[ADDRESS:]PORT", RARE,
         "address to serve the counters as JSON, as twemproxy does on port 22222; PORT alone: on 127.0.0.1"),
        ("watch", "", yes_or_no, "no", "", RARE, "reload when a configuration file has changed; checked once a second"),
        ("zone", "", zone_name, "", "NAME", RARE, "zone in which gmproxy runs, for read = near, such as us-east-1a"),
        ("verbose", "-v", yes_or_no, "no", "", COMMON, "log more (level debug); if magent is emulated, also stay in the foreground"),
        ("log_level", "", OneOf("", *LOG_LEVELS), "", "LEVEL", RARE,
         "lowest level that is logged: debug, info, warning or error; if unset, info, or debug with verbose"),
        ("grace", "", milliseconds, "5000", "MS", RARE, "at shutdown, maximum time to wait for requests in progress"),
        ("compat", "", OneOf("gmproxy", "magent", "nutcracker"), "gmproxy", "PROGRAM", COMMON,
         "program to emulate: magent or nutcracker; see magent(8) and nutcracker(8)"),
    ),
}
# fmt: on

SETTINGS = {row[0]: Setting(*row, group) for group, rows in _TABLE.items() for row in rows}

GROUPS = tuple(_TABLE)

#: The settings of a pool; the others apply to the whole process.
POOL_SETTINGS = tuple(name for name, setting in SETTINGS.items() if setting.group != "Process")

#: Settings that are lists of servers: repeated options and lines add up.
LISTS = ("server", "backup")

#: Settings that are lists of sets of servers: each option or line is a set.
SETS = ("replica",)

#: Settings that can be repeated.
REPEATED = LISTS + SETS

#: Settings whose value is a gmproxy.config.credentials.Credentials, or "".
CREDENTIALS = ("auth_file", "server_auth_file")


def option_name(setting: Setting) -> str:
    """The long option of the command line."""
    return "--" + setting.name.replace("_", "-")


#: The units of values, by the placeholder.
UNITS = {"MS": "milliseconds", "S": "seconds", "SIZE": "bytes, or with k or m"}

#: More words than this are not listed by `accepted_values`.
MAX_CHOICES = 5

_ACCEPTED: dict[Parse, str] = {
    milliseconds: f"{MILLISECONDS.least} to {MILLISECONDS.most}",
    number_of_workers: f"{WORKERS.least} to {WORKERS.most}, or auto",
    size: "1k to 1024m",
    yes_or_no: "yes, no",
}


def accepted_values(setting: Setting) -> str:
    """The values that `setting` accepts, such as "1 to 64"; "" where its placeholder and its description say enough."""
    parse = setting.parse
    if isinstance(parse, Whole):
        return f"{parse.least} to {parse.most}"
    if isinstance(parse, OneOf):
        choices = list(filter(None, parse.choices))
        return ", ".join(choices) if len(choices) <= MAX_CHOICES else ""
    return _ACCEPTED.get(parse, "")


def render(setting: Setting, value: Any) -> str:
    """`value` as it is written in the configuration file."""
    if setting.parse is servers:
        return ", ".join(map(_render_server, value))
    if setting.name in SETS:
        return "; ".join(render_sets(value))
    if setting.parse is milliseconds:
        return str(round(value * 1000))
    if setting.parse is yes_or_no:
        return "yes" if value else "no"
    if setting.parse is admin_address and value.startswith("/"):
        return f"unix:{value}"
    return str(value)


def render_sets(sets: Iterable[Iterable[Server]]) -> list[str]:
    """The value of each line for a setting of SETS."""
    return [", ".join(map(_render_server, servers)) for servers in sets]


def _render_server(server: Server) -> str:
    weight = f":{server.weight}" if server.weight != 1 else ""
    name = f" {server.name}" if server.name else ""
    return f"{server.label}{weight}{name}"
