"""What one process has of the service, where several workers serve it together."""

import mmap

from gmproxy.backend.key_set import PARTS, part_of
from gmproxy.errors import StartError

#: Pools in one service; each has a place on the board.
MAX_POOLS = 4096

SIZE = 4  # bytes of a number of clients on the board
HELD_SIZE = 8  # bytes of a number of bytes there

#: A worker notes on the board what waits for its clients when that has changed by this many bytes: what the others know of it is at most
#: so much too low.
HELD_STEP = 1024 * 1024

#: Servers, in all pools and since the start, of which the workers warn each other.
MAX_SERVERS = 4096

#: What a worker owes a server (see Debts).
NOTHING, SOME, EVERYTHING = range(3)

_NO_PARTS = bytes(PARTS)


class WorkerContext:
    """
    number       of this worker, from 0
    workers      how many there are
    started_at   when the service was started (monotonic seconds)
    board        where the workers note how many clients they have, or None for a single process
    ask          ask(command, arguments, then): put a question to all workers; None for a single process
    report       report(): what this worker has counted and measured (gmproxy.monitoring.report)
    room         clients of all pools for whom this process may open descriptors
    clients      of all pools that this process has
    held         bytes that wait for them
    """

    def __init__(self, number=0, workers=1, started_at=0.0, board=None):
        self.number = number
        self.workers = workers
        self.started_at = started_at
        self.board = board
        self.ask = None
        self.report = None
        self.room = 0
        self.clients = 0
        self.held = 0
        self._noted = 0  # of `held`, on the board

    # -- what all clients share

    def is_full(self) -> bool:
        """True if there is no descriptor for another client in this process."""
        return self.clients >= self.room

    def is_nearly_full(self, more: int) -> bool:
        """True if there is no room for `more` clients."""
        return self.clients + more > self.room

    def others_have_room(self, more: int) -> bool:
        """True if another worker has room for `more` clients; all have as much room as we."""
        return any(
            self.board.clients_of(number) + more <= self.room for number in range(self.workers) if number != self.number
        )

    def hold(self, more: int) -> int:
        """`more` bytes wait for clients of this process, or fewer if it is negative. Returns how many wait in all workers. Never raises;
        called from sessions and from loop callbacks."""
        self.held += more
        if self.board is None:
            return self.held
        if abs(self.held - self._noted) >= HELD_STEP:
            self._noted = max(self.held, 0)
            self.board.note_held(self.number, self._noted)
        return self.board.held() - self._noted + self.held

    # -- what is divided among the workers

    def part_of(self, total):
        """This worker's part of `total`, at least 1: so where `total` is below the number of workers, the parts make up more."""
        return max(total // self.workers + (self.number < total % self.workers), 1)

    def debts(self, pool, is_backup, label):
        """The Debts of a server, or None."""
        return None if self.board is None else self.board.debts(self.number, debtor(pool, is_backup, label))


def debtor(pool, is_backup, label):
    """The name of a server on the board: what it missed in one pool and part is no matter of another."""
    return f"{pool} {'backup' if is_backup else 'primary'} {label}"


class Board:
    """The number of clients of each pool in each worker, and of bytes held for them, in memory that they share from the fork on.

    Everybody writes only in the own column, so no lock is needed. Two workers that look at the same time may both let in the last
    client: the service may have as many too many as there are workers, less one.
    """

    def __init__(self, workers):
        self.workers = workers
        self.slots = {}  # pool -> row
        self.places = {}  # of servers: debtor -> row
        self._counts = memoryview(mmap.mmap(-1, workers * MAX_POOLS * SIZE)).cast("I")
        self._held = memoryview(mmap.mmap(-1, workers * HELD_SIZE)).cast("Q")
        self._alarms = memoryview(mmap.mmap(-1, workers * MAX_SERVERS))
        self._parts = memoryview(mmap.mmap(-1, workers * MAX_SERVERS * PARTS))

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

    def clients_of(self, number: int) -> int:
        """Of all pools, in the worker `number`."""
        return sum(self._counts[slot * self.workers + number] for slot in self.slots.values())

    def note_held(self, number: int, count: int) -> None:
        """`count` bytes wait for clients of the worker `number`."""
        self._held[number] = count

    def held(self) -> int:
        """Bytes that wait for clients of all workers."""
        return sum(self._held)

    def is_ahead(self, number):
        """True if the worker `number` has more clients than the average, by more than one."""
        mine = everybody = 0
        for slot in self.slots.values():
            row = self._counts[slot * self.workers:(slot + 1) * self.workers]
            mine += row[number]
            everybody += sum(row)
        return (mine - 1) * self.workers > everybody

    def wipe(self, number):
        """The worker `number` is gone, its clients and journals with it."""
        for slot in self.slots.values():
            self._counts[slot * self.workers + number] = 0
        self._held[number] = 0
        for row in self.places.values():
            self._alarms[row * self.workers + number] = NOTHING

    # -- what servers missed

    def enroll(self, configs):
        """Give each server of `configs` a row, for good. Only the master does; workers get its `places`."""
        for config in configs:
            for is_backup, servers in (False, config.server), (True, config.backup):
                for server in servers:
                    if len(self.places) < MAX_SERVERS:
                        self.places.setdefault(debtor(config.name, is_backup, server.label), len(self.places))

    def debts(self, number, name):
        """The Debts of the server `name` as the worker `number` has and sees them, or None."""
        row = self.places.get(name)
        if row is None:
            return None
        begin, end = row * self.workers, (row + 1) * self.workers
        parts = [self._parts[place * PARTS:(place + 1) * PARTS] for place in range(begin, end)]
        return Debts(number, self._alarms[begin:end], parts)


class Debts:
    """What the workers have still to delete on one server. None of them reads there what another one owes.

    Each tells in which parts (manykeys.py) the keys of its journal lie. A key in such a part may be another one: then it is taken for
    old in vain, which is seldom while the journal is short.

    number   of this worker
    alarms   what each worker owes: NOTHING, SOME or EVERYTHING
    """

    def __init__(self, number, alarms, parts):
        self.number = number
        self.alarms = alarms
        self._parts = parts  # of each worker, a byte for a part: 1 if there are keys in it; valid while it owes SOME
        self._mine = parts[number]

    def owe(self, part):
        if self.alarms[self.number] == NOTHING:
            self.owe_only((part,))
        else:
            self._mine[part] = 1

    def owe_everything(self):
        self.alarms[self.number] = EVERYTHING

    def owe_only(self, parts):
        """These and no others."""
        self._mine[:] = _NO_PARTS
        for part in parts:
            self._mine[part] = 1
        self.alarms[self.number] = SOME if parts else NOTHING

    def paid(self, parts):
        for part in parts:
            self._mine[part] = 0

    def others_owe(self, key):
        part = part_of(key)
        for number, alarm in enumerate(self.alarms):
            if number != self.number and (alarm == EVERYTHING or alarm == SOME and self._parts[number][part]):
                return True
        return False
