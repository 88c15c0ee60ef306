"""The proxy over one memcached, and another memcached by itself, are told the same: their answers must be the same bytes.

GMPROXY_TEST_SEED and GMPROXY_TEST_SECONDS choose other conversations, and more of them.
"""

import os
import random
import socket
import time

from differential import exceptions
from differential.conversations import MARK, conversation
from support.servers import Memcached, Proxy
from support.talk import Talk

import pytest

SEED = int(os.environ.get("GMPROXY_TEST_SEED", "1"))
SECONDS = float(os.environ.get("GMPROXY_TEST_SECONDS", "12"))

#: Ends a conversation: the last answer shows whether both parties took it for commands. The first line end gets whoever waits for
#: the end of a line, or of a data block, out of that.
ENDING = b"\r\nset end%b 0 0 0\r\n\r\nget end%b\r\n" % (MARK, MARK)
LAST_ANSWER = b"VALUE end%b 0 0\r\n\r\nEND\r\n" % MARK

RECV_SIZE = 64 * 1024


class Difference(Exception):
    """`said` was answered `memcached` by one and `proxy` by the other."""

    def __init__(self, said, memcached, proxy):
        super().__init__(f"\n  said      {said}\n  memcached {memcached}\n  proxy     {proxy}")


class Comparison:
    """Compares conversation after conversation, each with a number of its own in its keys."""

    def __init__(self, memcached, proxy):
        self.memcached = memcached
        self.proxy = proxy
        self.number = 0
        self.compared = 0

    def compare(self, pieces, seed):
        """Raises Difference."""
        self.number += 1
        mark = b"%0*d" % (len(MARK), self.number)
        said = b"".join((*pieces, ENDING)).replace(MARK, mark)
        if exceptions.is_excused(said):
            return
        last_answer = LAST_ANSWER.replace(MARK, mark)
        memcached = answers(self.memcached, [said])
        proxy = answers(self.proxy, cut(said, random.Random(seed)))
        if not exceptions.same(proxy, memcached, lambda got: got.endswith(last_answer)):
            raise Difference(said, memcached, proxy)
        self.compared += 1

    def shortest(self, pieces, seed):
        """As few of `pieces` as still make a difference."""
        for index in range(len(pieces)):
            fewer = pieces[:index] + pieces[index + 1:]
            try:
                self.compare(fewer, seed)
            except Difference:
                return self.shortest(fewer, seed)
        return pieces


def answers(server, chunks):
    """All that `server` answers to `chunks`, each sent in a packet of its own, until it has no more to say."""
    with server.talk() as talk:
        for chunk in chunks[:-1]:
            talk.send(chunk)
            time.sleep(0.0002)  # else the kernel would gather them
        talk.send(chunks[-1])
        talk.socket.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: talk.socket.recv(RECV_SIZE), b""))


def cut(said, random):
    places = sorted(random.randrange(len(said) + 1) for _ in range(random.choice((0, 0, 1, 3))))
    return [said[start:stop] for start, stop in zip([0, *places], [*places, len(said)])]


@pytest.fixture
def comparison(memcached, proxy):
    behind = memcached("-t", "1")
    # A server that fails is to be seen as such, at each failure.
    front = proxy("-s", behind.address, "--on-get-error", "error", "--server-failure-limit", "1000000")
    return Comparison(memcached("-t", "1"), front)


def test_random_conversations(comparison):
    end = time.monotonic() + SECONDS
    seed = SEED
    while time.monotonic() < end:
        pieces = conversation(random.Random(seed))
        try:
            comparison.compare(pieces, seed)
        except Difference:
            comparison.compare(comparison.shortest(pieces, seed), seed)
            raise  # the shortest one did not differ once more
        seed += 1
    # Most of them must have been comparable, else the conversations are to be improved.
    assert comparison.compared > 0.8 * (seed - SEED)
