"""What gmproxyctl has the service do. Each function returns the exit status, and raises ConfigError, ServiceError."""

import argparse
from collections.abc import Sequence
from typing import Any

from gmproxy.console import units
from gmproxy.console.service_client import CommandParser, ServiceClient, print_json

LEVELS = ("debug", "info", "warning", "error")


def eject(arguments: Sequence[str]) -> int:
    parsed = _parse_servers("eject", arguments)
    response = ServiceClient.from_arguments(parsed).send_command("eject", *parsed.servers)
    return _print_result(parsed, response, f"ejected until restored: {', '.join(dict.fromkeys(response['ejected']))}")


def restore(arguments: Sequence[str]) -> int:
    parsed = _parse_servers("restore", arguments)
    response = ServiceClient.from_arguments(parsed).send_command("restore", *parsed.servers)
    restored = ", ".join(dict.fromkeys(response["restored"]))
    return _print_result(parsed, response, f"used again as soon as it answers a probe: {restored}" if restored else "was not ejected")


def drain(arguments: Sequence[str]) -> int:
    parsed = CommandParser("drain").parse_args(arguments)
    response = ServiceClient.from_arguments(parsed).send_command("drain")
    return _print_result(parsed, response, f"nobody new is accepted; {units.count(response['clients'], 'client')} to leave")


def log_level(arguments: Sequence[str]) -> int:
    parser = CommandParser("log-level")
    parser.add_argument("level", nargs="?", choices=LEVELS)
    parsed = parser.parse_args(arguments)
    response = ServiceClient.from_arguments(parsed).send_command("log-level", *filter(None, [parsed.level]))
    return _print_result(parsed, response, response["level"])


def reload(arguments: Sequence[str]) -> int:
    parsed = CommandParser("reload").parse_args(arguments)
    response = ServiceClient.from_arguments(parsed).send_command("reload")
    lines = ["reloaded", *(f"{word}: {', '.join(response[word])}" for word in ("added", "removed") if response[word])]
    lines += [f"changed{f' in {pool}' if pool else ''}: {', '.join(names)}" for pool, names in response["changed"].items()]
    if response["needs_restart"]:
        lines.append(f"not before a restart: {', '.join(response['needs_restart'])}")
    return _print_result(parsed, response, "\n".join(lines))


def _parse_servers(command: str, arguments: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(command)
    parser.add_argument("servers", nargs="+", metavar="SERVER")
    return parser.parse_args(arguments)


def _print_result(parsed: argparse.Namespace, response: dict[str, Any], text: str) -> int:
    if parsed.json:
        print_json(response)
    else:
        print(text)
    return 0
