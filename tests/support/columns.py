"""Tests that read as a table: what the client sends, what the server receives and replies, what the client receives."""

from contextlib import ExitStack
from typing import NamedTuple

import pytest

from support.scripted import ScriptedBackend, expect, steps_of
from support.servers import Proxy, server_options
from support.timing import eventually

#: A limit that no test reaches, so that no server is ejected: only the states of the connections matter.
NEVER_EJECT = ("--server-failure-limit", "1000000")


class Case(NamedTuple):
    """`says` is bytes, a step of support.scripted, or a list of both; {server} in `gets` stands for the server's address."""

    name: str
    sends: bytes
    saw: bytes
    says: object
    gets: bytes


def cases(*rows):
    """Parametrizes a test with the argument `case`."""
    return pytest.mark.parametrize("case", [pytest.param(Case(*row), id=row[0].replace(" ", "-")) for row in rows])


class Stage:
    """A proxy in front of scripted servers, for many cases in sequence. Use it in a `with`.

    backends, backups    lists of ScriptedBackend
    replicas             a list of as many ScriptedBackends as `backends` for each replica set
    """

    def __init__(self, *options, backends=1, backups=0, replicas=0):
        self._stack = ExitStack()
        self.backends = [self._stack.enter_context(ScriptedBackend()) for _ in range(backends)]
        self.backups = [self._stack.enter_context(ScriptedBackend()) for _ in range(backups)]
        self.replicas = [[self._stack.enter_context(ScriptedBackend()) for _ in range(backends)] for _ in range(replicas)]
        servers = server_options(self.backends, self.backups, self.replicas)
        self.proxy = self._stack.enter_context(Proxy(*servers, *NEVER_EJECT, *options))

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        with self._stack:
            self.proxy.check_log()

    @property
    def _everyone(self):
        return self.backends + self.backups + [server for servers in self.replicas for server in servers]

    def set(self, *scripts):
        """Close all connections to the servers. `scripts`: for each server, in order, a list of scripts."""
        for backend in self._everyone:
            if not backend.is_listening:
                backend.listen()
            backend.play()
        eventually(self._is_calm, what="the proxy has no connections to servers, and no pending invalidations")
        for backend, played in zip(self._everyone, scripts):
            backend.play(*played)

    def _is_calm(self):
        stats = self.proxy.stats()
        return stats["backend_links"] == stats["backends_behind"] == 0

    def check(self):
        for backend in self._everyone:
            backend.check()

    def play(self, case, *next_scripts):
        """Play `case` with the first server, and prove that the client receives no other bytes.

        `next_scripts` are for later connections to the first server; the caller plays and checks them.
        """
        self.set([[expect(case.saw), *steps_of(case.says)], *next_scripts])
        with self.proxy.talk() as talk:
            talk.expect(case.sends, case.gets.replace(b"{server}", self.backends[0].address.encode()))
            talk.in_step()
