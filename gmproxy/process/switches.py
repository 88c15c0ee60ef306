"""What operators have switched off in the whole service: kept for workers that start later."""

import logging
from collections.abc import Sequence
from typing import Any

from gmproxy.config.configuration import UNNAMED
from gmproxy.monitoring.control_commands import OFF, ON, REPLICA, SWITCHES

log = logging.getLogger("gmproxy")


class Switches:
    """In the master, or in a single process. After a start all of control_commands.SWITCHES are on. Replicas that are off stay so after an upgrade:
    `replicas_off` are the predecessor's, as `kept` has returned them there."""

    def __init__(self, replicas_off: Sequence[Sequence[str]] = ()) -> None:
        self._off: set[str] = set()
        self._replicas_off: dict[tuple[str, str], None] = dict.fromkeys((pool, replica) for pool, replica in replicas_off)

    def follow_command(self, name: str, arguments: Sequence[str], configs: Sequence[Any] = ()) -> None:
        """The command `name` is about to be sent to the workers. It is remembered before that: a worker that becomes ready meanwhile gets it, too.
        `configs`: the Config of each pool."""
        if name in SWITCHES and arguments and arguments[0] in (ON, OFF):
            log.warning("switched by hand name=%s state=%s", name, arguments[0])
            if arguments[0] == OFF:
                self._off.add(name)
            else:
                self._off.discard(name)
        elif name == REPLICA and len(arguments) > 1 and arguments[1] in (ON, OFF):
            self._follow_replica(arguments[0], arguments[1], arguments[2:], configs)

    def _follow_replica(self, replica: str, state: str, pools: Sequence[str], configs: Sequence[Any]) -> None:
        """Only what is configured is remembered; the workers return the error if it is not."""
        for config in configs:
            title = config.name or UNNAMED
            if replica in [one.name for one in config.replicas] and (not pools or pools[0] in (config.name, title)):
                log.warning("switched by hand name=%s state=%s pool=%s", replica, state, title)
                if state == OFF:
                    self._replicas_off[title, replica] = None
                else:
                    self._replicas_off.pop((title, replica), None)

    def is_on(self, name: str) -> bool:
        return name not in self._off

    def replicas_off(self) -> frozenset[tuple[str, str]]:
        """(title of the pool, name) of each replica that is off."""
        return frozenset(self._replicas_off)

    def kept(self) -> list[tuple[str, str]]:
        """What a successor keeps off, for JSON: `replicas_off`."""
        return list(self._replicas_off)

    def commands(self) -> list[tuple[str, list[str]]]:
        """The commands, each with its arguments, that a new worker has to be sent."""
        return [
            *((name, [OFF]) for name in SWITCHES if name in self._off),
            *((REPLICA, [replica, OFF, pool]) for pool, replica in self._replicas_off),
        ]
