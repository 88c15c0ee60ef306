"""The same requests to gmproxy over several memcached servers and to one memcached: their replies must be the same bytes.

GMPROXY_TEST_SEED and GMPROXY_TEST_SECONDS choose other conversations, and more of them. GMPROXY_TEST_MEMCACHED names another
memcached, for example of another version, with which all of it is done again.
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

#: Ends a conversation: the last answer shows whether both parties took it for commands. The first line end gets whoever waits for
#: the end of a line, or of a data block, out of that.
ENDING = b"\r\nset end%b 0 0 0\r\n\r\nget end%b\r\n" % (MARK, MARK)
LAST_ANSWER = b"VALUE end%b 0 0\r\n\r\nEND\r\n" % MARK

RECV_SIZE = 64 * 1024


class Text:
    """How conversations in the text protocol, classic and meta, are made and compared. `mark` is the number of one."""

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
        """True if other conversations may see what this one does: a key without its mark, a flush."""
        own = re.escape(mark)
        return re.search(rb"(?:set|add|replace|append|prepend|cas|m[gsda]) +(?![^ \n]*%b)[^ \n]|flush_all" % own, said) is not None

    @staticmethod
    def same(proxy, memcached, mark, version):
        last_answer = LAST_ANSWER.replace(MARK, mark)
        return exceptions.same(proxy, memcached, lambda got: got.endswith(last_answer), version)


class Difference(Exception):
    """`said` was answered `memcached` by one and `proxy` by the other."""

    def __init__(self, said, memcached, proxy):
        super().__init__(f"\n  said      {said}\n  memcached {memcached}\n  proxy     {proxy}")


class Comparison:
    """Compares conversation after conversation in `dialect`, each with a number of its own in its keys. `backends` is what the proxy speaks
    to its servers, text or binary."""

    def __init__(self, memcached, proxy, dialect, backends):
        self.dialect = dialect
        self.backends = backends
        self.memcached = memcached
        self.version = memcached.stats()["version"]
        self.proxy = proxy
        self.crowded = False  # True if several conversations go on at once
        self.compared = 0
        self.excused = 0
        self._numbers = itertools.count(1)
        self._seeds = itertools.count(SEED)

    def compare_for(self, seconds):
        """Compare random conversations. Raises Difference, of the shortest one that makes it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            seed = next(self._seeds)
            pieces = self.dialect.conversation(random.Random(seed), self.backends, self.version)
            try:
                self._compare(pieces, seed)
            except Difference:
                self._compare(self._shortest(pieces, seed), seed)
                raise  # the shortest one made no difference once more

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
        """As few of `pieces` as still make a difference."""
        for index in range(len(pieces)):
            fewer = pieces[:index] + pieces[index + 1 :]
            try:
                self._compare(fewer, seed)
            except Difference:
                return self._shortest(fewer, seed)
        return pieces

    def check(self):
        """Most conversations must have been comparable, else they are to be improved. And no client may have put a link out of step."""
        assert self.compared > self.excused
        assert self.proxy.stats()["backend_failures"] == 0


def answers(server, chunks):
    """All that `server` answers to `chunks`, each sent in a packet of its own, until it has no more to say: it may hang up before
    all is said."""
    got = []
    with server.talk() as talk:
        with suppress(BrokenPipeError, ConnectionResetError):
            for chunk in chunks[:-1]:
                talk.send(chunk)
                time.sleep(0.0002)  # else the kernel would gather them
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
    """Call it with the number of primaries and of backups, how it is to talk, and what the proxy speaks to its servers."""

    def start(primaries, backups, dialect, backends):
        arguments = []
        for option in ["-s"] * primaries + ["-b"] * backups:
            arguments += [option, memcached(*PREDICTABLE, program=program).address]
        # A server that fails is to be seen as such, at each failure.
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
