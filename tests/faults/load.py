"""Clients that write and read until the end of the load, and judge every reply.

Each client has a thread and a connection. It writes its own keys, which no other client writes (see model.py), and reads the keys of all.
Some clients use the binary protocol, the others alternate between text and meta.
"""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from faults import values
from faults.client import Client
from faults.dialects import Binary, Meta, Text
from faults.model import Ledger
from faults.tally import Tally
from faults.worker import Question, Rules, Worker

KEYS_EACH = 12
LISTS_EACH = 3
COUNTERS_EACH = 4

#: Sizes of values in bytes. A size that is listed more than once is chosen more often.
SIZES = (30, 30, 100, 100, 100, 1000, 1000, 10_000, 100_000)

#: Maximum numbers of keys of a retrieval, chosen like the sizes; and of reads in a pipeline.
MANY = (2, 5, 10, 10, 40)
PIPELINED = 10

#: Maximum pause after an operation, seconds. The load is meant to be steady, not the maximum.
LONGEST_REST = 0.004

#: Life of a touched item, seconds: longer than any test.
LIFE = 3600

#: The fraction of requests that a text client sends as meta commands; and one in how many clients uses binary, counted from the last one.
META_PART = 0.3
BINARY_EVERY = 3

#: The replies that mean that nothing was stored.
REFUSALS = {b"set": (), b"add": (b"NOT_STORED",), b"cas": (b"EXISTS", b"NOT_FOUND"), b"append": (b"NOT_STORED", b"NOT_FOUND")}


class Load:
    """`workers` clients of the proxy at `port`, which run until the end of the `with` block. After it `tally` has the counts of all clients.

    All keys begin with `name`: two loads on the same servers need different names. `workers` has the LoadWorkers.
    """

    def __init__(self, port: int, name: str = "load", workers: int = 6, seed: int | str = 1, rules: Rules | None = None) -> None:
        self.tally = Tally()
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(workers)
        self._runs = []

        def named(kind, count):
            return [[f"{name}-{number}-{kind}-{key}".encode() for key in range(count)] for number in range(workers)]

        keys, lists, counting = named("key", KEYS_EACH), named("list", LISTS_EACH), named("counter", COUNTERS_EACH)
        ledgers = {key: Ledger(key) for own in keys + lists + counting for key in own}
        counters = {
            key: values.Counter(index, 1 if index % 2 else -1) for index, key in enumerate((key for own in counting for key in own), 1)
        }
        self.workers = [
            LoadWorker(
                f"client {number}",
                Client(port),
                keys[number],
                lists[number],
                counting[number],
                ledgers,
                counters,
                rules or Rules(),
                random.Random(f"{seed} {number}"),
                [Binary()] if (workers - number) % BINARY_EVERY == 1 else [Text(), Meta()],
            )
            for number in range(workers)
        ]

    def __enter__(self) -> "Load":
        for worker in self.workers:
            worker.write_all()
        self._runs = [self._threads.submit(worker.run, self._stop) for worker in self.workers]
        return self

    def __exit__(self, *failure) -> None:
        self._stop.set()
        with self._threads:
            for run in self._runs:
                run.result()
        for worker in self.workers:
            worker.read_all()
        for worker in self.workers:
            worker.write_all()  # sends requests to every server and every backup, so that all connections are open again
            worker.client.close()
            worker.judge_times()
            self.tally.add(worker.tally)


