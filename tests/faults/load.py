"""Clients that write and read for as long as they are told, and judge every answer.

Each worker is a thread with one connection. It alone writes its own keys (see model.py) and reads everybody's.
"""

import random
import threading
import time
from array import array
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from faults import model, values
from faults.client import Client, Lost, NoAnswer, OutOfStep
from faults.model import Ledger

KEYS_EACH = 12
COUNTERS_EACH = 3

#: The number of a counter's write is the counter less its base; so a counter tells whose it is, too.
COUNTER_SPAN = 10**9

#: Bytes of a value, as often as they stand here.
SIZES = (30, 30, 100, 100, 100, 1000, 1000, 10_000, 100_000)

#: Seconds of rest after an operation, at most. The load is to be steady, not the highest there can be.
LONGEST_REST = 0.004

#: Seconds that an item lives when it is touched: for longer than any test.
LIFE = 3600

#: Violations of each kind that are kept with the history of their key.
KEPT_VIOLATIONS = 3

# Kinds of violation. DAMAGED is one only where no wire damages data.
WRONG_VALUE = "wrong values"
WRONG_REPLY = "replies to the wrong request"
STALE = "stale reads"
REFUSED = "refused writes that happened"
NO_ANSWER = "requests without an answer"
CONNECTION_LOST = "client connections lost"
DAMAGED = "values damaged in transit"
VIOLATIONS = (WRONG_VALUE, WRONG_REPLY, STALE, REFUSED, NO_ANSWER, CONNECTION_LOST, DAMAGED)

_KIND = {model.STALE: STALE, model.REFUSED: REFUSED, model.IMPOSSIBLE: WRONG_VALUE}


class Violation(NamedTuple):
    kind: str
    at: float           # time.monotonic()
    what: str
    ledger: Ledger      # or None
    operations: list


class Tally:
    """What one worker counted."""

    def __init__(self):
        self.requests = 0
        self.hits = 0
        self.misses = 0
        self.errors = Counter()       # reason -> times
        self.violations = Counter()   # kind -> times
        self.examples = defaultdict(list)  # kind -> the first Violations of it
        self.ends = array("d")        # when each request was answered
        self.waits = array("d")       # and how long that took, seconds

    def add(self, other):
        self.requests += other.requests
        self.hits += other.hits
        self.misses += other.misses
        self.errors.update(other.errors)
        self.violations.update(other.violations)
        for kind, examples in other.examples.items():
            self.examples[kind] = sorted(self.examples[kind] + examples, key=lambda violation: violation.at)[:KEPT_VIOLATIONS]
        self.ends += other.ends
        self.waits += other.waits


class Load:
    """`workers` clients of the proxy at `port`, from the `with` to its end. Then `tally` has what all of them counted.

    `name` is what all keys begin with: two loads on the same servers need two.
    """

    def __init__(self, port, name="load", workers=6, seed=1):
        self.tally = Tally()
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(workers)
        self._runs = []
        keys = [[f"{name}-{number}-key-{key}".encode() for key in range(KEYS_EACH)] for number in range(workers)]
        counters = [[f"{name}-{number}-counter-{key}".encode() for key in range(COUNTERS_EACH)] for number in range(workers)]
        ledgers = {key: Ledger(key) for own in keys + counters for key in own}
        bases = {key: index * COUNTER_SPAN for index, key in enumerate((key for own in counters for key in own), 1)}
        self._workers = [
            Worker(f"client {number}", Client(port), keys[number], counters[number], ledgers, bases, random.Random(f"{seed} {number}"))
            for number in range(workers)
        ]

    def __enter__(self):
        for worker in self._workers:
            worker.write_all()
        self._runs = [self._threads.submit(worker.run, self._stop) for worker in self._workers]
        return self

    def __exit__(self, *failure):
        self._stop.set()
        with self._threads:
            for run in self._runs:
                run.result()
        for worker in self._workers:
            worker.read_all()
        for worker in self._workers:
            worker.write_all()  # asks every server and every backup: all links are open again
            worker.client.close()
            self.tally.add(worker.tally)


