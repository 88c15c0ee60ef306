"""What operators have switched off in the whole service: kept for workers that start later."""

import logging
from collections.abc import Sequence

from gmproxy.monitoring.control_commands import OFF, ON, SWITCHES

log = logging.getLogger("gmproxy")


class Switches:
    """In the master, or in a single process. After a start all of control_commands.SWITCHES are on."""

    def __init__(self) -> None:
        self._off: set[str] = set()

    def follow_command(self, name: str, arguments: Sequence[str]) -> None:
        """The command `name` is about to be sent to the workers. It is remembered before that: a worker that becomes ready meanwhile gets it, too."""
        if name in SWITCHES and arguments and arguments[0] in (ON, OFF):
            log.warning("switched by hand name=%s state=%s", name, arguments[0])
            if arguments[0] == OFF:
                self._off.add(name)
            else:
                self._off.discard(name)

    def is_on(self, name: str) -> bool:
        return name not in self._off

    def commands(self) -> list[tuple[str, list[str]]]:
        """The commands, each with its arguments, that a new worker has to be sent."""
        return [(name, [OFF]) for name in SWITCHES if name in self._off]
