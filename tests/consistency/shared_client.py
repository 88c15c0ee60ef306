"""One client of a load: random commands on shared keys, some pipelined, in text, meta or binary; every reply is judged."""

import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from faults import values
from faults.client import Client, Lost, NoAnswer, OutOfStep
from faults.dialects import Binary, Meta, Text, Wire

from consistency.histories import FINE, IMPOSSIBLE, REPEATED, CounterHistory
from consistency.results import clock

#: Sizes of values in bytes.
SIZES = (40, 40, 100, 1000, 9000)

#: Requests that are sent at once, and keys of a multi-get.
PIPELINED = (1, 1, 2, 4, 10)
MANY = (2, 5, 20)

#: Seconds: a life that is longer than any test.
LIFE = 3600

#: Seconds after which a client connects again when its connection ended.
RECONNECT_AFTER = 0.02

#: The part of the requests that a text client sends as meta commands.
META_PART = 0.4

WRONG_REPLY = "replies to the wrong request"
HUNG = "requests that hung"
CONNECTION_LOST = "client connections lost"

REFUSALS = (b"NOT_STORED", b"EXISTS", b"NOT_FOUND")


class Question(NamedTuple):
    """One request. `take(reply, sent, ended)` judges its reply; `failed(ended)` is called if its outcome is unknown."""

    wire: Wire
    what: str
    keys: list[bytes]
    take: Callable[[list | bytes, float, float], None]
    failed: Callable[[float], None]


def _nothing(ended):
    pass