class LoadWorker(Worker):
    """Only this client writes `keys`, `lists` and `counting`. Each request uses one of `dialects`, mostly the first."""

    def __init__(self, name, client, keys, lists, counting, ledgers, counters, rules, chance, dialects):
        super().__init__(name, client, keys + lists + counting, ledgers, counters, rules)
        self._keys = keys
        self._lists = lists
        self._counting = counting
        self._everything = list(ledgers)
        self._chance = chance
        self._dialects = dialects

    def run(self, stop: threading.Event) -> None:
        """Execute one operation after the other until `stop` is set."""
        operations, weights = zip(
            (self._get_one, 28),
            (self._get_many, 20),
            (self._pipeline, 8),
            (self._set, 15),
            (self._set_quietly, 3),
            (self._delete, 6),
            (self._add, 5),
            (self._read_and_change, 6),
            (self._count, 9),
            (self._append, 7),
            (self._set_counter, 3),
            (self._set_list, 2),
            (self._touch, 3),
        )
        while not stop.is_set():
            (operation,) = self._chance.choices(operations, weights)
            operation()
            time.sleep(self._chance.random() * LONGEST_REST)

    def write_all(self) -> None:
        """Store a value under each of this client's keys."""
        for key in self._keys:
            self.ask(self._storage(b"set", key))
        for key in self._lists:
            self.ask(self._list_storage(key))
        for key in self._counting:
            self.ask(self._counter_storage(key))

    def read_all(self) -> None:
        """Read the keys of all clients."""
        for key in self._everything:
            self.ask(self._retrieval([key]))

    # -- operations

    def _get_one(self):
        self.ask(self._any_retrieval([self._chance.choice(self._everything)]))

    def _get_many(self):
        self.ask(self._any_retrieval(self._some_keys(self._chance.choice(MANY))))

    def _some_keys(self, most):
        return self._chance.sample(self._everything, self._chance.randint(2, most))

    def _any_retrieval(self, keys):
        """get, gets, gat or gats."""
        return self._retrieval(keys, cas=self._chance.random() < 0.3, life=LIFE if self._chance.random() < 0.3 else None)

    def _pipeline(self):
        """A write, a read of the written key, and other reads, sent at once."""
        key = self._own_key()
        others = [self._any_retrieval([other]) for other in self._some_keys(PIPELINED)]
        self.ask(self._storage(b"set", key), self._retrieval([key]), *others, turns=2)

    def _set(self):
        self.ask(self._storage(b"set", self._own_key()))

    def _set_quietly(self):
        """A set with noreply: the client never knows whether the value was stored."""
        if not isinstance(self._dialects[0], Text):
            return  # a quiet set in binary has a reply if it fails
        ledger = self._ledgers[self._own_key()]
        number = ledger.next_number()
        data = values.compose(ledger.key, number, self._chance.choice(SIZES))
        ledger.record(time.monotonic(), self.name, f"set number {number} noreply", "nobody knows")
        self.tell(Text.store_quietly(ledger.key, data), ledger)

    def _add(self):
        self.ask(self._storage(b"add", self._own_key()))

    def _read_and_change(self):
        """gets, then cas with the number of the reply."""
        key = self._own_key()
        (answer,) = self.ask(self._retrieval([key], cas=True))
        for item in answer or []:
            self.ask(self._storage(b"cas", key, item.cas))

    def _delete(self):
        ledger = self._ledgers[self._chance.choice(self._keys + self._lists[:1])]
        number = ledger.next_delete()

        def take(answer):
            if answer in (b"DELETED", b"NOT_FOUND"):
                ledger.began(number)
            else:
                self.wrong_reply(ledger, "delete", answer)

        self.ask(Question(self._dialect().delete(ledger.key), f"delete number {number}", take, [ledger.key]))

    def _touch(self):
        ledger = self._ledgers[self._own_key()]

        def take(answer):
            if answer not in (b"TOUCHED", b"NOT_FOUND"):
                self.wrong_reply(ledger, "touch", answer)

        self.ask(Question(self._dialect().touch(ledger.key, LIFE), "touch", take, [ledger.key]))

    def _count(self):
        """incr or decr: each counter is only counted up, or only counted down."""
        ledger = self._ledgers[self._chance.choice(self._counting)]
        number = ledger.next_number()
        verb = b"incr" if self._counters[ledger.key].step > 0 else b"decr"

        def take(answer):
            if answer.isdigit():
                self.judge_count(ledger, verb.decode(), answer)
            elif answer != b"NOT_FOUND":
                self.wrong_reply(ledger, verb.decode(), answer)

        self.ask(Question(self._dialect().count(verb, ledger.key), f"{verb.decode()} number {number}", take, [ledger.key]))

    def _set_counter(self):
        self.ask(self._counter_storage(self._chance.choice(self._counting)))

    def _append(self):
        ledger = self._ledgers[self._chance.choice(self._lists)]
        number = ledger.next_number()
        self.ask(self._storing(b"append", ledger, number, values.list_element(number), made=ledger.appended))

    def _set_list(self):
        self.ask(self._list_storage(self._chance.choice(self._lists)))

    # -- requests

    def _own_key(self):
        return self._chance.choice(self._keys)

    def _dialect(self):
        return self._dialects[-1] if self._chance.random() < META_PART else self._dialects[0]

    def _storage(self, verb, key, cas=None):
        ledger = self._ledgers[key]
        number = ledger.next_number()
        return self._storing(verb, ledger, number, values.compose(key, number, self._chance.choice(SIZES)), cas)

    def _list_storage(self, key):
        ledger = self._ledgers[key]
        number = ledger.next_number()
        return self._storing(b"set", ledger, number, values.begin_list(key, number), made=ledger.began)

    def _counter_storage(self, key):
        ledger = self._ledgers[key]
        number = ledger.next_number()
        return self._storing(b"set", ledger, number, b"%d" % self._counters[key].value_of(number))

    def _storing(self, verb, ledger, number, data, cas=None, made=None):
        """`made(number)` is called if the value was stored."""

        def take(answer):
            if answer == b"STORED":
                (made or ledger.acknowledged)(number)
            elif answer in REFUSALS[verb]:
                ledger.refused(number)
            else:
                self.wrong_reply(ledger, verb.decode(), answer)

        return Question(self._dialect().store(verb, ledger.key, data, cas), f"{verb.decode()} number {number}", take, [ledger.key])

    def _retrieval(self, keys, cas=False, life=None):
        dialect = self._dialect()
        floors = {key: self._ledgers[key].floor for key in keys}
        what = f"{dialect.name} {'get' if life is None else 'gat'}{'s' if cas else ''}"
        question = Question(
            dialect.retrieve(keys, cas, life), what, lambda items: self.judge_items(question, items), keys, floors, life is not None
        )
        return question
