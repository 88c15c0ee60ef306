"""One client of the load: sends requests, and judges every reply."""

import time
from collections.abc import Callable
from typing import NamedTuple

from faults import model, tally, values
from faults.client import Item, Lost, NoAnswer, OutOfStep
from faults.dialects import Wire
from faults.pauses import Pauses
from faults.tally import Tally

_KIND = {model.STALE: tally.STALE, model.LOST: tally.STALE_CHANGE, model.REFUSED: tally.REFUSED, model.IMPOSSIBLE: tally.WRONG_VALUE}


class Question(NamedTuple):
    """One request, and what is needed to judge its reply."""

    wire: Wire
    what: str  # name of the request in reports
    take: Callable  # called with the reply: a line, or a list of Item
    keys: list  # of the request
    floors: dict | None = None  # of a retrieval: {key: the floor when it was sent}
    changes: bool = False  # of a retrieval: it is gat or gats, which the proxy treats like a write


class Rules(NamedTuple):
    """What is expected of the proxy, besides right replies.

    hung_after   maximum duration of a request without pauses, seconds; None: a request hung only if it never got a reply
    pauses       times in which the proxy could not reply
    cut_off      cut_off(port of the client): True if its connection ended because its worker was killed
    """

    hung_after: float | None = None
    pauses: Pauses = Pauses()
    cut_off: Callable[[int], bool] = lambda port: False


class Late(NamedTuple):
    """A request that took long. Whether it hung is judged at the end, when all pauses are known."""

    sent: float
    ended: float
    allowed: float
    what: str
    ledger: model.Ledger


