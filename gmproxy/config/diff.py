"""Compares the configurations before and after a reload. Has no effects itself."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from gmproxy.config.configuration import Config
from gmproxy.config.settings import SETTINGS
from gmproxy.placement.server_spec import Server

#: Settings that take effect only when the process starts.
NEEDS_RESTART = ("user", "group", "foreground", "daemon", "pid_file", "journal_dir", "workers", "control")


class ReloadPlan(NamedTuple):
    """The changes of a reload.

    configs   the Configs to serve: the new ones, with the old values of the settings in `refused`
    added     names of new pools; `removed`: names of pools that are no longer configured
    changed   {name of a pool that stays: names of its settings that differ}
    refused   names of changed settings that need a restart
    """

    configs: list[Config]
    added: list[str]
    removed: list[str]
    changed: dict[str, list[str]]
    refused: list[str]


class HasLabel(Protocol):
    """Has the address of a server."""

    label: str


Labelled = TypeVar("Labelled", bound=HasLabel)


def compare(old: Sequence[Config], new: Sequence[Config]) -> ReloadPlan:
    """The ReloadPlan from the Configs `old` to `new`. Pools are identified by their names. Master, or the worker of a service with one process."""
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
    """(for each of `servers` the backend with its address, or None; the backends that are left). Weight and name are not compared: they only
    change the placement of keys."""
    left = list(backends)
    matched: list[Labelled | None] = []
    for server in servers:
        same = next((backend for backend in left if backend.label == server.label), None)
        if same is not None:
            left.remove(same)
        matched.append(same)
    return matched, left
