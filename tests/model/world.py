"""A world for the explorer: two clients, gmproxy, model servers, and at most one failure.

These are the events:

    client 1 sends set a 0 0 3 / 100            one step of its script, sent at once, after the replies to the step before
    A.1 replies to request 2, get a             on the first connection to A; the reply arrives at gmproxy
    A.1 executes request 2, get a               and replies later
    A answers gmproxy's own delete a            the request of a health check or a recovery, on its own connection
    A closes, 1 of 2 requests executed          a failure

The time at which a server executes a request only matters if the server also gets a request on another connection, or fails. So the execution is
an event of its own only while a health check or a recovery waits for a reply of this server, or a connection to it was given up; and the event
of a failure contains the number of executed requests. Otherwise a request is executed just before its reply.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from model.adapter import ClientEnd, Proxy, config_of
from model.clients import INITIAL, KEY, OTHER, Command, Script, operations, retrieve, take_reply
from model.explorer import Violation
from model.promises import CHANGES, Operation, excuse, explain, in_order
from model.servers import Item, Link, MemcachedModel

#: The name of the state of the proxy and its clients, in what an event touches.
PROXY = "proxy"


class Service(NamedTuple):
    """A configuration of gmproxy, and the initial items of its servers.

    arguments            its command line, without servers
    primaries, backups   names of servers, a letter each
    empty                the servers that do not have the keys
    just_started         True: the uptime of the servers is short, so they are warming
    """

    arguments: tuple[str, ...]
    primaries: str
    backups: str = ""
    empty: str = ""
    just_started: bool = False


class Failure(NamedTuple):
    """At most one failure happens in a path: one of `kinds`, to one of `servers`."""

    kinds: tuple[str, ...]
    servers: str


#: Failures of a server.
#:
#: closes        it closes its connections; it has executed some of the requests that it has not replied to
#: times out     it does not reply in time: its connections are given up, and it executes their requests later
#: is ejected    the same, and it is ejected until a probe succeeds
#: restarts      it is restarted with an empty memory
#: evicts        it evicts both keys. This is no failure, but its backup may have keys that it lacks from then on
CLOSES, TIMES_OUT, IS_EJECTED, RESTARTS, EVICTS = KINDS = ("closes", "times out", "is ejected", "restarts", "evicts")

#: The initial cas number of each server. A backup is one behind: its number of a value is the primary's number of the previous value. The
#: numbers of two primaries are disjoint: with auto_eject_hosts a cas may reach a stand-in server, where an equal number would be chance.
FIRST_CAS = {"A": 1000, "B": 2000}
FIRST_CAS_OF_BACKUPS = 999

NO_FAILURE = Failure((), "")


class World:
    """The world that the explorer searches.

    scripts   the scripts of the clients 1 and 2
    judged    final states that were judged already; shared by the worlds of one exploration
    """

    def __init__(self, service: Service, scripts: list[Script], failure: Failure, judged: set[Any]) -> None:
        self._judged = judged
        self._failure = failure
        names = service.primaries + service.backups
        self._models = {name: MemcachedModel(name, FIRST_CAS_OF_BACKUPS if name in service.backups else FIRST_CAS[name]) for name in names}
        self._proxy = Proxy(config_of(service.arguments, service.primaries, service.backups), list(self._models.values()))
        self._clients = [Client(number, script, self._proxy.accept()) for number, script in enumerate(scripts, 1)]
        self._primaries = service.primaries
        self._everybody = frozenset(client.number for client in self._clients)
        self._now = 0
        self._may_fail = bool(failure.kinds)
        self._has_failed = False
        for name, model in self._models.items():
            model.started_at = self._proxy.now if service.just_started else None
            for key in (KEY, OTHER):
                if name not in service.empty and (name in service.backups or self._proxy.primary_of(key) == name):
                    model.items[key] = Item(INITIAL, b"0", model.cas)

    def __enter__(self) -> World:
        self._running = self._proxy.running()
        self._running.__enter__()
        self._proxy.settle(self._everybody)
        return self

    def __exit__(self, *failure: Any) -> None:
        self._proxy.close()
        self._running.__exit__(*failure)

    # -- events

    def enabled(self) -> list[str]:
        events = [f"client {client.number} sends {client.words()}" for client in self._clients if client.may_send()]
        for name, model in self._models.items():
            question = self._proxy.asked.get(name)
            is_watched = question is not None or any(link.given_up for link in model.links)
            for link in model.links:
                if link.requests and (is_watched or link.given_up):
                    events.append(f"{link.name} executes request {link.executed + 1}, {_words(link.requests[0])}")
                if link.is_busy() and not link.given_up:
                    events.append(f"{link.name} replies to request {link.replied + 1}, {_words(link.next_to_reply())}")
            if question is not None:
                events.append(f"{name} answers gmproxy's own {_words(question)}")
        if self._may_fail and not all(client.is_finished() for client in self._clients):
            events += self._failures()
        return events

    def _failures(self) -> list[str]:
        events = []
        for name in self._failure.servers:
            requests = sum(len(link.requests) for link in self._models[name].links)
            for kind in self._failure.kinds:
                if kind in (CLOSES, EVICTS):  # the number of executed requests makes a difference
                    events += [f"{name} {kind}, {executed} of {requests} requests executed" for executed in range(requests + 1)]
                else:
                    events.append(f"{name} {kind}")
        return events

    def happen(self, event: str) -> frozenset[str]:
        self._now += 1
        self._proxy.now += 1.0
        subject, verb, *_ = event.split()
        before = self._proxy.shared_state()
        touched, askers = self._act(event)
        sent = self._proxy.settle(askers)
        answered = [client.receive(self._now) for client in self._clients]
        if verb == "executes":
            ended = all(link.name != subject for model in self._models.values() for link in model.links)
            return touched | {PROXY} if ended else touched  # a recovery may have waited until this connection is closed
        if verb == "replies" and not sent and not any(answered) and self._proxy.shared_state() == before:
            touched -= {PROXY}  # it affects only its clients: the reply of a read, of a copy, or a part of a fan-out
        return touched | {f"client {number}" for number in askers}

    def _act(self, event: str) -> tuple[frozenset[str], frozenset[int]]:
        """Execute `event`. Returns (what it touches, without clients; the clients for which gmproxy acts afterwards)."""
        subject, verb, *_ = event.split()
        if subject == "client":
            client = self._clients[int(verb) - 1]
            client.send(self._now)
            return frozenset((PROXY,)), frozenset((client.number,))
        if verb in ("executes", "replies"):
            link = self._link(subject)
            name = link.server.name
            if verb == "executes":
                link.execute()
                return frozenset((name,)), frozenset()
            askers = link.askers[0]
            self._proxy.reply(link)
            return frozenset((PROXY, name)), askers
        if verb == "answers":
            self._proxy.answer_question(subject)
        else:
            kind, _, executed = event.removeprefix(subject + " ").partition(", ")
            self._fail(subject, kind, int(executed.split()[0]) if executed else 0)
        return frozenset((PROXY, subject)), self._everybody

    def _fail(self, name: str, kind: str, executed: int) -> None:
        """The server first executes at most `executed` requests of each connection. It has had one connection until now."""
        self._may_fail = False
        self._has_failed = True
        model = self._models[name]
        for link in model.links:
            for _ in range(min(executed, len(link.requests))):
                link.execute()
        if kind == TIMES_OUT:
            self._proxy.time_out(name)
        elif kind == IS_EJECTED:
            self._proxy.fail_too_often(name)
        elif kind == EVICTS:
            model.items.clear()
        else:
            for link in model.links[:]:
                self._proxy.close_link(link)
            if kind == RESTARTS:
                model.restart(self._proxy.now + 0.5)

    def _link(self, name: str) -> Link:
        (link,) = [link for model in self._models.values() for link in model.links if link.name == name]
        return link

    # -- the end

    def finish(self) -> None:
        for client in self._clients:
            if not client.is_finished():
                raise Violation(f"client {client.number} waits for ever")
        self._check_held()
        state = self._state()
        if state in self._judged:
            return
        self._judged.add(state)
        reader = Client(0, [], self._proxy.accept())
        self._read(reader)
        for name in self._primaries:
            self._proxy.eject(name)
            self._read(reader)
            self._proxy.restore(name)
            self._run_to_the_end()
        self._read(reader)
        self._check_held()
        for key in (KEY, OTHER):
            history = self._history(key) + tuple(each for of, each in reader.history if of == key)
            if not explain(excuse(history) if self._has_failed else history, INITIAL):
                lines = "\n".join(f"  {each}" for each in sorted(history, key=lambda each: each.began))
                raise Violation(f"no order of these explains what was read of {key.decode()}:\n{lines}")

    def _check_held(self) -> None:
        held = self._proxy.held()
        if held:
            raise Violation("at the end " + "; ".join(held))

    def _history(self, key: bytes) -> tuple[Operation, ...]:
        return tuple(each for client in self._clients for of, each in client.history if of == key)

    def _state(self) -> Any:
        """The final state of a path, as far as it is judged. Many paths have the same."""
        items = [tuple(sorted((key, item.value) for key, item in model.items.items())) for model in self._models.values()]
        return self._has_failed, in_order(self._history(KEY)), in_order(self._history(OTHER)), tuple(items), self._proxy.shared_state()

    def _read(self, reader: Client) -> None:
        self._now += 1
        reader.ask([retrieve(b"get", KEY, OTHER)], self._now)
        self._now += 1
        self._run_to_the_end()
        reader.receive(self._now)

    def _run_to_the_end(self) -> None:
        self._proxy.settle(frozenset())
        while events := self.enabled():
            self.happen(events[-1])


class Client:
    """
    number    1 or 2
    history   (key, Operation) of all commands with replies
    """

    def __init__(self, number: int, script: Script, end: ClientEnd) -> None:
        self.number = number
        self.history: list[tuple[bytes, Operation]] = []
        self._steps = list(script)
        self._end = end
        self._waiting: list[Command] = []
        self._received = b""
        self._last_reply = b""
        self._began = 0
        self._turn = 0

    def may_send(self) -> bool:
        return bool(self._steps) and not self._waiting

    def is_finished(self) -> bool:
        return not self._steps and not self._waiting

    def words(self) -> str:
        return ", ".join(_words(command.line) for command in self._next_commands())

    def _next_commands(self) -> list[Command]:
        step = self._steps[0]
        return step(self._last_reply) if callable(step) else step

    def send(self, now: int) -> None:
        commands = self._next_commands()
        del self._steps[0]
        self.ask(commands, now)

    def ask(self, commands: list[Command], now: int) -> None:
        self._began = now
        self._waiting = list(commands)
        self._end.send(b"".join(command.line for command in commands))

    def receive(self, now: int) -> bool:
        """Read the replies that have arrived. Returns True if one of them is of a write: requests sent from now on must see it."""
        self._received += self._end.receive()
        changed = False
        while self._received:
            if not self._waiting:
                raise Violation(f"client {self.number} has got {self._received!r} without having asked")
            taken = take_reply(self._waiting[0], self._received)
            if taken is None:
                break
            self._last_reply, self._received = taken
            command = self._waiting.pop(0)
            self._turn += 1
            changed = changed or command.kind in CHANGES
            self.history += operations(command, self._last_reply, self._began, now, self.number, self._turn)
        return changed


def _words(request: bytes) -> str:
    """A request as text for a path."""
    return request.rstrip(b"\r\n").replace(b"\r\n", b" / ").decode()
