"""gmproxyctl owed: the pending invalidations of the servers. Returns the exit status, and raises ConfigError, ServiceError."""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from gmproxy.console import table, units
from gmproxy.console.command_parser import CommandParser, whole
from gmproxy.console.confirmation import confirm
from gmproxy.console.service_client import ServiceClient, print_json
from gmproxy.errors import ConfigError

#: Keys that are printed of a server: default and maximum.
KEYS_SHOWN, MOST_SHOWN = 20, 1000

#: Seconds within which a server must be flushed, and between two questions whether it is.
FLUSH_TIMEOUT = 5.0
FLUSH_CHECK_INTERVAL = 0.1

HEADS = ("SERVER<", "ROLE<", "POOL<", "KEYS", "OLDEST", "STATUS<")

FLUSH_WARNING = "Its memory is empty afterwards: reads of all its keys are misses, or are looked up on the backup."
DROP_WARNING = "Stale values of these keys may be read there until they are written again or expire."


def owed_parser() -> CommandParser:
    parser = CommandParser(
        "owed",
        "Print the pending invalidations of the servers: keys of writes that a server missed. They are deleted there before they are read there.",
        has_pool=True,
    )
    parser.add_argument("server", nargs="?", metavar="SERVER", help="address or name: print the keys of this server, too")
    parser.add_argument(
        "--keys",
        type=whole(0, MOST_SHOWN),
        default=KEYS_SHOWN,
        metavar="N",
        help="print at most N keys of SERVER (default: %(default)d)",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--flush", action="store_true", help="send flush_all to SERVER instead of deleting the keys; its memory is empty then"
    )
    action.add_argument(
        "--drop", action="store_true", help="forget the pending invalidations of SERVER; stale values may be read there then"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    return parser


def owed(arguments: Sequence[str]) -> int:
    parsed = owed_parser().parse_args(arguments)
    if (parsed.flush or parsed.drop) and not parsed.server:
        raise ConfigError(f"{'--flush' if parsed.flush else '--drop'} needs a SERVER: see gmproxyctl owed --help")
    client = ServiceClient.from_arguments(parsed)
    servers = _fetch(client, parsed)
    if parsed.flush:
        return _flush(client, parsed, servers)
    if parsed.drop:
        return _drop(client, parsed, servers)
    if parsed.json:
        print_json(servers)
    elif servers:
        print("\n".join(table.format_table(HEADS, map(_row, servers), table.wants_colour(sys.stdout))))
        for server in servers:
            for key in server["sample"]:
                print(table.plain(f"  {key}"))
    else:
        print("no pending invalidations")
    return 0


def _fetch(client: ServiceClient, parsed: argparse.Namespace) -> list[dict[str, Any]]:
    """The servers that `parsed` selects. Raises ServiceError."""
    servers: list[dict[str, Any]] = client.send_command("owed", parsed.server or "", parsed.pool or "", str(parsed.keys))["servers"]
    for server in servers:
        server["sample"] = server["sample"][: parsed.keys]
    return servers


def _row(server: dict[str, Any]) -> tuple[str, ...]:
    has_some = server["keys"] or server["everything"]
    return (
        _name(server),
        server["role"],
        server["pool"],
        _count(server),
        units.age(server["age"]) if has_some else "",
        _status(server) if has_some else "",
    )


def _name(server: dict[str, Any]) -> str:
    return f"{server['name']} ({server['label']})" if server["name"] else server["label"]


def _count(server: dict[str, Any]) -> str:
    return "all" if server["everything"] else str(server["keys"])


def _status(server: dict[str, Any]) -> str:
    if server["switched_off"]:
        return "waiting: its set is switched off"
    if server["ejected"]:
        return f"waiting: the server is ejected{' by hand' if server['by_hand'] else ''}"
    return "flushing" if server["everything"] else "deleting"


def _described(servers: Sequence[dict[str, Any]]) -> str:
    return table.plain(", ".join(f"{_name(server)} ({server['role']} of pool {server['pool']})" for server in servers))


# -- the actions


def _flush(client: ServiceClient, parsed: argparse.Namespace, servers: Sequence[dict[str, Any]]) -> int:
    pending = behind = _behind(servers)
    if pending:
        confirm(f"Flush {_described(pending)}? {FLUSH_WARNING}", parsed.yes)
        client.send_command("owed-flush", parsed.server, parsed.pool or "")
        behind = _behind(_wait_for_flush(client, parsed))
    waiting = [server for server in behind if server["everything"]]
    if parsed.json:
        print_json({"flushed": not waiting, "servers": behind})
    elif waiting:
        print("\n".join(f"not flushed yet: {_described([server])}: {_status(server)}" for server in waiting))
        print("It is flushed before it is used again.")
    else:
        print(f"flushed: {_described(pending)}" if pending else f"no pending invalidations: {_described(servers)}")
    return 1 if waiting else 0


def _wait_for_flush(client: ServiceClient, parsed: argparse.Namespace) -> list[dict[str, Any]]:
    """The servers once they are flushed, or after FLUSH_TIMEOUT. Raises ServiceError."""
    deadline = time.monotonic() + FLUSH_TIMEOUT
    while True:
        servers = _fetch(client, parsed)
        if time.monotonic() >= deadline or not any(server["everything"] for server in servers):
            return servers
        time.sleep(FLUSH_CHECK_INTERVAL)


def _drop(client: ServiceClient, parsed: argparse.Namespace, servers: Sequence[dict[str, Any]]) -> int:
    dropped = _behind(servers)
    if dropped:
        confirm(f"Drop the pending invalidations of {_described(dropped)}? {DROP_WARNING}", parsed.yes)
        dropped = client.send_command("owed-drop", parsed.server, parsed.pool or "")["servers"]
    if parsed.json:
        print_json({"servers": dropped})
    elif dropped:
        print("\n".join(f"dropped: {_count(server)} keys of {_described([server])}" for server in dropped))
        print(DROP_WARNING)
    else:
        print(f"no pending invalidations: {_described(servers)}")
    return 0


def _behind(servers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [server for server in servers if server["keys"] or server["everything"]]
