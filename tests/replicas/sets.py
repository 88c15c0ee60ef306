"""Three sets of one memcached each, of which some cannot be reached, and gmproxy."""

import re
from collections.abc import Sequence

from faults.stage import Stage
from support.talk import Talk, storage
from support.timing import eventually, milliseconds

from replicas.cells import BEFORE

REPLICAS = 2

#: Bits of a cas number in front of which its set is.
SET_OF_CAS = 56

#: No server is ejected: each request is tried. Or a server that is ejected is probed soon.
NEVER_EJECTED = ("--server-failure-limit", "1000000")
SOON_PROBED = ("--server-retry-timeout", milliseconds(2))

#: Keys that `owed` lists.
ALL_KEYS = "1000"


def wait_until_replied(talk: Talk) -> None:
    """Wait until gmproxy, to which `talk` is connected, waits for no reply of a server: all copies of writes have been made."""

    def have_replied():
        lines = [line.split() for line in talk.ask(b"stats backends\r\n", b"END\r\n").splitlines()]
        waiting = [line[2] for line in lines if len(line) == 3 and line[1].endswith(b":in_flight")]
        assert len(waiting) == 1 + REPLICAS
        return set(waiting) == {b"0"}

    eventually(have_replied, what="all servers have replied")


class Sets:
    """Three sets, behind relays. `options` are those of gmproxy.

    ejects   a set that cannot be reached is ejected; else gmproxy tries to reach it at each request
    down     the sets that refuse connections: their memory stays as it is, and can be read and written directly
    """

    def __init__(self, *options, ejects: bool = False, workers: int = 1) -> None:
        self.stage = Stage(1, 0, True, (*(SOON_PROBED if ejects else NEVER_EJECTED), *options), workers=workers, replicas=REPLICAS)
        self.proxy = self.stage.proxy
        self.nodes = self.stage.nodes
        self.down: list[int] = []
        self._talks = [node.server.talk() for node in self.nodes]
        self.client = self.proxy.talk()

    def __enter__(self) -> "Sets":
        return self

    def __exit__(self, *failure) -> None:
        for talk in (*self._talks, self.client):
            talk.close()
        with self.stage:
            self.proxy.check_log()

    @property
    def up(self) -> list[int]:
        return [index for index in range(len(self.nodes)) if index not in self.down]

    @property
    def acting_main(self) -> int | None:
        """The first set that can be reached."""
        return next(iter(self.up), None)

    def refuse(self, down: Sequence[int], ejected: bool = False) -> None:
        """These sets can no longer be reached. If `ejected`, return when gmproxy has ejected them."""
        self.down = sorted({*self.down, *down})
        for index in down:
            relay = self.nodes[index].relay
            relay.refuse()
            eventually(lambda: relay.connections == 0, what=f"set {index} has received nothing that it may still execute")  # noqa: B023
        if ejected:

            def are_ejected():
                self.ask(b"get none\r\ntouch none 0\r\n")
                return self.proxy.stats()["backends_ejected"] == len(self.down)

            eventually(are_ejected, what=f"the sets {self.down} are ejected")

    def pass_on(self) -> None:
        """All sets can be reached again. Returns when what they missed was deleted there."""
        for index in self.down:
            self.nodes[index].relay.pass_on()
        self.down = []

        def are_whole():
            stats = self.proxy.stats()
            return stats["backends_ejected"] == stats["backends_behind"] == 0

        eventually(are_whole, what="no server is ejected, and none has pending invalidations")

    # -- through gmproxy

    def ask(self, request: bytes) -> bytes:
        """Everything that gmproxy replies."""
        return self.client.ask(request + b"mn\r\n", b"MN\r\n")[: -len(b"MN\r\n")]

    def cas_of(self, key: bytes) -> int:
        """The cas number of `key` in the reply of gmproxy."""
        return int(self.ask(b"gets %b\r\n" % key).split()[4])

    # -- the servers themselves

    def put(self, index: int, key: bytes, data: bytes | None = BEFORE, life: int = 0) -> None:
        """Store an item in set `index`, or without `data` delete it there."""
        if data is None:
            self._talks[index].ask(b"delete %b\r\n" % key)
        else:
            self._talks[index].expect(storage(b"set", key, data, exptime=life), b"STORED\r\n")

    def held(self, index: int, key: bytes) -> bytes | None:
        """The value of `key` in set `index`."""
        found = self._talks[index].ask(b"get %b\r\n" % key, b"END\r\n")
        header, _, rest = found.partition(b"\r\n")
        return rest[: int(header.split()[3])] if rest else None

    def life(self, index: int, key: bytes) -> int:
        """The remaining life of `key` in set `index`, seconds; -1: unlimited."""
        return int(re.fullmatch(rb"HD t(-?\d+)\r\n", self._talks[index].ask(b"mg %b t\r\n" % key))[1])

    def reads(self) -> list[int]:
        """How often each server was read."""
        return [node.server.stats()["cmd_get"] for node in self.nodes]

    def owed(self, index: int) -> set[bytes]:
        """The pending invalidations of set `index`."""
        (server,) = self.stage.service.order("owed", self.nodes[index].address, "", ALL_KEYS)["servers"]
        return {key.encode() for key in server["sample"]}
