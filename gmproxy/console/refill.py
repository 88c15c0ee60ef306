"""gmproxyctl refill: fills a server from the other sets, in the background. Returns the exit status, and raises ConfigError, ServiceError."""

import sys
from collections.abc import Sequence
from typing import Any

from gmproxy.console import table, units
from gmproxy.console.command_parser import CommandParser, whole
from gmproxy.console.service_client import ServiceClient, ServiceError, print_json
from gmproxy.errors import ConfigError
from gmproxy.monitoring.refill_command import MOST_RATE, RATE

HEADS = ("SERVER<", "ROLE<", "POOL<", "STATE<", "FOR<", "CHECKED", "PRESENT", "FILLED", "PENDING", "NOT FILLED", "FAILED")


def refill_parser() -> CommandParser:
    parser = CommandParser(
        "refill",
        "Fill a server with the keys that it lacks and that other sets have, in the background, or print the progress. Without that, a key is "
        "filled when a client reads it.",
        has_pool=True,
    )
    parser.add_argument("server", nargs="?", metavar="SERVER", help="address or name; without it, the progress is printed")
    parser.add_argument(
        "--rate", type=whole(1, MOST_RATE), default=RATE, metavar="N", help="fetch at most N keys per second (default: %(default)d)"
    )
    parser.add_argument("--stop", action="store_true", help="stop the refill of SERVER")
    return parser


def refill(arguments: Sequence[str]) -> int:
    parsed = refill_parser().parse_args(arguments)
    if parsed.stop and not parsed.server:
        raise ConfigError("--stop needs a SERVER: see gmproxyctl refill --help")
    client = ServiceClient.from_arguments(parsed)
    if parsed.stop:
        refills = client.send_command("refill-stop", parsed.server, parsed.pool or "")["refills"]
        lines = [f"stopped: {_described(one)}" for one in refills] or [f"not being refilled: {parsed.server}"]
    elif parsed.server:
        refills = client.send_command("refill-begin", parsed.server, str(parsed.rate), parsed.pool or "")["refills"]
        if not refills:
            raise ServiceError("worker 1, which refills the servers, does not reply: try again")
        lines = [f"refilling: {_described(one)}, at most {one['rate']} keys per second" for one in refills]
    else:
        refills = [one for one in client.send_command("refill")["refills"] if parsed.pool in (None, one["pool"])]
        lines = _progress(refills) if refills else ["no refills"]
    if parsed.json:
        print_json({"refills": refills})
    else:
        print("\n".join(lines))
    return 0


def _described(refill: dict[str, Any]) -> str:
    name = f"{refill['name']} ({refill['label']})" if refill["name"] else refill["label"]
    return table.plain(f"{name} ({refill['role']} of pool {refill['pool']})")


def _progress(refills: Sequence[dict[str, Any]]) -> list[str]:
    lines = table.format_table(HEADS, map(_row, refills), table.wants_colour(sys.stdout))
    for one in refills:
        if one["source"]:
            lines.append(f"  {one['label']}: reading the keys of {one['source']}")
        if one["reason"]:
            lines.append(f"  {one['label']}: {one['reason']}")
        lines += [f"  {one['label']}: {skipped['server']} was not read: {skipped['reason']}" for skipped in one["skipped"]]
    return [table.plain(line) if line.startswith("  ") else line for line in lines]


def _row(refill: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{refill['name']} ({refill['label']})" if refill["name"] else refill["label"],
        refill["role"],
        refill["pool"],
        refill["state"],
        units.age(refill["seconds"]),
        *(str(refill[name]) for name in ("checked", "present", "filled", "pending", "not_filled", "failed")),
    )