class Worker:
    """`own` are the keys that no other client writes; `ledgers` and `counters` (values.Counter) are those of all clients."""

    def __init__(self, name, client, own, ledgers, counters, rules):
        self.name = name
        self.client = client
        self.tally = Tally()
        self._own = frozenset(own)
        self._ledgers = ledgers
        self._counters = counters
        self._rules = rules
        self._late = []

    # -- requests

    def ask(self, *questions, turns=1):
        """Send these requests at once, and judge the replies. Returns the replies; None for no reply, or for an error, after which the outcome is
        unknown.

        `turns`: the number of them that are executed one after the other; each may take `hung_after`.
        """
        sent = time.monotonic()
        try:
            answers = self.client.ask_all(
                b"".join(question.wire.data for question in questions), [question.wire.read for question in questions]
            )
        except Lost as error:
            answers = self._nobody_knows(tally.CONNECTION_LOST, questions, error)
        except NoAnswer as error:
            answers = self._nobody_knows(tally.HUNG, questions, error)
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
        self._note_time(sent, ended, turns, questions)
        return answers

    def tell(self, data, ledger):
        """Send a request that has no reply."""
        try:
            self.client.tell(data)
        except Lost as error:
            self._lost(ledger, str(error))

    def _nobody_knows(self, kind, questions, error):
        """The replies are missing or invalid: record the violation, and return None for each request."""
        words = f"{_words(questions)}: {error}"
        if kind == tally.CONNECTION_LOST:
            self._lost(self._ledgers[questions[0].keys[0]], words)
        else:
            self.violated(kind, self._ledgers[questions[0].keys[0]], words)
        return [None] * len(questions)

    def _lost(self, ledger, words):
        if self._rules.cut_off(self.client.local_port):
            self.tally.cut_off += 1
        else:
            self.violated(tally.CONNECTION_LOST, ledger, words)

    # -- time

    def _note_time(self, sent, ended, turns, questions):
        allowed = self._rules.hung_after
        if allowed is not None and ended - sent > allowed * turns:
            ledger = self._ledgers[questions[0].keys[0]]
            self._late.append(Late(sent, ended, allowed * turns, _words(questions), ledger))

    def judge_times(self):
        """Judge the late requests. Call it at the end, when all pauses are known."""
        for late in self._late:
            wait = late.ended - late.sent - self._rules.pauses.within(late.sent, late.ended)
            self.tally.longest = max(self.tally.longest, wait)
            if wait > late.allowed:
                words = (
                    f"{self.name}: {late.what} took {late.ended - late.sent:.3f} s, {wait:.3f} s of it without a pause; "
                    f"allowed are {late.allowed:.3f} s"
                )
                self.tally.violated(tally.HUNG, late.ended, words, late.ledger)

    # -- judging

    def judge_items(self, question, items):
        found = set()
        for item in items:
            if item.key not in question.floors or item.key in found:
                self.violated(tally.WRONG_REPLY, None, f"{question.what} {question.keys} brought the value of {item.key}")
                return
            found.add(item.key)
            self._judge_item(item, question)
        order = [key for key in question.keys if key in found]
        if order != [item.key for item in items]:
            self.violated(tally.WRONG_REPLY, None, f"{question.what} {question.keys} brought the values in another order")
        self.tally.hits += len(found)
        self.tally.misses += len(question.keys) - len(found)

    def _judge_item(self, item, question):
        ledger = self._ledgers[item.key]
        # Only this client writes its own keys, and it has judged the replies to the earlier requests that it sent at once with this one.
        floor = ledger.floor if item.key in self._own else question.floors[item.key]
        key, numbers = self._origin(item)
        if numbers is None:
            self.violated(tally.DAMAGED, ledger, f"{item.data[:100]!r} ({len(item.data)} bytes)")
        elif key != item.key:
            self.violated(tally.WRONG_VALUE, ledger, f"a value of {key}: {item.data[:100]!r}")
        else:
            verdict = ledger.judge_list(numbers, floor)
            if verdict != model.FINE:
                kind = tally.STALE_CHANGE if verdict == model.STALE and question.changes else _KIND[verdict]
                self.violated(
                    kind,
                    ledger,
                    f"{self.name} found number {_short(numbers)} by {question.what}; when it asked, {floor} was "
                    f"acknowledged; up to {ledger.ceiling} were asked for",
                )

    def _origin(self, item: Item):
        """The key that a value belongs to and the numbers of the writes that made it; (None, None) if the value cannot be parsed."""
        counter = self._counters.get(item.key)
        if counter is not None:
            number = counter.number_in(item.data)
            return (item.key if number is not None else b"another counter", [number]) if item.data.isdigit() else (None, None)
        if item.data.startswith(item.key + b"|"):
            return values.read_list(item.data) or (None, None)
        origin = values.read(item.data)
        return (None, None) if origin is None else (origin.key, [origin.number])

    def judge_count(self, ledger, what, answer):
        """Judge `answer`, the new value of a counter after incr or decr."""
        floor = ledger.floor
        number = self._counters[ledger.key].number_in(answer)
        verdict = model.IMPOSSIBLE if number is None else ledger.counted(number)
        if verdict != model.FINE:
            kind = tally.STALE_CHANGE if verdict == model.STALE else _KIND[verdict]
            self.violated(
                kind,
                ledger,
                f"{what} was answered {answer.decode()}, number {number}; {floor} was acknowledged; up to {ledger.ceiling} were asked for",
            )

    def wrong_reply(self, ledger, what, answer):
        self.violated(tally.WRONG_REPLY, ledger, f"{what} was answered {answer[:100]!r}")

    def violated(self, kind, ledger, what):
        self.tally.violated(kind, time.monotonic(), what, ledger)

    # -- for the record

    def _record(self, question, sent, answer):
        for key in question.keys:
            self._ledgers[key].record(sent, self.name, question.what, answer)

    def _record_items(self, question, sent, items):
        found = {item.key: self._origin(item)[1] for item in items}
        for key in question.keys:
            numbers = found.get(key)
            answer = f"number {_short(numbers)}" if numbers else "damaged" if key in found else "nothing"
            self._ledgers[key].record(sent, self.name, question.what, answer)


def _words(questions):
    """The requests as text, each with its first keys."""
    return ", ".join(f"{question.what} {_first(question.keys)}" for question in questions)


def _first(keys):
    return " ".join(key.decode() for key in keys[:3]) + (" ..." if len(keys) > 3 else "")


def _short(numbers):
    """The last few numbers of a list."""
    return " ".join(map(str, numbers)) if len(numbers) < 6 else f"{numbers[0]} ... " + " ".join(map(str, numbers[-4:]))