class Worker:
    """One client. `keys` and `counters` are its own; `ledgers` and `bases` (of the counters) are those of all."""

    def __init__(self, name, client, keys, counters, ledgers, bases, chance):
        self.name = name
        self.client = client
        self.tally = Tally()
        self._keys = keys
        self._counters = counters
        self._ledgers = ledgers
        self._bases = bases
        self._everything = list(ledgers)
        self._chance = chance

    def run(self, stop):
        """One operation after the other until `stop`, a threading.Event, is set."""
        operations, weights = zip(
            (self._get_one, 36), (self._get_many, 14), (self._set, 18), (self._delete, 6), (self._add, 5), (self._change, 6),
            (self._incr, 9), (self._set_counter, 3), (self._touch, 3),
        )
        while not stop.is_set():
            operation, = self._chance.choices(operations, weights)
            operation()
            time.sleep(self._chance.random() * LONGEST_REST)

    def write_all(self):
        """Every key of ours has a value."""
        for key in self._keys:
            self._store(b"set", key)
        for key in self._counters:
            self._set_counter(key)

    def read_all(self):
        """Every key of everybody once more."""
        for key in self._everything:
            self._retrieve(b"get", [key])

    # -- changes

    def _own(self, key=None):
        return self._ledgers[key or self._chance.choice(self._keys)]

    def _set(self):
        self._store(b"set", self._own().key)

    def _add(self):
        self._store(b"add", self._own().key)

    def _change(self):
        """Read with gets, write with cas."""
        key = self._own().key
        for item in self._retrieve(b"gets", [key]):
            self._store(b"cas", key, item.cas)

    def _store(self, verb, key, cas=None):
        ledger = self._ledgers[key]
        number = ledger.next_number()
        data = values.compose(key, number, self._chance.choice(SIZES))
        answer = self._ask(ledger, "%s number %d" % (verb.decode(), number), lambda: self.client.store(verb, key, data, cas))
        if answer == b"STORED":
            ledger.acknowledged(number)
        elif answer in REFUSALS[verb]:
            ledger.refused(number)
        elif answer is not None:
            self._wrong_reply(ledger, verb, answer)

    def _delete(self):
        ledger = self._own()
        number = ledger.next_delete()
        answer = self._ask(ledger, "delete number %d" % number, lambda: self.client.ask(b"delete %b" % ledger.key))
        if answer in (b"DELETED", b"NOT_FOUND"):
            ledger.acknowledged(number)
        elif answer is not None:
            self._wrong_reply(ledger, b"delete", answer)

    def _touch(self):
        ledger = self._own()
        answer = self._ask(ledger, "touch", lambda: self.client.ask(b"touch %b %d" % (ledger.key, LIFE)))
        if answer not in (b"TOUCHED", b"NOT_FOUND", None):
            self._wrong_reply(ledger, b"touch", answer)

    def _set_counter(self, key=None):
        ledger = self._own(key or self._chance.choice(self._counters))
        number = ledger.next_number()
        data = b"%d" % (self._bases[ledger.key] + number)
        answer = self._ask(ledger, "set number %d" % number, lambda: self.client.store(b"set", ledger.key, data))
        if answer == b"STORED":
            ledger.acknowledged(number)
        elif answer is not None:
            self._wrong_reply(ledger, b"set", answer)

    def _incr(self):
        ledger = self._own(self._chance.choice(self._counters))
        ledger.next_number()
        answer = self._ask(ledger, "incr", lambda: self.client.ask(b"incr %b 1" % ledger.key))
        if answer is None or answer == b"NOT_FOUND":
            return
        if not answer.isdigit():
            self._wrong_reply(ledger, b"incr", answer)
            return
        number = int(answer) - self._bases[ledger.key]
        floor = ledger.floor
        verdict = ledger.counted(number)
        if verdict != model.FINE:
            self._violated(_KIND[verdict], ledger, f"incr was answered {number}, acknowledged were {floor}, asked for {ledger.ceiling}")

    # -- reads

    def _get_one(self):
        self._retrieve(self._chance.choice((b"get", b"gets")), [self._chance.choice(self._everything)])

    def _get_many(self):
        self._retrieve(b"get", self._chance.sample(self._everything, self._chance.randint(2, 10)))

    def _retrieve(self, verb, keys):
        """Returns the list of Item that came, [] if it was an error."""
        ledgers = [self._ledgers[key] for key in keys]
        floors = {ledger.key: ledger.floor for ledger in ledgers}
        sent = time.monotonic()
        items = self._ask(None, verb.decode(), lambda: self.client.retrieve(b"%b %b" % (verb, b" ".join(keys))))
        if items is None:
            return []
        found = {}
        for item in items:
            if item.key not in floors or item.key in found:
                self._violated(WRONG_REPLY, None, f"{verb.decode()} {keys} brought the value of {item.key}")
                return []
            found[item.key] = self._number(item)
        self.tally.hits += len(found)
        self.tally.misses += len(keys) - len(found)
        for ledger in ledgers:
            number = found.get(ledger.key)
            ledger.record(sent, self.name, verb.decode(), "nothing" if number is None else f"number {number}")
            if number is None:
                continue
            verdict = ledger.judge(number, floors[ledger.key])
            if verdict != model.FINE:
                self._violated(_KIND[verdict], ledger, f"{self.name} found number {number}; when it asked, "
                               f"{floors[ledger.key]} was acknowledged; up to {ledger.ceiling} were asked for")
        return items

    def _number(self, item):
        """The number of the write that `item` comes from, or None if it does not tell."""
        if item.key in self._bases:
            if item.data.isdigit():
                return int(item.data) - self._bases[item.key]
            self._violated(DAMAGED, self._ledgers[item.key], f"the counter is {item.data[:100]!r}")
            return None
        origin = values.read(item.data)
        if origin is None:
            self._violated(DAMAGED, self._ledgers[item.key], f"{item.data[:100]!r} ({len(item.data)} bytes)")
        elif origin.key != item.key:
            self._violated(WRONG_VALUE, self._ledgers[item.key], f"a value of {origin.key}")
        else:
            return origin.number
        return None

    # -- one request

    def _ask(self, ledger, what, converse):
        """The answer to `converse()`, or None if it is an error after which nobody knows. Counted, timed, and recorded in `ledger`."""
        sent = time.monotonic()
        try:
            answer = converse()
        except Lost as error:
            answer = None
            self._violated(CONNECTION_LOST, ledger, f"{what}: {error}")
        except NoAnswer:
            answer = None
            self._violated(NO_ANSWER, ledger, what)
        except OutOfStep as error:
            answer = None
            self._violated(WRONG_REPLY, ledger, f"{what}: {error}")
        ended = time.monotonic()
        self.tally.requests += 1
        self.tally.ends.append(ended)
        self.tally.waits.append(ended - sent)
        if ledger is not None:
            ledger.record(sent, self.name, what, "nobody knows" if answer is None else answer.decode(errors="replace"))
        if isinstance(answer, bytes) and answer.startswith(b"SERVER_ERROR "):
            self.tally.errors[answer.split(b" ")[1].decode()] += 1
            return None
        return answer

    def _wrong_reply(self, ledger, verb, answer):
        self._violated(WRONG_REPLY, ledger, f"{verb.decode()} was answered {answer[:100]!r}")

    def _violated(self, kind, ledger, what):
        self.tally.violations[kind] += 1
        examples = self.tally.examples[kind]
        if len(examples) < KEPT_VIOLATIONS:
            operations = list(ledger.operations) if ledger is not None else []
            examples.append(Violation(kind, time.monotonic(), what, ledger, operations))


#: The answers that mean that nothing was stored.
REFUSALS = {b"set": (), b"add": (b"NOT_STORED",), b"cas": (b"EXISTS", b"NOT_FOUND")}
