"""While a server is ejected and the others share its keys (auto_eject_hosts): what has to be remembered of the keys that change.

The ejected server will return with the old value, so the key goes into its journal. The server that took the change in its place keeps the key as
a guest: when the ring changes again the value is stale there, and the key goes into the journal of that server, too.
"""

import time
from collections.abc import Callable

from gmproxy.backend.backend import Backend
from gmproxy.placement.locators import Locator
from gmproxy.protocol import limits
from gmproxy.protocol.commands import Command
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.numbers import c_number
from gmproxy.protocol.request import ReplySink, Request, Route
from gmproxy.routing.step import Step

#: The word of a command line that holds the life of the item; append, prepend, incr, decr and delete give none.
LIFE_AT = {b"set": 3, b"add": 3, b"replace": 3, b"cas": 3, b"touch": 2, b"gat": 1, b"gats": 1}

#: Flags of the meta commands that hold it. An ms without one would live for ever.
META_LIVES = (b"T", b"N")


class GuestNotes:
    """
    servers        list of Backend
    home_locator   the ring with all of them: key -> index
    longest_life   seconds that a value lives on a server that is not its own; 0: as its client said
    """

    def __init__(self, servers: list[Backend], home_locator: Locator, longest_life: int) -> None:
        self.servers = servers
        self.home_locator = home_locator
        self.longest_life = longest_life

    def changed(self, request: Request, key: bytes, server: Backend) -> None:
        """`request` is about to change `key` on `server`."""
        home = self.home_of(key)
        if home is not server:
            home.missed_key(key)
            self._note(request, key, server)

    def filled(self, request: Request, server: Backend) -> None:
        """`request` is about to copy a key to `server`."""
        if self.home_of(request.key) is not server:
            self._note(request, request.key, server)

    def home_of(self, key: bytes) -> Backend:
        return self.servers[self.home_locator.locate(key)]

    def _note(self, request: Request, key: bytes, server: Backend) -> None:
        server.has_guest(key)
        if self.longest_life and request.keys is None:
            request.line = shorten_life(request.command, request.line, self.longest_life)


class StandIn(Route):
    """Changes that go to `server` while some servers are ejected, by way of `main`."""

    __slots__ = ("server", "main", "notes")

    def __init__(self, server: Backend, main: Route, notes: GuestNotes) -> None:
        self.server = server
        self.main = main
        self.notes = notes

    def send(self, request: Request) -> ReplySink | None:
        for key in request.keys or (request.key,):
            self.notes.changed(request, key, self.server)
        return self.main.send(request)

    def explain(self, key: bytes, is_change: bool) -> list[Hop]:
        home = self.notes.home_of(key)
        way = self.main.explain(key, is_change)
        if home is self.server:
            return way
        return [Hop("stand_in", self.server.label, f"has the keys of {home.label} while that is ejected"), *way]


class LateChange(Step):
    """A change that was under way to `server` when another became responsible for its key.

    What was noted then may have been deleted before this change was made, so it is noted again.
    """

    __slots__ = ("server",)

    def on_reply(self, request: Request) -> ReplySink | None:
        self.server.missed_change(request)
        return Step.on_reply(self, request)


def note_late_changes(server: Backend, owner_of: Callable[[bytes], Backend | None]) -> None:
    """Watch the changes in flight to `server` whose key belongs to another server now, `owner_of(key)`."""
    for connection in server.connections:
        if connection is None:
            continue
        for request in connection.waiting:
            if request.command.is_write and any(owner_of(key) is not server for key in request.keys or (request.key,)):
                late = LateChange.__new__(LateChange)
                late.server = server
                late.step_in(request)


def shorten_life(command: Command, line: bytes, longest: int) -> bytes:
    """The command `line` with a life of at most `longest` seconds. A life that is no number is left for the server to refuse: this
    raises nothing, whatever a client has written."""
    head, end, block = line.partition(b"\r\n")
    words = head.split(b" ")
    if command.is_meta:
        words = [_shorter_flag(word, longest) if at > 1 else word for at, word in enumerate(words)]
        if command.name == b"ms" and not any(word[:1] == b"T" for word in words[3:]):
            words.append(b"T%d" % longest)
    elif LIFE_AT.get(command.name, len(words)) < len(words):
        at = LIFE_AT[command.name]
        words[at] = _shorter(words[at], longest)
    return b" ".join(words) + end + block


def _shorter_flag(word: bytes, longest: int) -> bytes:
    return word[:1] + _shorter(word[1:], longest) if word[:1] in META_LIVES else word


def _shorter(word: bytes, longest: int) -> bytes:
    life = c_number(word, -(2**63), 2**63 - 1)
    if life is None:
        return word
    left = life - time.time() if life > limits.LONGEST_RELATIVE_LIFE else life
    return b"%d" % longest if life == 0 or left > longest else word
