"""What one process has of the service, where several workers serve it together."""

import mmap

from gmproxy.errors import StartError

#: Pools in one service; each has a place on the board.
MAX_POOLS = 4096

SIZE = 4  # bytes of a number on the board


class Share:
    """
    number       of this worker, from 0
    workers      how many there are
    started_at   when the service was started (monotonic seconds)
    board        where the workers note how many clients they have, or None for a single process
    ask          ask(command, arguments, then): put a question to all workers; None for a single process
    report       report(): what this worker has counted and measured (gmproxy.report)
    room         clients for whom the service may open descriptors
    """

    def __init__(self, number=0, workers=1, started_at=0.0, board=None):
        self.number = number
        self.workers = workers
        self.started_at = started_at
        self.board = board
        self.ask = None
        self.report = None
        self.room = 0

    def part_of(self, total):
        """This worker's part of `total`, at least 1."""
        return max(total // self.workers + (self.number < total % self.workers), 1)


class Board:
    """The number of clients of each pool in each worker, in memory that they share from the fork on.

    Everybody writes only in the own column, so no lock is needed. Two workers that look at the same time may both let in the last
    client: the service may have as many too many as there are workers, less one.
    """

    def __init__(self, workers):
        self.workers = workers
        self.slots = {}  # pool -> row
        self._counts = memoryview(mmap.mmap(-1, workers * MAX_POOLS * SIZE)).cast("I")

    def assign(self, names):
        """Give each pool of `names` a row, and take back those of others. Only the master does; workers get its `slots`.

        Raises StartError if there are too many.
        """
        if len(names) > MAX_POOLS:
            raise StartError(f"{len(names)} pools: at most {MAX_POOLS} can be served")
        kept = {name: slot for name, slot in self.slots.items() if name in names}
        free = iter(sorted(set(range(MAX_POOLS)) - set(kept.values())))
        self.slots = dict(kept)
        for name in names:
            if name not in kept:
                self.slots[name] = slot = next(free)
                for number in range(self.workers):
                    self._counts[slot * self.workers + number] = 0

    def note(self, number, name, clients):
        slot = self.slots.get(name)
        if slot is not None:  # else the pool was removed and its last clients leave
            self._counts[slot * self.workers + number] = clients

    def clients(self, name):
        """Of the pool `name`, in all workers; 0 if it was removed."""
        slot = self.slots.get(name)
        return 0 if slot is None else sum(self._counts[slot * self.workers:(slot + 1) * self.workers])

    def is_ahead(self, number):
        """True if the worker `number` has more clients than the average, by more than one."""
        mine = everybody = 0
        for slot in self.slots.values():
            row = self._counts[slot * self.workers:(slot + 1) * self.workers]
            mine += row[number]
            everybody += sum(row)
        return (mine - 1) * self.workers > everybody

    def wipe(self, number):
        """The worker `number` is gone, and its clients with it."""
        for slot in self.slots.values():
            self._counts[slot * self.workers + number] = 0
