"""What a service guarantees to the load, and what it does not guarantee yet: the same as docs/failures.md and docs/high-availability.md.

With one worker nothing is excused. With several workers, each has its own pending invalidations and its own state of the servers. Until they
are shared,

  * a write that depends on the previous value, and gat, may be executed on a value that another worker has still to delete;
  * a worker may read from a server that it has restored, or whose failure it has not noticed, while another worker has written keys of this
    server elsewhere: on the backup, or on a stand-in server of the ring;
  * the pending invalidations of a worker that is killed are lost.

Never excused: wrong values, replies to another request, refused writes that were executed, requests that hang, and connections that end.
"""

from faults import tally


def excused(workers: int, elsewhere: bool, workers_die: bool, damages: bool) -> frozenset[str]:
    """The kinds of violation that do not fail a run of a service with this number of `workers`.

    `elsewhere`: writes go elsewhere while a server is ejected, to a backup or to a stand-in server; `workers_die`: workers are killed;
    `damages`: the network changes bytes of values, which only the checksum of a value shows.
    """
    kinds = {tally.DAMAGED} if damages else set()
    if workers > 1:
        kinds.add(tally.STALE_CHANGE)
        if elsewhere or workers_die:
            kinds.add(tally.STALE)
    return frozenset(kinds)
