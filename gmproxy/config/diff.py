"""Compares the configurations before and after a reload. Has no effects itself."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from gmproxy.config.configuration import Config
from gmproxy.config.roles import GUTTER, REPLICAS
from gmproxy.config.settings import POOL_SETTINGS, SETTINGS
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
    configs = [_with_settings(config, unchanged) for config in new]
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
    """Names of the settings in which two Configs differ; with the roles for which they have different pools, or pools with different settings."""
    changed = [name for name in SETTINGS if getattr(one, name) != getattr(other, name)]
    if one.name:  # without a file of pools, the replicas follow from the settings
        changed += [REPLICAS] if list(map(_own_settings, one.replicas)) != list(map(_own_settings, other.replicas)) else []
        changed += [GUTTER] if _own_settings(one.gutter) != _own_settings(other.gutter) else []
    return changed


def _own_settings(config: Config | None) -> list[Any]:
    """The name and the settings of a pool with a role; without those of the process."""
    return [] if config is None else [config.name, *(getattr(config, name) for name in POOL_SETTINGS)]


def _with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """`config` with other values of settings of the process."""
    replicas = tuple(_with_settings(replica, settings) for replica in config.replicas)
    gutter = config.gutter and _with_settings(config.gutter, settings)
    return dataclasses.replace(config, **settings, replicas=replicas, gutter=gutter)


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
