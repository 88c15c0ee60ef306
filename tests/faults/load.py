"""Clients that write and read for as long as they are told, and judge every answer.

Each worker has a thread and a connection. It alone writes its own keys (see model.py) and reads everybody's.
"""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from faults import model, tally, values
from faults.client import Client, Lost, NoAnswer, OutOfStep
from faults.model import Ledger
from faults.tally import Tally

KEYS_EACH = 12
COUNTERS_EACH = 3

#: The number of a counter's write is the counter less its base; so a counter tells whose it is, too.
COUNTER_SPAN = 10**9

#: Bytes of a value, as often as they stand here.
SIZES = (30, 30, 100, 100, 100, 1000, 1000, 10_000, 100_000)

#: Keys of a retrieval, and requests of a pipeline, at most.
MANY = 10

#: Seconds of rest after an operation, at most. The load is to be steady, not the highest there can be.
LONGEST_REST = 0.004

#: Seconds that an item lives when it is touched: for longer than any test.
LIFE = 3600

#: The answers that mean that nothing was stored.
REFUSALS = {b"set": (), b"add": (b"NOT_STORED",), b"cas": (b"EXISTS", b"NOT_FOUND")}

_KIND = {model.STALE: tally.STALE, model.REFUSED: tally.REFUSED, model.IMPOSSIBLE: tally.WRONG_VALUE}


