"""The backups' share of every change, so that what they answer for a lost primary is neither missing nor old.

A backup gets the same commands in the same order as the primaries: a pool with backups has one link to each server, so there is one order
of changes for all clients of this worker. Among several workers there is none: a primary and its backup may take the changes of two workers in
different orders (docs/failures.md, "What can still go wrong"). Two servers that get the same commands in the same order give the same answers; where
a backup answers otherwise (it had lost the key, or still had one that the primary had not), the key is deleted on it.

add, replace and cas would come to other results there. Their value goes to the backup when the primary has stored it; if another
change of the key went there meanwhile, nobody knows the order any more and the key is deleted instead.

A change and its copy are twins: each refers to the other until both are answered. With backup_writes = async the client has
its answer as soon as the primary's is there, with sync when both are. A primary that fails is answered for by the copy.
"""

from typing import Any

from gmproxy.backend.backend import Backend
from gmproxy.placement.locators import Locator
from gmproxy.protocol import internal_commands, replica_commands
from gmproxy.protocol.cas_numbers import BACKUP_SET
from gmproxy.protocol.cas_numbers import mark as mark_cas_number
from gmproxy.protocol.commands import Command
from gmproxy.protocol.request import COPY, PRIMARY, ReplySink, Request, new_request


class Copies:
    """
    router             answers for a change that neither server could make
    backups, locator   list of Backend, and gmproxy.placement.locators.Locator: key -> index into it
    waited_for         True if the client's answer waits for the backup's (backup_writes = sync)
    lost               copies that failed
    differed           copies that a backup answered otherwise than the primary
    """

    __slots__ = ("router", "backups", "locator", "waited_for", "lost", "differed", "_undecided")

    def __init__(self, router: Any) -> None:
        self.router = router
        self.backups: list[Backend] = []
        self.locator: Locator | None = None
        self.waited_for = False
        self.lost = 0
        self.differed = 0
        self._undecided = {}  # key -> the Outcomes that the primary has not told yet

    def serve(self, backups: list[Backend], locator: Locator | None, waited_for: bool) -> None:
        """Copy to these from now on. What is on its way stays so."""
        self.backups = backups
        self.locator = locator
        self.waited_for = waited_for

    def undecided(self) -> int:
        """How many changes by outcome are on their way."""
        return sum(map(len, self._undecided.values()))

    def backup_of(self, key: bytes) -> Backend:
        return self.backups[self.locator.locate(key)]

    # -- changes

    def mirror_write(self, request: Request, primary: Backend) -> None:
        """`request`, a change, is about to be sent to `primary`."""
        if self._is_same_server(request.key, primary):
            return
        if request.command.conditional:
            outcome = Outcome(request.sink, self)
            request.sink = outcome
            self._undecided.setdefault(request.key, []).append(outcome)
            return
        if request.command.is_read:
            self.send_touch(request, request.key, primary)
            return
        if self._undecided:
            self._overtake(request.key)
        self._send_twin(request, request.command, request.line)

    def send_touch(self, request: Request, key: bytes, primary: Backend) -> None:
        """What a retrieval changes is the life of the item: the backup need not send the value for that."""
        if self._is_same_server(key, primary):
            return
        if self._undecided:
            self._overtake(key)
        command, key, line = replica_commands.touch_command(request, key)
        self._submit(new_request(command, key, line))

    def _is_same_server(self, key: bytes, primary: Backend) -> bool:
        """True if `key` has its own primary for a backup, as some have where the lists overlap: what is made there twice is wrong."""
        return self.backup_of(key).label == primary.label

    def _send_twin(self, request: Request, command: Command, line: bytes) -> None:
        copy = new_request(command, request.key, line)
        copy.mirror = request
        request.mirror = copy
        self._submit(copy)

    def _submit(self, copy: Request) -> None:
        copy.role = COPY
        self.backup_of(copy.key).submit(copy)

    def _send_value(self, request: Request) -> None:
        """The primary has stored what `request` says: so must the backup."""
        command, _, line = replica_commands.unconditional_write(request)
        reply, request.reply = request.reply, None  # should the copy fail at once, it is not yet that which is waited for
        self._send_twin(request, command, line)
        request.reply = reply

    def _forget(self, key: bytes) -> None:
        """Nobody knows what the backup has under `key`, so it had better have nothing."""
        command, line = internal_commands.delete(key)
        self._submit(new_request(command, key, line))

    def _overtake(self, key: bytes) -> None:
        for outcome in self._undecided.get(key, ()):
            outcome.overtaken = True

    def overtake_all(self) -> None:
        """All keys are about to be flushed."""
        for outcomes in self._undecided.values():
            for outcome in outcomes:
                outcome.overtaken = True

    def decided(self, outcome: "Outcome", request: Request) -> ReplySink | None:
        """The primary has told what came of a change by outcome. Returns the session that waits for no more replies, if any."""
        self.forget_outcome(outcome, request.key)
        if request.role == PRIMARY and request.reply.startswith(request.command.success_prefixes):
            if outcome.overtaken:
                self._forget(request.key)
            else:
                self._send_value(request)
                if self.waited_for and request.mirror.error is None:
                    return None
        return request.complete()

    def forget_outcome(self, outcome: "Outcome", key: bytes) -> None:
        """`outcome`, of a change of `key`, is not undecided any longer."""
        outcomes = self._undecided.get(key, [])
        if outcome in outcomes:
            outcomes.remove(outcome)
            if not outcomes:
                del self._undecided[key]

    # -- answers

    def on_reply(self, request: Request) -> ReplySink | None:
        """One of two twins has its reply. Returns the session that waits for no more replies by this, if any."""
        if request.role == COPY:
            return self._copy_answered(request, request.mirror)
        copy = request.mirror
        if copy.error is not None:
            request.mirror = None
        elif copy.reply is not None:
            self._compare(request, copy)
        elif self.waited_for:
            return None
        return request.complete()

    def _copy_answered(self, copy: Request, request: Request) -> ReplySink | None:
        if request.error is not None:
            copy.mirror = request.mirror = None
            request.reply = copy.reply
            mark_cas_number(request, BACKUP_SET)
            return request.complete()
        if request.reply is None:
            return None
        self._compare(request, copy)
        return request.complete() if self.waited_for else None

    def _compare(self, request: Request, copy: Request) -> None:
        """Both have answered: let them go of each other, and see to it that the backup has no value that the primary has not."""
        copy.mirror = request.mirror = None
        if copy.reply != request.reply and replica_commands.replies_differ(request, copy):
            self.differed += 1
            self._forget(request.key)

    # -- failures

    def primary_failed(self, request: Request, primary: Backend) -> ReplySink | None:
        """`primary` failed on `request`, which has a twin: what the backup says of its copy is the answer."""
        copy = request.mirror
        if copy.reply is None and copy.error is None:
            return None
        copy.mirror = request.mirror = None
        if copy.error is not None:
            return self.router.give_up(request, primary, request.error)
        request.reply = copy.reply
        mark_cas_number(request, BACKUP_SET)
        return request.complete()

    def copy_failed(self, copy: Request, backup: Backend) -> ReplySink | None:
        """`backup` failed on `copy`, and has the key in its journal now."""
        self.lost += 1
        request = copy.mirror
        copy.mirror = None
        if request is None:
            return None
        if request.error is not None:
            request.mirror = None
            return self.router.give_up(request, backup, request.error)
        if request.reply is not None and self.waited_for:
            request.mirror = None
            return request.complete()
        return None


class Outcome(ReplySink):
    """Stands between a change by outcome and whoever asked for it.

    overtaken   True once another change of the key went to the backup
    """

    __slots__ = ("sink", "copies", "overtaken")

    def __init__(self, owner: ReplySink | None, copies: Copies) -> None:
        self.sink = owner
        self.copies = copies
        self.overtaken = False

    def on_reply(self, request: Request) -> ReplySink | None:
        request.sink = self.sink
        return self.copies.decided(self, request)

    def on_internal_error(self, request: Request) -> ReplySink | None:
        self.copies.forget_outcome(self, request.key)
        request.sink = self.sink
        return request.abandon()
