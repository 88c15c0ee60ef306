"""gmproxyctl eject, restore, drain, fills, journal, replica, log-level, reload. Each returns the exit status; raises ConfigError, ServiceError."""

import argparse
import os
import signal
from collections.abc import Sequence
from typing import Any

from gmproxy.config.settings import LOG_LEVELS
from gmproxy.console import table, units
from gmproxy.console.command_parser import CommandParser, whole
from gmproxy.console.service_client import NoControlSocketError, NoServiceError, ServiceClient, ServiceError, print_json

#: The largest process ID (PID_MAX_LIMIT of Linux).
LARGEST_PID = 2**22


def eject_parser() -> CommandParser:
    return _servers_parser("eject", "Eject servers by hand: no requests and no probes are sent to them until they are restored.")


def eject(arguments: Sequence[str]) -> int:
    parsed = eject_parser().parse_args(arguments)
    response = ServiceClient.from_arguments(parsed).send_command("eject", *parsed.servers)
    return _print_result(parsed, response, f"ejected until restored: {', '.join(dict.fromkeys(response['ejected']))}")


def restore_parser() -> CommandParser:
    return _servers_parser("restore", "Probe ejected servers now, and restore each as soon as a probe succeeds.")


def restore(arguments: Sequence[str]) -> int:
    parsed = restore_parser().parse_args(arguments)
    response = ServiceClient.from_arguments(parsed).send_command("restore", *parsed.servers)
    restored = ", ".join(dict.fromkeys(response["restored"]))
    text = f"restored as soon as a probe succeeds: {restored}" if restored else f"not ejected: {', '.join(parsed.servers)}"
    return _print_result(parsed, response, text)


def drain_parser() -> CommandParser:
    return CommandParser(
        "drain", "Drain the service: accept no new clients, and close each client after its next reply. A reload accepts clients again."
    )


def drain(arguments: Sequence[str]) -> int:
    parsed = drain_parser().parse_args(arguments)
    response = ServiceClient.from_arguments(parsed).send_command("drain")
    return _print_result(parsed, response, f"draining: no new clients are accepted; {units.count(response['clients'], 'client')} connected")


def fills_parser() -> CommandParser:
    return _switch_parser(
        "fills",
        "Print whether servers are filled with items from other sets, such as backups, or switch that off or on. Misses are still looked up there.",
    )


def fills(arguments: Sequence[str]) -> int:
    return _switch("fills", fills_parser().parse_args(arguments))


def journal_parser() -> CommandParser:
    return _switch_parser(
        "journal",
        "Print the state of the journal in journal_dir, or switch it off or on. While it is off, nothing is written there, and "
        "after a restart servers with pending invalidations are flushed.",
    )


def journal(arguments: Sequence[str]) -> int:
    return _switch("journal", journal_parser().parse_args(arguments))


def _switch_parser(command: str, description: str) -> CommandParser:
    parser = CommandParser(command, f"{description} A reload keeps the state; after a restart or an upgrade it is on.")
    parser.add_argument("state", nargs="?", choices=("on", "off"), help="without it, the state is printed")
    return parser


def _switch(command: str, parsed: argparse.Namespace) -> int:
    response = ServiceClient.from_arguments(parsed).send_command(command, *filter(None, [parsed.state]))
    return _print_result(parsed, response, response[command])


def replica_parser() -> CommandParser:
    parser = CommandParser(
        "replica",
        "Print whether the replica sets are used, or switch one off or on. A set that is off is sent nothing; when it is on again, its servers "
        "are flushed before they are read. A reload and an upgrade keep the state; after a restart all are on.",
        has_pool=True,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of the replica set")
    parser.add_argument("state", nargs="?", choices=("on", "off"), help="without it, the state is printed")
    return parser


def replica(arguments: Sequence[str]) -> int:
    parsed = replica_parser().parse_args(arguments)
    words = list(filter(None, [parsed.name, parsed.state, parsed.state and parsed.pool]))
    response = ServiceClient.from_arguments(parsed).send_command("replica", *words)
    shown = [one for one in response["replicas"] if parsed.pool in (None, one["pool"])]
    lines = [f"{one['replica']} (pool {one['pool']}{_in_zone(one)}): {one['state']}: {', '.join(one['servers'])}" for one in shown]
    return _print_result(parsed, {"replicas": shown}, "\n".join(map(table.plain, lines)))


def _in_zone(replica: dict[str, Any]) -> str:
    return f", zone {replica['zone']}" if replica["zone"] else ""


def log_level_parser() -> CommandParser:
    parser = CommandParser("log-level", "Print the log level, or set it until the log is opened again: at a reload, SIGUSR1 or a start.")
    parser.add_argument("level", nargs="?", choices=LOG_LEVELS, help="log lines of this level and above")
    return parser


def log_level(arguments: Sequence[str]) -> int:
    parsed = log_level_parser().parse_args(arguments)
    response = ServiceClient.from_arguments(parsed).send_command("log-level", *filter(None, [parsed.level]))
    return _print_result(parsed, response, response["level"])


def reload_parser() -> CommandParser:
    parser = CommandParser("reload", "Reload the configuration, as SIGHUP does, and print what changed.")
    parser.add_argument(
        "--pid", type=whole(1, LARGEST_PID), metavar="PID", help="process ID: if there is no control socket, send SIGHUP to this process"
    )
    return parser


def reload(arguments: Sequence[str]) -> int:
    parsed = reload_parser().parse_args(arguments)
    try:
        response = ServiceClient.from_arguments(parsed).send_command("reload")
    except (NoControlSocketError, NoServiceError) as error:
        if parsed.pid is None:
            raise
        return _reload_by_signal(parsed.pid, str(error))
    lines = ["reloaded", *(f"{word}: {', '.join(response[word])}" for word in ("added", "removed") if response[word])]
    lines += [f"changed{f' in {pool}' if pool else ''}: {', '.join(names)}" for pool, names in response["changed"].items()]
    if response["needs_restart"]:
        lines.append(f"needs a restart: {', '.join(response['needs_restart'])}")
    return _print_result(parsed, response, "\n".join(lines) if len(lines) > 1 else "reloaded: no changes")


def _reload_by_signal(pid: int, why: str) -> int:
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise ServiceError(f"cannot send SIGHUP to {pid}: {error.strerror}") from None
    print(f"sent SIGHUP to {pid}; see the log for the result ({why})")
    return 0


def _servers_parser(command: str, description: str) -> CommandParser:
    parser = CommandParser(command, description)
    parser.add_argument("servers", nargs="+", metavar="SERVER", help="address or name, as gmproxyctl servers prints it")
    return parser


def _print_result(parsed: argparse.Namespace, response: dict[str, Any], text: str) -> int:
    if parsed.json:
        print_json(response)
    else:
        print(text)
    return 0
