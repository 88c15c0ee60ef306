"""What a new configuration changes: pure comparison of two lists of Config. Nothing is done here."""

import dataclasses
from collections import namedtuple

from gmproxy.config.settings import SETTINGS

#: What is decided when the process begins. The rest can change while it runs.
NEEDS_RESTART = ("user", "group", "foreground", "daemon", "pid_file", "workers", "control")

#: configs   the Configs to serve from now on: the new ones, but with what needs a restart as it was
#: added     names of pools that were not there; `removed`: that are there no more
#: changed   {name of a pool that stays: names of its settings that differ}
#: refused   names of settings that are different in vain, until a restart
Plan = namedtuple("Plan", "configs added removed changed refused")


def compare(old, new):
    """The Plan that leads from the Configs `old` to `new`. A pool is the same if it has the same name."""
    first = old[0]
    refused = [name for name in NEEDS_RESTART if getattr(new[0], name) != getattr(first, name)]
    kept = {name: getattr(first, name) for name in NEEDS_RESTART}
    configs = [dataclasses.replace(config, **kept) for config in new]
    before = {config.name: config for config in old}
    after = {config.name: config for config in configs}
    return Plan(
        configs=configs,
        added=[name for name in after if name not in before],
        removed=[name for name in before if name not in after],
        changed={name: differing(before[name], config) for name, config in after.items()
                 if name in before and differing(before[name], config)},
        refused=refused,
    )


def differing(one, other):
    """Names of the settings in which two Configs differ."""
    return [name for name in SETTINGS if getattr(one, name) != getattr(other, name)]


def match(backends, servers):
    """Which of `backends` (they have a `label`) goes on for which of `servers`: one backend or None for each of `servers`, and a list
    of the backends that are left. A server is the same if its address is; its weight and name are a matter of the ring."""
    left = list(backends)
    kept = []
    for server in servers:
        same = next((backend for backend in left if backend.label == server.label), None)
        if same is not None:
            left.remove(same)
        kept.append(same)
    return kept, left