class SharedClient:
    """One client in a thread of its own."""

    def __init__(self, name, port, load, chance, binary):
        self._name = name
        self._client = Client(port)
        self._load = load
        self._chance = chance
        self._dialects = [Binary()] if binary else [Text(), Meta()]
        self._keys = list(load.histories)
        self._counters = list(load.counters)
        self._histories = load.histories | load.counters
        self._found = {}  # {key: (cas number, value)} of recent reads
        self._lacking = []  # counters that were not found
        self._counts = Counter()
        self._errors = Counter()
        self._appended = 0

    def close(self):
        self._client.close()

    def run(self, gate):
        operations, weights = zip(*((getattr(self, f"_{name}"), weight) for name, weight in self._load.mix.items()))
        while gate.pass_through():
            count = self._chance.choice(PIPELINED)
            questions = [operation() for operation in self._chance.choices(operations, weights, k=count)]
            while self._lacking:
                questions.append(self._counter_storage(b"add", self._lacking.pop()))
            self.ask(questions)
            time.sleep(self._chance.random() * self._load.rest)

    def ask(self, questions):
        """Send these requests at once, and judge the replies."""
        try:
            self._ask(questions)
        finally:
            self._load.results.add(self._counts, self._errors)
            self._counts.clear()
            self._errors.clear()

    def _ask(self, questions):
        sent = time.monotonic()
        try:
            replies = self._client.ask_all(b"".join(question.wire.data for question in questions), [one.wire.read for one in questions])
        except Lost as error:
            self._counts["connections lost"] += 1
            self._failed(questions, sent, None if self._load.connections_may_end else CONNECTION_LOST, error)
            if self._load.connections_may_end:
                time.sleep(RECONNECT_AFTER)
            return
        except NoAnswer as error:
            self._failed(questions, sent, HUNG, error)
            return
        except OutOfStep as error:
            self._failed(questions, sent, WRONG_REPLY, error)
            return
        ended = time.monotonic()
        for question, reply in zip(questions, replies):
            self._counts["requests"] += 1
            self._record(question, sent, reply)
            if isinstance(reply, bytes) and reply.startswith(b"SERVER_ERROR "):
                self._errors[reply.split(b" ")[1].decode()] += 1
                question.failed(ended)
            else:
                question.take(reply, sent, ended)

    def _failed(self, questions, sent, kind, error):
        ended = time.monotonic()
        for question in questions:
            question.failed(ended)
            for key in question.keys:
                self._histories[key].record(sent, self._name, question.what, f"{type(error).__name__}: {error}")
        if kind is not None:
            what = ", ".join(question.what for question in questions)
            self._violated(kind, questions[0].keys[0], f"{what}: {error}")

    # -- operations

    def _get(self):
        return self.retrieval([self._key()])

    def _gets(self):
        return self.retrieval([self._key()], cas=True)

    def _multi_get(self):
        keys = self._chance.sample(self._keys, self._chance.choice(MANY))
        return self.retrieval([*keys, self._chance.choice(self._counters)] if self._counters else keys, cas=self._chance.random() < 0.5)

    def _gat(self):
        return self.retrieval([self._key()], cas=self._chance.random() < 0.5, life=LIFE)

    def _touch(self):
        key = self._key()
        return Question(self._dialect().touch(key, LIFE), "touch", [key], self._expecting(key, b"TOUCHED", b"NOT_FOUND"), _nothing)

    def _set(self):
        return self._storage(b"set", self._key())

    def _add(self):
        return self._storage(b"add", self._key())

    def _replace(self):
        return self._storage(b"replace", self._key())

    def _cas(self):
        """With the number of a value that was read recently; if there is none, gets."""
        if not self._found:
            return self._gets()
        key = self._chance.choice(list(self._found))
        number, value = self._found.pop(key)
        return self._storage(b"cas", key, number, value)

    def _append(self):
        key = self._key()
        self._appended += 1
        element = b"%b-%d|" % (self._name.replace(" ", "-").encode(), self._appended)

        def take(reply, sent, ended):
            if reply == b"STORED":
                self._counts["writes"] += 1
            elif reply not in REFUSALS:
                self._wrong(key, "append", reply)

        return Question(self._dialect().store(b"append", key, element), f"append {element.decode()}", [key], take, _nothing)

    def _delete(self):
        key = self._key()
        history = self._histories[key]

        def take(reply, sent, ended):
            if reply in (b"DELETED", b"NOT_FOUND"):
                self._counts["writes"] += 1
                history.acknowledged(sent, ended)
            else:
                self._wrong(key, "delete", reply)

        return Question(self._dialect().delete(key), "delete", [key], take, _nothing)

    def _incr(self):
        key = self._chance.choice(self._counters)
        history = self._histories[key]
        floor, known = history.floor, history.known()

        def take(reply, sent, ended):
            if reply.isdigit():
                self._counts["increments"] += 1
                self._judge_count(key, "incr", int(reply), floor, known, True)
            elif reply == b"NOT_FOUND":
                self._lacking.append(key)
            else:
                self._wrong(key, "incr", reply)

        return Question(self._dialect().count(b"incr", key), "incr", [key], take, _nothing)

    def _set_counter(self):
        return self._counter_storage(b"set", self._chance.choice(self._counters))

    # -- requests

    def _key(self):
        return self._chance.choice(self._keys)

    def _dialect(self):
        return self._dialects[-1] if self._chance.random() < META_PART else self._dialects[0]

    def _storage(self, verb, key, cas=None, old=b""):
        history = self._histories[key]
        number = history.next_number()
        data = values.compose(key, number, self._chance.choice(SIZES)) + b"|"
        return self._storing(verb, history, number, data, cas, old)

    def _counter_storage(self, verb, key):
        history = self._histories[key]
        number = history.next_number()
        return self._storing(verb, history, number, b"%d" % history.first_value(number))

    def _storing(self, verb, history, number, data, cas=None, old=b""):
        def take(reply, sent, ended):
            if reply == b"STORED":
                self._counts["writes"] += 1
                history.acknowledged(sent, ended, number)
                if cas is not None:
                    self._judged(history.replaced(old), history.key, f"cas with the number {cas}")
            elif reply in REFUSALS and verb != b"set":
                history.refused(number, ended)
            else:
                history.unknown(number, ended)
                self._wrong(history.key, verb.decode(), reply)

        what = f"{verb.decode()} number {number}" + ("" if cas is None else f" with cas {cas}")
        wire = self._dialect().store(verb, history.key, data, cas)
        return Question(wire, what, [history.key], take, lambda ended: history.unknown(number, ended))

    def retrieval(self, keys, cas=False, life=None):
        floors = {key: self._histories[key].floor for key in keys}
        known = {key: self._histories[key].known() for key in keys if key in self._load.counters}
        dialect = self._dialect()
        what = f"{dialect.name} {'get' if life is None else 'gat'}{'s' if cas else ''}"

        def take(items, sent, ended):
            self._counts["hits"] += len(items)
            self._counts["misses"] += len(keys) - len(items)
            if not {item.key for item in items} <= floors.keys():
                self._wrong(keys[0], what, repr([item.key for item in items]).encode())
                return
            for item in items:
                if item.key in known:
                    self._judge_count(item.key, what, int(item.data), floors[item.key], known[item.key], False)
                    continue
                self._judge_value(item, what, floors[item.key])
                if cas:
                    self._found[item.key] = item.cas, item.data

        return Question(dialect.retrieve(keys, cas, life), what, keys, take, _nothing)

    # -- judging

    def _judge_value(self, item, what, floor):
        history = self._histories[item.key]
        written, _, appended = item.data.partition(b"|")
        origin = values.read(written)
        if origin is None or origin.key != item.key:
            self._violated(IMPOSSIBLE, item.key, f"{what} returned {item.data[:100]!r}")
            return
        self._judged(history.judge(origin.number, floor), item.key, f"{self._name} read number {origin.number} by {what}")
        elements = appended.split(b"|")[:-1]
        if len(elements) != len(set(elements)):
            self._violated(REPEATED, item.key, f"{what} returned the elements {appended[-200:]!r}")

    def _judge_count(self, key, what, value, floor, known, counted):
        verdict = self._histories[key].judge_count(value, floor, known, counted)
        self._judged(verdict, key, f"{self._name} received {value} by {what}; known before: {known.get(value // CounterHistory.SPAN, 0)}")

    def _judged(self, verdict, key, what):
        if verdict != FINE:
            self._violated(verdict, key, what)

    def _expecting(self, key, *replies):
        def take(reply, sent, ended):
            if reply not in replies:
                self._wrong(key, "touch", reply)

        return take

    def _wrong(self, key, what, reply):
        self._violated(WRONG_REPLY, key, f"{what} was answered {reply[:100]!r}")

    def _violated(self, kind, key, what):
        self._load.results.violated(kind, self._histories[key], f"{what}, at {clock(time.monotonic())}")

    # -- for the record

    def _record(self, question, sent, reply):
        if isinstance(reply, bytes):
            for key in question.keys:
                self._histories[key].record(sent, self._name, question.what, reply.decode(errors="replace"))
            return
        found = {item.key: item.data for item in reply}
        for key in question.keys:
            data = found.get(key, b"nothing")
            origin = values.read(data.partition(b"|")[0]) if b"|" in data else None
            words = data.decode(errors="replace")[:60] if origin is None else f"number {origin.number}"
            self._histories[key].record(sent, self._name, question.what, words)
