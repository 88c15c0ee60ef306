"""gmproxyctl verify: compares the items of primaries and backups. Returns the exit status, and raises ConfigError, ServiceError."""

from collections.abc import Sequence
from typing import Any

from gmproxy.console import table, units
from gmproxy.console.command_parser import CommandParser, seconds, whole
from gmproxy.console.service_client import ServiceClient, print_json
from gmproxy.monitoring.verify_command import LARGEST_SAMPLE, MOST_SECONDS, REPAIR, REPORT, SAMPLE, SECONDS


def verify_parser() -> CommandParser:
    parser = CommandParser(
        "verify",
        "Compare the items of primaries and backups. A key with different values is deleted on the backup. The exit status is 1 if "
        "there are such keys, or if not all servers could be compared.",
        has_pool=True,
    )
    parser.add_argument(
        "--sample",
        type=whole(0, LARGEST_SAMPLE),
        default=SAMPLE,
        metavar="N",
        help="compare at most N keys of each server, chosen at random; 0: all keys (default: %(default)d)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only report; delete nothing")
    parser.add_argument(
        "--timeout", type=seconds(1, MOST_SECONDS), default=SECONDS, metavar="S", help="stop after S seconds (default: %(default)g)"
    )
    return parser


def verify(arguments: Sequence[str]) -> int:
    parsed = verify_parser().parse_args(arguments)
    words = [str(parsed.sample), REPORT if parsed.dry_run else REPAIR, f"{parsed.timeout:g}", *filter(None, [parsed.pool])]
    response = ServiceClient.from_arguments(parsed).send_command("verify", *words, extra_time=parsed.timeout)
    pools = response["pools"]
    if parsed.json:
        print_json(response)
    else:
        for name, pool in pools.items():
            print("\n".join(_pool_lines(name, pool, parsed.dry_run)))
        if not response["complete"]:
            print(f"not complete: stopped after {parsed.timeout:g} s")
    is_well = response["complete"] and not any(pool["different"] or pool["skipped"] for pool in pools.values())
    return 0 if is_well else 1


def _pool_lines(name: str, pool: dict[str, Any], is_dry_run: bool) -> list[str]:
    done = "" if is_dry_run or not pool["different"] else f" ({pool['repaired']} deleted on the backup)"
    lines = [
        f"pool {name}: {units.count(pool['compared'], 'key')} compared: {pool['equal']} equal, {pool['different']} different{done}, "
        f"{pool['changed']} changed meanwhile",
        f"  only on the primary: {pool['only_on_primary']}, only on the backup: {pool['only_on_backup']}, pending invalidations: {pool['pending']}",
    ]
    lines += [f"  different: {key['key']} on {key['primary']} and {key['backup']}" for key in pool["keys"]]
    lines += [f"  not compared: {skipped['server']}: {skipped['reason']}" for skipped in pool["skipped"]]
    return [table.plain(line) for line in lines]
