"""The same requests to gmproxy over several memcached servers and to one memcached: the replies must be the same bytes.

GMPROXY_TEST_SEED selects other conversations, GMPROXY_TEST_SECONDS sets the duration. With GMPROXY_TEST_MEMCACHED, a second memcached, for
example of another version, all tests run for both.
"""

import itertools
import os
import random
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from differential import binary_conversations, exceptions
from differential.conversations import MARK, conversation
from wire.sample import PREDICTABLE

SEED = int(os.environ.get("GMPROXY_TEST_SEED", "1"))
SECONDS = float(os.environ.get("GMPROXY_TEST_SECONDS", "4"))

#: Ends a conversation: the last reply shows whether memcached and the proxy read these lines as commands. The first line end completes a line
#: or a data block that is unfinished.
ENDING = b"\r\nset end%b 0 0 0\r\n\r\nget end%b\r\n" % (MARK, MARK)
LAST_ANSWER = b"VALUE end%b 0 0\r\n\r\nEND\r\n" % MARK

RECV_SIZE = 64 * 1024


class Text:
    """Makes and compares conversations in the text protocol, classic and meta commands. `mark` is the number of a conversation."""

    @staticmethod
    def conversation(random, backends, version):
        return [piece for piece in conversation(random) if exceptions.can_be_said(piece, backends, version)]

    @staticmethod
    def said(pieces, mark):
        return b"".join((*pieces, ENDING)).replace(MARK, mark)

    @staticmethod
    def is_excused(said, backends, version):
        return exceptions.is_excused(said, backends, version)

    @staticmethod
    def disturbs_others(said, mark):
        """True if this conversation may affect others: it writes a key without its mark, or contains a flush_all."""
        own = re.escape(mark)
        return re.search(rb"(?:set|add|replace|append|prepend|cas|m[gsda]) +(?![^ \n]*%b)[^ \n]|flush_all" % own, said) is not None

    @staticmethod
    def same(proxy, memcached, mark, version):
        last_answer = LAST_ANSWER.replace(MARK, mark)
        return exceptions.same(proxy, memcached, lambda got: got.endswith(last_answer), version)


class Difference(Exception):
    """The replies to `said` differ: `memcached` and `proxy`."""

    def __init__(self, said, memcached, proxy):
        super().__init__(f"\n  said      {said}\n  memcached {memcached}\n  proxy     {proxy}")


class Comparison:
    """Compares one conversation after the other in `dialect`. The keys of each contain its number. `backends` is the protocol of the proxy's
    servers, text or binary."""

    def __init__(self, memcached, proxy, dialect, backends):
        self.dialect = dialect
        self.backends = backends
        self.memcached = memcached
        self.version = memcached.stats()["version"]
        self.proxy = proxy
        self.crowded = False  # True if several conversations run at the same time
        self.compared = 0
        self.excused = 0
        self._numbers = itertools.count(1)
        self._seeds = itertools.count(SEED)

    def compare_for(self, seconds):
        """Compare random conversations for `seconds`. Raises Difference with the shortest conversation whose replies differ."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            seed = next(self._seeds)
            pieces = self.dialect.conversation(random.Random(seed), self.backends, self.version)
            try:
                self._compare(pieces, seed)
            except Difference:
                self._compare(self._shortest(pieces, seed), seed)
                raise  # the shortest one had the same replies this time

    def _compare(self, pieces, seed):
        mark = b"%0*d" % (len(MARK), next(self._numbers))
        said = self.dialect.said(pieces, mark)
        if self.dialect.is_excused(said, self.backends, self.version) or (self.crowded and self.dialect.disturbs_others(said, mark)):
            self.excused += 1
            return
        memcached = answers(self.memcached, [said])
        proxy = answers(self.proxy, cut(said, random.Random(seed)))
        if not self.dialect.same(proxy, memcached, mark, self.version):
            raise Difference(said, memcached, proxy)
        self.compared += 1

    def _shortest(self, pieces, seed):
        """`pieces` without those that are not needed for the replies to differ."""
        for index in range(len(pieces)):
            fewer = pieces[:index] + pieces[index + 1 :]
            try:
                self._compare(fewer, seed)
            except Difference:
                return self._shortest(fewer, seed)
        return pieces

    def check(self):
        """Most conversations must have been comparable, otherwise the generator needs improvement. No connection to a server may have failed."""
        assert self.compared > self.excused
        assert self.proxy.stats()["backend_failures"] == 0


def answers(server, chunks):
    """All replies of `server` to `chunks`, each sent in its own packet, until the server closes the connection. It may do that before all
    chunks are sent."""
    got = []
    with server.talk() as talk:
        with suppress(BrokenPipeError, ConnectionResetError):
            for chunk in chunks[:-1]:
                talk.send(chunk)
                time.sleep(0.0002)  # otherwise the kernel joins them
            talk.send(chunks[-1])
        with suppress(OSError):
            talk.socket.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            got.extend(iter(lambda: talk.socket.recv(RECV_SIZE), b""))
    return b"".join(got)


def cut(said, random):
    places = sorted(random.randrange(len(said) + 1) for _ in range(random.choice((0, 0, 1, 3))))
    return [said[start:stop] for start, stop in zip([0, *places], [*places, len(said)])]


@pytest.fixture
def comparison(memcached, proxy, program):
    """A function that makes a Comparison of the number of primaries and of backups, the dialect, and the protocol of the proxy's servers."""

    def start(primaries, backups, dialect, backends):
        arguments = []
        for option in ["-s"] * primaries + ["-b"] * backups:
            arguments += [option, memcached(*PREDICTABLE, program=program).address]
        # Each failure of a server must be visible as an error.
        front = proxy(*arguments, "--on-get-error", "error", "--server-failure-limit", "1000000", "--backend-protocol", backends)
        return Comparison(memcached(*PREDICTABLE, program=program), front, dialect, backends)

    return start


@pytest.fixture(params=[Text, binary_conversations.Binary])
def dialect(request):
    return request.param


@pytest.mark.parametrize("primaries, backups, backends", [(1, 0, "text"), (3, 0, "text"), (2, 1, "text"), (2, 1, "binary")])
def test_one_client(comparison, dialect, primaries, backups, backends):
    compared = comparison(primaries, backups, dialect, backends)
    compared.compare_for(SECONDS)
    compared.check()


@pytest.mark.parametrize("backends", ["text", "binary"])
def test_many_clients_on_the_same_links(comparison, dialect, backends):
    compared = comparison(1, 1, dialect, backends)
    compared.crowded = True
    with ThreadPoolExecutor(8) as clients:
        for done in [clients.submit(compared.compare_for, SECONDS) for _ in range(8)]:
            done.result()
    compared.check()
