"""The sets of servers of a pool: each is a full copy of its data.

The first is the main set, with the primaries. A pool with a backup has one more, a pool with replicas one for each. A key has one server in each set:
the *servers of the key*, in the order of the sets.
"""

from gmproxy.backend.backend import Backend
from gmproxy.placement.locators import Locator

#: The name of the main set.
MAIN = "main"


class ServerSet:
    """
    index      0 for the main set
    name       for operators: "main", "backup", or the name of the replica
    zone       where its servers are; "" if that is not said
    backends   its servers
    locator    key -> index into `backends`
    enabled    False while an operator has switched it off: it is sent nothing
    """

    def __init__(self, index: int, name: str, zone: str, backends: "list[Backend]", locator: Locator) -> None:
        self.index = index
        self.name = name
        self.zone = zone
        self.backends = backends
        self.locator = locator
        self.enabled = True

    def server_of(self, key: bytes) -> Backend:
        """Loop callback or greenlet."""
        return self.backends[self.locator.locate(key)]


class Copies:
    """The servers, besides its own, to which a write of a key is copied: one in each of `sets`, in their order. There may be no sets."""

    __slots__ = ("sets", "_locator", "_of_one_set")

    def __init__(self, sets: list[ServerSet]) -> None:
        self.sets = sets
        # With one set, as with a backup, the lists are made once.
        self._locator: Locator | None = sets[0].locator if len(sets) == 1 else None
        self._of_one_set = [[backend] for backend in sets[0].backends] if sets else []

    def of(self, key: bytes) -> list[Backend]:
        """The servers for `key`. The list must not be changed. Loop callback or greenlet; does not block."""
        if self._locator is not None:
            servers: list[Backend] = self._of_one_set[self._locator.locate(key)]
            return servers
        return [one.backends[one.locator.locate(key)] for one in self.sets]
