"""gmproxyctl verify: compares primaries with backups or replicas. Returns the exit status, and raises ConfigError, ServiceError."""

from collections.abc import Sequence
from typing import Any

from gmproxy.console import table, units
from gmproxy.console.command_parser import CommandParser, seconds, whole
from gmproxy.console.service_client import ServiceClient, print_json
from gmproxy.monitoring.verify_command import LARGEST_SAMPLE, MOST_SECONDS, REPAIR, REPORT, SAMPLE, SECONDS
from gmproxy.shared.invalidation_marks import BACKUP


def verify_parser() -> CommandParser:
    parser = CommandParser(
        "verify",
        "Compare the items of primaries with those of backups, or of each replica set. A key with different values is deleted on the backup or "
        "replica. The exit status is 1 if there are such keys, or if not all servers could be compared.",
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
    lines = []
    for one in pool["sets"]:
        is_backup = one["role"] == BACKUP
        title, copy = (f"pool {name}", "backup") if is_backup else (f"pool {name}, replica {one['set']}", "replica")
        done = "" if is_dry_run or not one["different"] else f" ({one['repaired']} deleted on the {copy})"
        lines += [
            f"{title}: {units.count(one['compared'], 'key')} compared: {one['equal']} equal, {one['different']} different{done}, "
            f"{one['changed']} changed meanwhile",
            f"  only on the primary: {one['only_on_primary']}, only on the {copy}: {one['only_on_backup']}, "
            f"pending invalidations: {one['pending']}",
        ]
    lines += [f"  different: {key['key']} on {key['primary']} and {key['backup']}" for key in pool["keys"]]
    lines += [f"  not compared: {skipped['server']}: {skipped['reason']}" for skipped in pool["skipped"]]
    return [table.plain(line) for line in lines]
