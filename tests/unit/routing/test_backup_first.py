"""A write that is like a delete is done on the backup before the primary is sent it."""

import pytest
from support.replication import backup_set, main_set
from support.requests import parsed_request
from support.routes import Client, KeepingServer, options_of

from gmproxy.placement.locators import SingleServer
from gmproxy.protocol.request import COPY, INTERNAL_ERROR
from gmproxy.routing.backup_first import BackupFirst
from gmproxy.routing.router import Router
from gmproxy.routing.sets import Copies


class Play:
    def __init__(self, backup_port=2):
        self.primary, self.backup = KeepingServer(1), KeepingServer(backup_port, set_index=1)
        self.held = set()
        self.client = Client()
        self.route = BackupFirst(self.primary, self.primary, Copies([backup_set([self.backup])]), self.held)

    def ask(self, line):
        request = parsed_request(line)
        request.sink = self.client
        self.route.send(request)
        return request


DELETES = pytest.mark.parametrize(
    "line", [b"delete k\r\n", b"md k I\r\n", b"md k C5\r\n", b"set k 0 -1 1\r\nx\r\n", b"touch k -1\r\n", b"gat -1 k\r\n", b"ma k T-1\r\n"]
)


@DELETES
@pytest.mark.parametrize("reply", [b"DELETED\r\n", b"NOT_FOUND\r\n", None])
def test_it_is_held_until_the_backup_has_replied_or_failed(line, reply):
    play = Play()
    request = play.ask(line)
    (copy,) = play.backup.sent
    assert (copy.line, copy.role, play.primary.sent, play.held) == (b"delete k\r\n", COPY, [], {request})
    if reply is None:
        play.backup.fail(copy)
        assert play.backup.may_be_stale(b"k")
    else:
        play.backup.answer(copy, reply)
    assert (play.primary.sent, play.held, request.sink) == ([request], set(), play.client)


@pytest.mark.parametrize("line", [b"set k 0 0 1\r\nx\r\n", b"add k 0 5 1\r\nx\r\n", b"incr k 1\r\n", b"touch k 9\r\n", b"gat 9 k\r\n"])
def test_other_writes_are_sent_at_once(line):
    play = Play()
    request = play.ask(line)
    assert (play.primary.sent, play.backup.sent, play.held) == ([request], [], set())


@DELETES
def test_nothing_waits_for_a_primary_that_is_ejected(line):
    """It is sent nothing, and the backup replies in its place."""
    play = Play()
    play.primary.health.eject_by_hand(0.0)
    request = play.ask(line)
    assert (play.primary.sent, play.backup.sent, play.held) == ([request], [], set())


def test_a_server_that_is_its_own_backup_is_sent_it_once():
    play = Play(backup_port=1)
    request = play.ask(b"delete k\r\n")
    assert (play.primary.sent, play.backup.sent) == ([request], [])


def test_of_several_keys_all_are_deleted_first():
    play = Play()
    request = play.ask(b"gat -1 a b\r\n")
    assert play.backup.lines == [b"delete a\r\n", b"delete b\r\n"]
    play.backup.answer(play.backup.sent[1], b"DELETED\r\n")
    assert play.primary.sent == [] and play.held == {request}
    play.backup.answer(play.backup.sent[0], b"DELETED\r\n")
    assert (play.primary.sent, play.held) == ([request], set())


def test_one_that_was_abandoned_is_not_sent():
    play = Play()
    request = play.ask(b"delete k\r\n")
    request.abandon()
    play.backup.answer(play.backup.sent[0], b"DELETED\r\n")
    assert (play.primary.sent, play.held, play.client.heard) == ([], set(), [INTERNAL_ERROR])


def test_after_an_internal_error_the_client_gets_its_reply():
    play = Play()
    play.ask(b"delete k\r\n")
    assert play.backup.request_abandoned(play.backup.sent[0]) is play.client
    assert (play.primary.sent, play.held, play.client.heard) == ([], set(), [INTERNAL_ERROR])


# -- flush_all


class Pool:
    """A router with one primary and one backup."""

    def __init__(self, *arguments):
        self.primary, self.backup = KeepingServer(1), KeepingServer(2, set_index=1)
        self.router = Router(options_of("-s", "127.0.0.1:1", *arguments))
        place = lambda live=None: type("Placement", (), {"locator": SingleServer(0)})  # noqa: E731
        self.router.serve(main_set([self.primary]), place, [backup_set([self.backup])])
        self.client = Client()

    def flush(self, line):
        request = parsed_request(line)
        request.sink = self.client
        self.router.flush_all(request)
        return request


def test_a_flush_is_sent_to_the_backups_first():
    pool = Pool("--proxies", "several")
    flush = pool.flush(b"flush_all\r\n")
    assert (pool.primary.sent, pool.backup.lines, pool.router.held) == ([], [b"flush_all\r\n"], {flush})
    pool.backup.answer(pool.backup.sent[0], b"OK\r\n")
    assert (pool.primary.lines, pool.backup.lines, pool.router.held) == ([b"flush_all\r\n"], [b"flush_all\r\n"] * 2, set())
    pool.primary.answer(pool.primary.sent[0], b"OK\r\n")
    assert pool.backup.answer(pool.backup.sent[1], b"OK\r\n") is pool.client
    assert pool.client.heard == [b"OK\r\n"]


@pytest.mark.parametrize("arguments, line", [((), b"flush_all\r\n"), (("--proxies", "several"), b"flush_all 10\r\n")])
def test_other_flushes_are_sent_to_all_servers_at_once(arguments, line):
    """That of one proxy, and one that servers execute later."""
    pool = Pool(*arguments)
    pool.flush(line)
    assert pool.primary.lines == pool.backup.lines == [line] and not pool.router.held


def test_while_a_delayed_flush_is_pending_nothing_is_looked_up_on_the_backup():
    pool = Pool("--on-miss", "always")
    pool.primary.ask_backup_on_miss = True
    pool.flush(b"flush_all 10\r\n")
    pool.primary.sent.clear(), pool.backup.sent.clear()
    read, write = parsed_request(b"get k\r\n"), parsed_request(b"incr k 1\r\n")
    for request in (read, write):
        request.sink = pool.client
        pool.router.send(request)
    assert pool.primary.sent == [read, write], "the write is not held"
    pool.primary.answer(read, b"END\r\n")
    assert pool.client.heard == [b"END\r\n"]
    assert pool.backup.lines == [b"incr k 1\r\n"], "the copy"
