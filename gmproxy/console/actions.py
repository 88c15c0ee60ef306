"""What gmproxyctl has the service do. Each function returns the exit status, and raises ConfigError, ServiceError."""

import argparse
import os
import signal
from collections.abc import Sequence
from typing import Any

from gmproxy.config.settings import LOG_LEVELS
from gmproxy.console import units
from gmproxy.console.command_parser import CommandParser, whole
from gmproxy.console.service_client import NoControlSocketError, NoServiceError, ServiceClient, ServiceError, print_json

#: The kernel gives no higher number to a process (PID_MAX_LIMIT).
LARGEST_PID = 2**22


def eject_parser() -> CommandParser:
    return _servers_parser("eject", "Send a server nothing, not even probes, until it is restored.")


def eject(arguments: Sequence[str]) -> int:
    parsed = eject_parser().parse_args(arguments)
    response = ServiceClient.from_arguments(parsed).send_command("eject", *parsed.servers)
    return _print_result(parsed, response, f"ejected until restored: {', '.join(dict.fromkeys(response['ejected']))}")


def restore_parser() -> CommandParser:
    return _servers_parser("restore", "Probe an ejected server now, and use it again as soon as it answers.")


def restore(arguments: Sequence[str]) -> int:
    parsed = restore_parser().parse_args(arguments)
    response = ServiceClient.from_arguments(parsed).send_command("restore", *parsed.servers)
    restored = ", ".join(dict.fromkeys(response["restored"]))
    text = f"used again as soon as it answers a probe: {restored}" if restored else f"was not ejected: {', '.join(parsed.servers)}"
    return _print_result(parsed, response, text)


def drain_parser() -> CommandParser:
    return CommandParser("drain", "Accept no more clients, and disconnect each after its next reply. A reload accepts clients again.")


def drain(arguments: Sequence[str]) -> int:
    parsed = drain_parser().parse_args(arguments)
    response = ServiceClient.from_arguments(parsed).send_command("drain")
    return _print_result(parsed, response, f"nobody new is accepted; {units.count(response['clients'], 'client')} to leave")


def log_level_parser() -> CommandParser:
    parser = CommandParser("log-level", "Print or set the level of the log, until it is opened anew: at a reload, SIGUSR1 or a start.")
    parser.add_argument("level", nargs="?", choices=LOG_LEVELS, help="log messages of this level and above")
    return parser


def log_level(arguments: Sequence[str]) -> int:
    parsed = log_level_parser().parse_args(arguments)
    response = ServiceClient.from_arguments(parsed).send_command("log-level", *filter(None, [parsed.level]))
    return _print_result(parsed, response, response["level"])


def reload_parser() -> CommandParser:
    parser = CommandParser("reload", "Read the configuration again, as on SIGHUP, and print what changed.")
    parser.add_argument("--pid", type=whole(1, LARGEST_PID), metavar="PID", help="without a control socket, send SIGHUP to this process")
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
        lines.append(f"not before a restart: {', '.join(response['needs_restart'])}")
    return _print_result(parsed, response, "\n".join(lines))


def _reload_by_signal(pid: int, why: str) -> int:
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise ServiceError(f"cannot send SIGHUP to {pid}: {error.strerror}") from None
    print(f"sent SIGHUP to {pid}; the log tells how the reload went ({why})")
    return 0


def _servers_parser(command: str, description: str) -> CommandParser:
    parser = CommandParser(command, description)
    parser.add_argument("servers", nargs="+", metavar="SERVER", help="address as status shows it, or name")
    return parser


def _print_result(parsed: argparse.Namespace, response: dict[str, Any], text: str) -> int:
    if parsed.json:
        print_json(response)
    else:
        print(text)
    return 0
