"""A load that counts what a proxy loses: acknowledged writes that are stale or missing later, and failed requests.

Each client writes its own keys, one after the other, so it knows what the last acknowledged write of a key was. In contrast to faults/load.py no
reply is a failure of the test: what is lost is counted.
"""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from faults import model, values
from faults.client import Client, Lost, NoAnswer, OutOfStep
from faults.dialects import Text
from faults.model import Ledger

CLIENTS = 6
KEYS_EACH = 30
SIZE = 100

#: Weights of the operations.
GET, SET, DELETE = 50, 40, 10

#: Maximum pause after a request, seconds.
LONGEST_REST = 0.003

#: Seconds after which a client connects again when its connection ended.
RECONNECT_AFTER = 0.02

STALE = "stale reads"
RESURRECTED = "deleted values read"
MISSING = "acknowledged writes missing"
FAILED_READS = "failed reads"
FAILED_WRITES = "failed writes"
STALE_AT_END = "keys stale at the end"
MISSING_AT_END = "keys missing at the end"
REQUESTS = "requests"
COUNTED = (REQUESTS, FAILED_READS, FAILED_WRITES, STALE, RESURRECTED, MISSING, STALE_AT_END, MISSING_AT_END)


class Losses:
    """The clients of the proxy at `port`, which run until the end of the `with` block.

    counts    {one of COUNTED: number}, complete after the block
    longest   longest duration of a request, seconds
    """

    def __init__(self, port: int, seed: int | str) -> None:
        self.counts: Counter[str] = Counter()
        self.longest = 0.0
        self._stop = threading.Event()
        self._clients = [_Writer(Client(port), number, random.Random(f"{seed} {number}")) for number in range(CLIENTS)]
        self._threads = ThreadPoolExecutor(CLIENTS)
        self._runs = []

    def __enter__(self) -> "Losses":
        self._runs = [self._threads.submit(client.run, self._stop) for client in self._clients]
        return self

    def run_for(self, duration: float) -> None:
        """Let the clients run for `duration` seconds."""
        time.sleep(duration)

    def __exit__(self, *failure) -> None:
        self._stop.set()
        with self._threads:
            for run in self._runs:
                run.result()
        for client in self._clients:
            client.read_all()
            client.close()
            self.counts += client.counts
            self.longest = max(self.longest, client.longest)


class _Writer:
    """One client. Only it writes its keys."""

    def __init__(self, client, number, chance):
        self.counts = Counter()
        self.longest = 0.0
        self._client = client
        self._chance = chance
        self._text = Text()
        self._ledgers = [Ledger(b"client-%d-key-%d" % (number, key)) for key in range(KEYS_EACH)]
        self._deleted = set()  # keys whose last acknowledged write is a delete

    def run(self, stop):
        for ledger in self._ledgers:
            self._set(ledger)
        operations = [self._get, self._set, self._delete]
        while not stop.is_set():
            (operation,) = self._chance.choices(operations, (GET, SET, DELETE))
            operation(self._chance.choice(self._ledgers))
            time.sleep(self._chance.random() * LONGEST_REST)

    def read_all(self):
        """Read all keys once more: what is lost now is lost for good."""
        for ledger in self._ledgers:
            self._get(ledger, STALE_AT_END, STALE_AT_END, MISSING_AT_END)

    def close(self):
        self._client.close()

    def _ask(self, wire):
        """The reply, or None if there was none."""
        self.counts[REQUESTS] += 1
        sent = time.monotonic()
        try:
            (reply,) = self._client.ask_all(wire.data, [wire.read])
        except (Lost, NoAnswer, OutOfStep):
            time.sleep(RECONNECT_AFTER)
            reply = None
        self.longest = max(self.longest, time.monotonic() - sent)
        return reply

    def _set(self, ledger):
        number = ledger.next_number()
        if self._ask(self._text.store(b"set", ledger.key, values.compose(ledger.key, number, SIZE))) == b"STORED":
            ledger.acknowledged(number)
            self._deleted.discard(ledger.key)
        else:
            self.counts[FAILED_WRITES] += 1

    def _delete(self, ledger):
        number = ledger.next_delete()
        if self._ask(self._text.delete(ledger.key)) in (b"DELETED", b"NOT_FOUND"):
            ledger.acknowledged(number)
            self._deleted.add(ledger.key)
        else:
            self.counts[FAILED_WRITES] += 1

    def _get(self, ledger, stale=STALE, resurrected=RESURRECTED, missing=MISSING):
        items = self._ask(self._text.retrieve([ledger.key]))
        is_deleted = ledger.key in self._deleted
        if not isinstance(items, list):
            self.counts[FAILED_READS] += 1
        elif items:
            origin = values.read(items[0].data)
            assert origin is not None and origin.key == ledger.key, items
            if ledger.judge(origin.number, ledger.floor) == model.STALE:
                self.counts[resurrected if is_deleted else stale] += 1
        elif not is_deleted and ledger.floor == ledger.ceiling:
            self.counts[missing] += 1
