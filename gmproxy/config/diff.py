"""What a new configuration changes: pure comparison of two lists of Config. Nothing is done here."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from gmproxy.config.configuration import Config
from gmproxy.config.settings import SETTINGS
from gmproxy.placement.server_spec import Server

#: Settings that take effect at the start of the process only.
NEEDS_RESTART = ("user", "group", "foreground", "daemon", "pid_file", "workers", "control")


class ReloadPlan(NamedTuple):
    """
    configs   the Configs to serve from now on: the new ones, but with what needs a restart as it was
    added     names of new pools; `removed`: of those that are no longer there
    changed   {name of a pool that stays: names of its settings that differ}
    refused   names of settings whose change needs a restart: they stay as they were
    """

    configs: list[Config]
    added: list[str]
    removed: list[str]
    changed: dict[str, list[str]]
    refused: list[str]


class HasLabel(Protocol):
    """What has the address of a server."""

    label: str


Labelled = TypeVar("Labelled", bound=HasLabel)


def compare(old: Sequence[Config], new: Sequence[Config]) -> ReloadPlan:
    """The ReloadPlan that leads from the Configs `old` to `new`. A pool is the same if it has the same name."""
    first = old[0]
    refused = [name for name in NEEDS_RESTART if getattr(new[0], name) != getattr(first, name)]
    unchanged = {name: getattr(first, name) for name in NEEDS_RESTART}
    configs = [dataclasses.replace(config, **unchanged) for config in new]
    before = {config.name: config for config in old}
    after = {config.name: config for config in configs}
    return ReloadPlan(
        configs=configs,
        added=[name for name in after if name not in before],
        removed=[name for name in before if name not in after],
        changed={
            name: differing(before[name], config) for name, config in after.items() if name in before and differing(before[name], config)
        },
        refused=refused,
    )


def differing(one: Config, other: Config) -> list[str]:
    """Names of the settings in which two Configs differ."""
    return [name for name in SETTINGS if getattr(one, name) != getattr(other, name)]


def match_backends(backends: Iterable[Labelled], servers: Iterable[Server]) -> tuple[list[Labelled | None], list[Labelled]]:
    """(the backend, or None, that stays for each of `servers`; the backends that have none). A server is the same if its address is: its
    weight and name concern the ring only."""
    left = list(backends)
    matched: list[Labelled | None] = []
    for server in servers:
        same = next((backend for backend in left if backend.label == server.label), None)
        if same is not None:
            left.remove(same)
        matched.append(same)
    return matched, left