class Load:
    """`workers` clients of the proxy at `port`, from the `with` to its end. Then `tally` has what all of them counted.

    `name` is what all keys begin with: two loads on the same servers need two. `workers` has the Workers.
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
        self.workers = [
            Worker(f"client {number}", Client(port), keys[number], counters[number], ledgers, bases, random.Random(f"{seed} {number}"))
            for number in range(workers)
        ]

    def __enter__(self):
        for worker in self.workers:
            worker.write_all()
        self._runs = [self._threads.submit(worker.run, self._stop) for worker in self.workers]
        return self

    def __exit__(self, *failure):
        self._stop.set()
        with self._threads:
            for run in self._runs:
                run.result()
        for worker in self.workers:
            worker.read_all()
        for worker in self.workers:
            worker.write_all()  # asks every server and every backup: all links are open again
            worker.client.close()
            self.tally.add(worker.tally)


class Question(NamedTuple):
    """One request, and what its answer is judged by."""

    line: bytes           # with its data block, without the last CRLF
    what: str             # for the record
    take: callable        # what is done with the answer: a line, or a list of Item
    keys: list            # those it is about
    floors: dict = None   # of a retrieval: key -> the floor when it was made


class Worker:
    """One client. `keys` and `counters` are its own; `ledgers` and `bases` (of the counters) are those of all."""

    def __init__(self, name, client, keys, counters, ledgers, bases, chance):
        self.name = name
        self.client = client
        self.tally = Tally()
        self._keys = keys
        self._counters = counters
        self._own = frozenset(keys + counters)
        self._ledgers = ledgers
        self._bases = bases
        self._everything = list(ledgers)
        self._chance = chance

    def run(self, stop):
        """One operation after the other until `stop`, a threading.Event, is set."""
        operations, weights = zip(
            (self._get_one, 32), (self._get_many, 14), (self._pipeline, 8), (self._set, 15), (self._set_quietly, 3), (self._delete, 6),
            (self._add, 5), (self._read_and_change, 6), (self._incr, 9), (self._set_counter, 3), (self._touch, 3),
        )
        while not stop.is_set():
            operation, = self._chance.choices(operations, weights)
            operation()
            time.sleep(self._chance.random() * LONGEST_REST)

    def write_all(self):
        """Every key of ours has a value."""
        for key in self._keys:
            self._ask(self._storage(b"set", key))
        for key in self._counters:
            self._ask(self._counter_storage(key))

    def read_all(self):
        """Every key of everybody once more."""
        for key in self._everything:
            self._ask(self._retrieval(b"get", [key]))

    # -- operations

    def _own_key(self):
        return self._chance.choice(self._keys)

    def _get_one(self):
        verb = self._chance.choice((b"get", b"get", b"gets", b"gat %d" % LIFE))
        self._ask(self._retrieval(verb, [self._chance.choice(self._everything)]))

    def _get_many(self):
        self._ask(self._retrieval(b"get", self._some_keys()))

    def _some_keys(self):
        return self._chance.sample(self._everything, self._chance.randint(2, MANY))

    def _pipeline(self):
        """A write, a read of what was written, and other reads, all in one packet."""
        key = self._own_key()
        others = [self._retrieval(b"get", [other]) for other in self._some_keys()]
        self._ask(self._storage(b"set", key), self._retrieval(b"get", [key]), *others)

    def _set(self):
        self._ask(self._storage(b"set", self._own_key()))

    def _set_quietly(self):
        """With noreply: nobody ever knows whether it was stored."""
        ledger = self._ledgers[self._own_key()]
        number = ledger.next_number()
        data = values.compose(ledger.key, number, self._chance.choice(SIZES))
        ledger.record(time.monotonic(), self.name, f"set number {number} noreply", "nobody knows")
        try:
            self.client.tell(b"set %b 0 0 %d noreply\r\n%b" % (ledger.key, len(data), data))
        except Lost as error:
            self._violated(tally.CONNECTION_LOST, ledger, str(error))

    def _add(self):
        self._ask(self._storage(b"add", self._own_key()))

    def _read_and_change(self):
        """gets, and cas with the number it gave."""
        key = self._own_key()
        answer, = self._ask(self._retrieval(b"gets", [key]))
        for item in answer or []:
            self._ask(self._storage(b"cas", key, item.cas))

    def _delete(self):
        ledger = self._ledgers[self._own_key()]
        number = ledger.next_delete()

        def take(answer):
            if answer in (b"DELETED", b"NOT_FOUND"):
                ledger.acknowledged(number)
            else:
                self._wrong_reply(ledger, "delete", answer)

        self._ask(Question(b"delete %b" % ledger.key, f"delete number {number}", take, [ledger.key]))

    def _touch(self):
        ledger = self._ledgers[self._own_key()]

        def take(answer):
            if answer not in (b"TOUCHED", b"NOT_FOUND"):
                self._wrong_reply(ledger, "touch", answer)

        self._ask(Question(b"touch %b %d" % (ledger.key, LIFE), "touch", take, [ledger.key]))

    def _incr(self):
        ledger = self._ledgers[self._chance.choice(self._counters)]
        ledger.next_number()

        def take(answer):
            if answer.isdigit():
                self._judge_count(ledger, int(answer) - self._bases[ledger.key])
            elif answer != b"NOT_FOUND":
                self._wrong_reply(ledger, "incr", answer)

        self._ask(Question(b"incr %b 1" % ledger.key, "incr", take, [ledger.key]))

    def _set_counter(self):
        self._ask(self._counter_storage(self._chance.choice(self._counters)))

    # -- questions

    def _storage(self, verb, key, cas=None):
        ledger = self._ledgers[key]
        number = ledger.next_number()
        return self._storing(verb, ledger, number, values.compose(key, number, self._chance.choice(SIZES)), cas)

    def _counter_storage(self, key):
        ledger = self._ledgers[key]
        number = ledger.next_number()
        return self._storing(b"set", ledger, number, b"%d" % (self._bases[key] + number))

    def _storing(self, verb, ledger, number, data, cas=None):
        def take(answer):
            if answer == b"STORED":
                ledger.acknowledged(number)
            elif answer in REFUSALS[verb]:
                ledger.refused(number)
            else:
                self._wrong_reply(ledger, verb.decode(), answer)

        matching = b"" if cas is None else b" %d" % cas
        line = b"%b %b 0 0 %d%b\r\n%b" % (verb, ledger.key, len(data), matching, data)
        return Question(line, f"{verb.decode()} number {number}", take, [ledger.key])

    def _retrieval(self, verb, keys):
        floors = {key: self._ledgers[key].floor for key in keys}
        question = Question(b"%b %b" % (verb, b" ".join(keys)), verb.decode(), lambda items: self._judge_items(question, items), keys, floors)
        return question

    # -- asking

    def _ask(self, *questions):
        """Ask them in one packet. Returns the answers; None where there is none, or an error after which nobody knows."""
        sent = time.monotonic()
        try:
            answers = self.client.ask_all([(question.line, question.floors is not None) for question in questions])
        except Lost as error:
            answers = self._nobody_knows(tally.CONNECTION_LOST, questions, error)
        except NoAnswer as error:
            answers = self._nobody_knows(tally.NO_ANSWER, questions, error)
        except OutOfStep as error:
            answers = self._nobody_knows(tally.WRONG_REPLY, questions, error)
        ended = time.monotonic()
        for number, (question, answer) in enumerate(zip(questions, answers)):
            self.tally.answered(sent, ended)
            if isinstance(answer, bytes) and answer.startswith(b"SERVER_ERROR "):
                self.tally.errors[answer.split(b" ")[1].decode()] += 1
                self._record(question, sent, answer.decode())
                answers[number] = None
            elif answer is None:
                self._record(question, sent, "nobody knows")
            else:
                if isinstance(answer, bytes):
                    self._record(question, sent, answer.decode(errors="replace"))
                else:
                    self._record_items(question, sent, answer)
                question.take(answer)
        return answers

    def _nobody_knows(self, kind, questions, error):
        """None of them was answered as it should."""
        self._violated(kind, self._ledgers[questions[0].keys[0]], f"{', '.join(question.what for question in questions)}: {error}")
        return [None] * len(questions)

    # -- judging

    def _judge_items(self, question, items):
        found = set()
        for item in items:
            if item.key not in question.floors or item.key in found:
                self._violated(tally.WRONG_REPLY, None, f"{question.what} {question.keys} brought the value of {item.key}")
                return
            found.add(item.key)
            self._judge_item(item, question)
        self.tally.hits += len(found)
        self.tally.misses += len(question.keys) - len(found)

    def _judge_item(self, item, question):
        ledger = self._ledgers[item.key]
        # Our own keys change by us alone, and what we asked before in the same packet has been taken by now.
        floor = ledger.floor if item.key in self._own else question.floors[item.key]
        origin = self._origin(item)
        if origin is None:
            self._violated(tally.DAMAGED, ledger, f"{item.data[:100]!r} ({len(item.data)} bytes)")
        elif origin.key != item.key:
            self._violated(tally.WRONG_VALUE, ledger, f"a value of {origin.key}")
        else:
            verdict = ledger.judge(origin.number, floor)
            if verdict != model.FINE:
                self._violated(_KIND[verdict], ledger, f"{self.name} found number {origin.number}; when it asked, {floor} was "
                               f"acknowledged; up to {ledger.ceiling} were asked for")

    def _origin(self, item):
        """The values.Origin of an item, or None if it does not tell."""
        base = self._bases.get(item.key)
        if base is None:
            return values.read(item.data)
        return values.Origin(item.key, int(item.data) - base) if item.data.isdigit() else None

    def _judge_count(self, ledger, number):
        floor = ledger.floor
        verdict = ledger.counted(number)
        if verdict != model.FINE:
            self._violated(_KIND[verdict], ledger, f"incr was answered {number}; {floor} was acknowledged; up to {ledger.ceiling} "
                           "were asked for")

    def _wrong_reply(self, ledger, what, answer):
        self._violated(tally.WRONG_REPLY, ledger, f"{what} was answered {answer[:100]!r}")

    def _violated(self, kind, ledger, what):
        self.tally.violated(kind, time.monotonic(), what, ledger)

    # -- for the record

    def _record(self, question, sent, answer):
        for key in question.keys:
            self._ledgers[key].record(sent, self.name, question.what, answer)

    def _record_items(self, question, sent, items):
        found = {item.key: self._origin(item) for item in items}
        for key in question.keys:
            origin = found.get(key)
            answer = f"number {origin.number}" if origin else "damaged" if key in found else "nothing"
            self._ledgers[key].record(sent, self.name, question.what, answer)
