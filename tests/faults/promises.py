"""What the load may expect of a service, and what it may not yet: the same as docs/failures.md and docs/high-availability.md.

With one worker nothing is excused. With several, each worker has a journal and an opinion about the servers of its own, so until they are shared

  * a change that depends on the old value, and gat, may be made to a value that another worker has still to delete;
  * a server that one worker has restored, or of which it has not noticed that it was away, may be read while another one has changed its
    keys elsewhere: on the backup, or on another server of the ring;
  * the journal of a worker that is killed is lost.

Wrong values, answers to another request, refused changes that happened, requests that hang, and connections that end are never excused.
"""

from faults import tally

NOTHING = frozenset()


def excused(workers: int, elsewhere: bool, workers_die: bool, damages: bool) -> frozenset[str]:
    """The kinds of violation that do not fail a run of a service with so many `workers`.

    `elsewhere`: changes are made elsewhere while a server is away, on a backup or in the ring; `workers_die`: workers are killed;
    `damages`: a wire changes bytes of values, which only the checksum of a value shows, to whoever reads it.
    """
    kinds = {tally.DAMAGED} if damages else set()
    if workers > 1:
        kinds.add(tally.STALE_CHANGE)
        if elsewhere or workers_die:
            kinds.add(tally.STALE)
    return frozenset(kinds)
