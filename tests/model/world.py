"""A world for the explorer: two or more clients, gmproxy, model servers, and at most one failure.

These are the events:

    client 1 sends set a 0 0 3 / 100            one step of its script, sent at once, after the replies to the step before
    A.1 replies to request 2, get a             on the first connection to A; the reply arrives at gmproxy
    A.1 executes request 2, get a               and replies later
    A answers gmproxy's own delete a            the request of a health check or a recovery, on its own connection
    A closes, 1 of 2 requests executed          a failure
    w2 ticks                                    it notices that another worker has ejected or restored a server, or has ended a fill
    w2 waits no longer                          for a fill of a worker that has died: the timeout is over
    w2 adopts                                   it takes over what a worker that has died has left
    w2 continues its recovery                   after a pause of a timeout

With several workers the names of connections and failures contain the worker: A.w2.1, "A answers w2's own delete a", "A closes for w2",
"w2 dies, 1 of 1 sent to A".

The time at which a server executes a request only matters if the server also gets a request on another connection, or fails. So with one worker
the execution is an event of its own only while a health check or a recovery waits for a reply of this server, or a connection to it was given up;
and the event of a failure contains the number of executed requests. Otherwise a request is executed just before its reply. With several workers
each execution is an event of its own.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from model.adapter import Proxy, Worker, config_of
from model.clients import INITIAL, KEY, OTHER, Script, retrieve
from model.explorer import Touched, Violation
from model.promises import CHANGES, Operation, excuse, explain, in_order, stays_resurrected
from model.scripted_client import Client, as_words
from model.servers import Item, Link, MemcachedModel
from model.service import CLOSES, DIES, EVICTS, IS_EJECTED, RESTARTS, TIMES_OUT, Failure, Service
from model.shared_state import ACCESSES
from model.tracked import CAN_TRACK

#: The names of states, in what an event touches: what has been acknowledged to clients, and the memory that workers share.
#: Also whether a failure may still happen, and whether a client has still something to send or to receive.
ACKNOWLEDGED, SHARED, FAILURE, UNFINISHED = "acknowledged", "shared", "failure", "unfinished"

#: Events that change the shared memory as a whole.
OF_ALL_SHARED = (DIES, "adopts")

#: No path needs as many events after its clients have their replies.
LONGEST_END = 100

#: Failures that happen to one worker of several.
OF_ONE_WORKER = (CLOSES, TIMES_OUT, IS_EJECTED)

#: The initial cas number of each server. A backup is one behind: its number of a value is the primary's number of the previous value. The
#: numbers of two primaries are disjoint: with auto_eject_hosts a cas may reach a stand-in server, where an equal number would be chance.
FIRST_CAS = {"A": 1000, "B": 2000}
FIRST_CAS_OF_BACKUPS = 999


class _Effect(NamedTuple):
    """What an event has done at first: the workers that act afterwards, the clients for which they do, and the servers that it has changed or whose
    items it has read."""

    workers: list[Worker]
    askers: frozenset[int]
    changed: frozenset[str] = frozenset()
    depends_on: frozenset[str] = frozenset()


class World:
    """The world that the explorer searches.

    scripts   the scripts of the clients 1, 2 ...: with several workers, client 1 is connected to the first worker, client 2 to the second one ...
    judged    final states that were judged already; shared by the worlds of one exploration
    """

    def __init__(self, service: Service, scripts: list[Script], failure: Failure, judged: set[Any]) -> None:
        self._judged = judged
        self._failure = failure
        names = service.primaries + service.backups
        self._models = {name: MemcachedModel(name, FIRST_CAS_OF_BACKUPS if name in service.backups else FIRST_CAS[name]) for name in names}
        config = config_of(service.arguments, service.primaries, service.backups, service.has_replicas)
        self._proxy = Proxy(config, list(self._models.values()), service.workers, service.proxies)
        self._workers = self._proxy.workers
        self._clients = [
            Client(number, script, self._workers[(number - 1) % len(self._workers)]) for number, script in enumerate(scripts, 1)
        ]
        #: The servers that are ejected together at the end, each time.
        self._ejected_at_the_end = list(service.primaries) + ([service.primaries + service.backups[:-1]] if service.has_replicas else [])
        self._has_several_workers = len(self._workers) > 1
        self._has_several_proxies = service.proxies > 1
        #: With two clients it does not matter whether a read ends before the other client's request begins: nobody else may have seen its value.
        self._ends = CHANGES if len(scripts) == 2 else CHANGES | {"read"}
        self._now = 0
        self._may_fail = bool(failure.kinds)
        self._has_failed = False
        self._missed_a_write = False
        self._has_orphans = False
        self._states: dict[str, Any] = {}
        for name, model in self._models.items():
            model.started_at = self._proxy.now if service.just_started else None
            for key in (KEY, OTHER):
                if name not in service.empty and (name in service.backups or self._workers[0].primary_of(key) == name):
                    model.items[key] = Item(INITIAL, b"0", model.cas)

    def __enter__(self) -> World:
        self._running = self._proxy.running()
        self._running.__enter__()
        for worker in self._workers:
            self._settle(worker, frozenset())
        self._states = self._states_after(self._workers)
        return self

    def __exit__(self, *failure: Any) -> None:
        self._proxy.close()
        self._running.__exit__(*failure)

    def _living(self) -> list[Worker]:
        return [worker for worker in self._workers if not worker.is_dead]

    # -- events

    def enabled(self) -> list[str]:
        events = [f"client {client.number} sends {client.words()}" for client in self._clients if client.may_send()]
        for name, model in self._models.items():
            is_watched = self._has_several_workers or name in self._workers[0].asked or any(link.given_up for link in model.links)
            for link in model.links:
                if link.requests and (is_watched or link.given_up):
                    events.append(f"{link.name} executes request {link.executed + 1}, {as_words(link.requests[0])}")
                if not link.given_up and (link.replies or (link.requests and not self._has_several_workers)):
                    events.append(f"{link.name} replies to request {link.replied + 1}, {as_words(link.next_to_reply())}")
            for worker in self._living():
                if name in worker.asked:
                    events.append(f"{name} answers {worker.name or 'gmproxy'}'s own {as_words(worker.asked[name])}")
        for worker in self._living() if self._has_several_workers else ():
            if worker.must_follow() or worker.must_release():
                events.append(f"{worker.name} ticks")
            elif self._has_orphans and worker.is_waiting():
                events.append(f"{worker.name} waits no longer")
            if self._has_orphans:
                events.append(f"{worker.name} adopts")
            if worker.may_continue():
                events.append(f"{worker.name} continues its recovery")
        if self._may_fail and not self._are_finished():
            events += self._failures()
        return events

    def _are_finished(self) -> bool:
        return all(client.is_finished() for client in self._clients)

    def _failures(self) -> list[str]:
        events = []
        for kind in self._failure.kinds:
            if kind == DIES:
                for worker in self._workers:
                    events += self._deaths(worker)
                continue
            for name in self._failure.servers:
                requests = sum(len(link.requests) for link in self._models[name].links)
                if self._has_several_workers:
                    events += (
                        [f"{name} {kind} for {worker.name}" for worker in self._workers] if kind in OF_ONE_WORKER else [f"{name} {kind}"]
                    )
                elif kind in (CLOSES, EVICTS):  # the number of executed requests makes a difference
                    events += [f"{name} {kind}, {executed} of {requests} requests executed" for executed in range(requests + 1)]
                else:
                    events.append(f"{name} {kind}")
        return events

    @staticmethod
    def _deaths(worker: Worker) -> list[str]:
        links = [link for link in worker.links() if link.requests]
        numbers = itertools.product(*[range(len(link.requests), -1, -1) for link in links])
        return [
            ", ".join([f"{worker.name} dies", *(f"{sent} of {len(link.requests)} sent to {link.name}" for sent, link in zip(each, links))])
            for each in numbers
        ]

    def happen(self, event: str) -> Touched:
        self._now += 1
        self._proxy.now += 1.0
        subject, verb = event.replace(",", "").split()[:2]
        before = self._states
        ACCESSES.clear()
        effect = self._act(event)
        sent = False
        for worker in effect.workers:
            sent = self._settle(worker, effect.askers) or sent
        ended = [operation for client in self._clients for operation in client.receive(self._now)]
        if self._has_several_proxies:
            self._settle_clients()
        self._states = after = self._states_after(effect.workers)
        self._missed_a_write = self._missed_a_write or any(
            backend.behind for worker in effect.workers for backend in worker.backends.values()
        )

        states = frozenset(f"worker {worker.name}" for worker in effect.workers)
        changed = effect.changed | states | {f"client {number}" for number in effect.askers}
        depends_on = set(effect.depends_on)
        if ended and self._are_finished():
            changed |= {UNFINISHED}
        acknowledged = any(operation.kind in self._ends for operation in ended)
        if acknowledged and self._has_several_workers:
            changed |= {ACKNOWLEDGED}
        if subject == "client":
            depends_on.add(ACKNOWLEDGED)
        if effect.workers and self._has_several_workers:
            depends_on.add(SHARED)
            if verb in OF_ALL_SHARED or (not CAN_TRACK and before[SHARED] != after[SHARED]):
                changed |= {SHARED}
            depends_on |= ACCESSES.read
            changed |= ACCESSES.changed
        if verb == "replies" and not sent and not acknowledged and before == after:
            changed -= states  # it affects only its clients: the reply of a read, of a copy, or a part of a fan-out
            if not CAN_TRACK:
                depends_on.discard(SHARED)
        return Touched(changed, frozenset(depends_on))

    def _settle_clients(self) -> None:
        """With several proxies a write has ended when its copy has, too: the guarantee does not cover two writers at the same time."""
        busy = {number for model in self._models.values() for link in model.links for askers in link.askers for number in askers}
        for client in self._clients:
            if client.number not in busy:
                client.settle(self._now)

    def _settle(self, worker: Worker, askers: frozenset[int]) -> bool:
        """Run `worker` until it waits for the next event. Returns True if it has sent requests to servers."""
        with self._proxy.acting(worker):
            return worker.settle(askers)

    def _states_after(self, workers: list[Worker]) -> dict[str, Any]:
        """The state of the shared memory and of each worker, after `workers` have acted."""
        if not workers:
            return self._states
        return {**self._states, SHARED: self._proxy.shared_memory(), **{worker.name: worker.state() for worker in workers}}

    def _clients_of(self, workers: list[Worker]) -> frozenset[int]:
        return frozenset(client.number for client in self._clients if client.worker in workers)

    def _act(self, event: str) -> _Effect:
        """Execute `event`, until gmproxy acts."""
        subject, verb, *words = event.replace(",", "").split()
        if subject == "client":
            client = self._clients[int(verb) - 1]
            with self._proxy.acting(client.worker):
                client.send(self._now)
            return _Effect([client.worker], frozenset((client.number,)))
        if verb == "executes":
            return self._execute(self._link(subject))
        if verb == "replies":
            return self._reply(self._link(subject))
        if verb == "answers":
            return self._answer(subject, self._worker(words[0].removesuffix("'s")))
        if verb in ("waits", "ticks", "adopts", "continues"):
            return self._continue(self._worker(subject), verb)
        self._may_fail = False
        self._has_failed = True
        if verb == DIES:
            return self._die(self._worker(subject), [int(part.split()[0]) for part in event.split(", ")[1:]])
        kind, _, executed = event.removeprefix(subject + " ").partition(", ")
        return self._fail(subject, kind, int(executed.split()[0]) if executed else 0)

    def _execute(self, link: Link) -> _Effect:
        name = frozenset((link.server.name,))
        changes = link.server.changes(link.requests[0])
        link.execute()
        worker = self._worker(link.owner)
        ended = link.given_up and not link.requests  # a recovery may wait until this connection is closed
        if ended and worker.is_dead:
            link.close()
            workers = self._living()
        else:
            workers = [worker] if ended else []
        link_name = frozenset((f"link {link.name}",))
        return _Effect(workers, frozenset(), name | link_name if changes else link_name, name)

    def _reply(self, link: Link) -> _Effect:
        name = frozenset() if link.replies else frozenset((link.server.name,))
        askers = link.askers[0]
        worker = self._worker(link.owner)
        with self._proxy.acting(worker):
            worker.reply(link)
        return _Effect([worker], askers, name)

    def _answer(self, name: str, worker: Worker) -> _Effect:
        changes = self._models[name].changes(worker.asked[name])
        with self._proxy.acting(worker):
            worker.answer_question(name)
        return _Effect([worker], self._clients_of([worker]), frozenset((name,)) if changes else frozenset())

    def _continue(self, worker: Worker, verb: str) -> _Effect:
        """Time has passed."""
        with self._proxy.acting(worker):
            if verb == "waits":
                worker.wait_too_long()
            elif verb == "ticks":
                worker.tick()
            elif verb == "adopts":
                self._has_orphans = False
                worker.adopt()
                for client in self._clients:
                    if client.worker.is_dead:
                        client.adopted(self._now)
            else:
                worker.end_pauses()
        return _Effect([worker], self._clients_of([worker]))

    def _fail(self, name: str, kind: str, executed: int) -> _Effect:
        """The server first executes at most `executed` requests of each connection. It has had one connection of each worker until now."""
        kind, _, owner = kind.partition(" for ")
        model = self._models[name]
        workers = [self._worker(owner)] if owner else self._workers
        links = [f"link {link.name}" for worker in workers for link in worker.links() if link.server is model]
        changed = frozenset((FAILURE, *links)) if owner else frozenset((FAILURE, name, *links))
        effect = _Effect(workers, self._clients_of(workers), changed, frozenset((UNFINISHED,)))
        for link in model.links:
            for _ in range(min(executed, len(link.requests))):
                link.execute()
        if kind == EVICTS:
            model.items.clear()
            return effect
        for worker in workers:
            with self._proxy.acting(worker):
                if kind == TIMES_OUT:
                    worker.time_out(name)
                elif kind == IS_EJECTED:
                    worker.fail_too_often(name)
                else:
                    for link in [link for link in worker.links() if link.server is model]:
                        worker.close_link(link)
        if kind == RESTARTS:
            model.restart(self._proxy.now + 0.5)
        return effect

    def _die(self, worker: Worker, sent: list[int]) -> _Effect:
        """`sent`: the number of requests that reach the server, for each connection with requests. Those are executed later."""
        worker.die(sent)
        self._proxy.has_died(worker)
        self._has_orphans = True
        for client in self._clients:
            if client.worker is worker:
                client.disconnect(self._now)
        names = frozenset(self._models)
        return _Effect(
            self._living(),
            frozenset(client.number for client in self._clients),
            names | {f"worker {worker.name}", ACKNOWLEDGED, FAILURE, UNFINISHED},
        )

    def _worker(self, name: str) -> Worker:
        """The worker `name`; with one worker, that one."""
        return next((worker for worker in self._workers if worker.name == name), self._workers[0])

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
        readers = [Client(-number, [], worker) for number, worker in enumerate(self._living())]
        self._read(readers)
        for names in self._ejected_at_the_end:
            for worker, name in itertools.product(self._living(), names):
                with self._proxy.acting(worker):
                    worker.eject(name)
            self._read(readers)
            for worker, name in itertools.product(self._living(), names):
                worker.restore(name)
            self.run_to_the_end()
        self._read(readers)
        self._check_held()
        for key in (KEY, OTHER):
            self._judge(key, [each for reader in readers for of, each in reader.history if of == key])

    def _judge(self, key: bytes, reads: list[Operation]) -> None:
        """Raises Violation if `reads`, those at the end, or what clients have received breaks the promise."""
        history = self._history(key)
        if self._has_several_proxies:
            if self._has_failed and self._missed_a_write:
                return  # a proxy could not reach a server that the other may have reached
            wrong = [read for read in reads if stays_resurrected(history, read, INITIAL)]
            if wrong:
                raise Violation(f"{key.decode()} has a value that was overwritten or deleted:\n{_lines([*history, *wrong])}")
            return
        everything = (*history, *reads)
        if not explain(excuse(everything) if self._has_failed else everything, INITIAL):
            raise Violation(f"no order of these explains what was read of {key.decode()}:\n{_lines(everything)}")

    def _check_held(self) -> None:
        held = self._proxy.held()
        if held:
            raise Violation("at the end " + "; ".join(held))

    def _history(self, key: bytes) -> tuple[Operation, ...]:
        return tuple(each for client in self._clients for of, each in client.history if of == key)

    def _state(self) -> Any:
        """The final state of a path, as far as it is judged. Many paths have the same."""
        items = [tuple(sorted((key, item.value) for key, item in model.items.items())) for model in self._models.values()]
        return self._has_failed, in_order(self._history(KEY)), in_order(self._history(OTHER)), tuple(items), self._states_at_the_end()

    def _states_at_the_end(self) -> Any:
        missed = self._has_several_proxies and self._missed_a_write
        return missed, tuple(worker.is_dead or self._states[worker.name] for worker in self._workers)

    def _read(self, readers: list[Client]) -> None:
        """Each of `readers` reads both keys, one after the other."""
        for reader in readers:
            self._now += 1
            with self._proxy.acting(reader.worker):
                reader.ask([retrieve(b"get", KEY, OTHER)], self._now)
            self._now += 1
            self.run_to_the_end()
            reader.receive(self._now)

    def run_to_the_end(self) -> None:
        """Execute all events that are left, in some order."""
        for worker in self._living():
            self._settle(worker, frozenset())
        self._states = self._states_after(self._living())
        for _ in range(LONGEST_END):
            events = self.enabled()
            if not events:
                return
            self.happen(events[-1])
        raise Violation("events follow each other without end")


def _lines(history: Any) -> str:
    return "\n".join(f"  {each}" for each in sorted(history, key=lambda each: each.began))
