"""How a pool replicates: what the routes of writes have in common."""

from typing import NamedTuple


class ReplicaRules(NamedTuple):
    """How a pool replicates.

    acks              how many servers must have made a write before the client receives the reply
    waits_for_all     True if the client waits for all of them, whatever their result is (backup_writes = sync)
    several_proxies   True if other proxies may fill the servers (the setting proxies)
    repeats           True if a conditional write on which the primary failed is sent to the next server, although the primary may have made it
    deletes_marked    True if the copies delete a key that a client marks as stale: only one server may hand out the token with which it is renewed
    """

    acks: int = 1
    waits_for_all: bool = False
    several_proxies: bool = False
    repeats: bool = True
    deletes_marked: bool = False
