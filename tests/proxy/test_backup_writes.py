"""How a write reaches primary and backup: `--backup-writes` async, sync and off, conditional writes, and a backup that replies differently."""

import threading

import pytest
from support.columns import NEVER_EJECT, Stage
from support.scripted import close, expect, hang, say, wait_for
from support.talk import storage, value
from support.timing import eventually, milliseconds

GET = b"get k\r\n"
SET = storage(b"set", b"k", b"hello")
INCR = b"incr k 1\r\n"
DELETE = b"delete k\r\n"
MISS = b"END\r\n"
FOUND = value(b"k", b"hello") + MISS
STORED = b"STORED\r\n"
TIMEOUT = 6
OPTIONS = ("--timeout", milliseconds(TIMEOUT), "--on-miss", "never")


@pytest.fixture(scope="module")
def calm():
    """backup_writes = async."""
    with Stage(*OPTIONS, backups=1) as stage:
        yield stage


@pytest.fixture(scope="module")
def in_step():
    """backup_writes = sync."""
    with Stage(*OPTIONS, "--backup-writes", "sync", backups=1) as stage:
        yield stage


@pytest.fixture(scope="module")
def apart():
    """backup_writes = off."""
    with Stage(*OPTIONS, "--backup-writes", "off", backups=1) as stage:
        yield stage


class Conversation:
    """A client of `stage`. At the end of the `with` no byte is left over, and no request is in flight."""

    def __init__(self, stage):
        self._stage = stage
        self._talk = stage.proxy.talk()

    def __enter__(self):
        return self._talk

    def __exit__(self, failure, *details):
        with self._talk as talk:
            if failure is None:
                talk.in_step()
                self._stage.check()
                eventually(self._is_over, what="nothing is under way")

    def _is_over(self):
        stats = self._stage.proxy.stats()
        return stats["changes_undecided"] == stats["fetches"] == 0


# -- sync


@pytest.mark.parametrize("late", ["primary", "backup"])
def test_sync_waits_for_both(in_step, late):
    go_on = threading.Event()
    scripts = {name: [expect(SET), *([wait_for(go_on)] if name == late else []), STORED] for name in ("primary", "backup")}
    in_step.set([scripts["primary"]], [scripts["backup"]])
    with Conversation(in_step) as talk:
        talk.send(SET)
        for backend in in_step.backends + in_step.backups:
            backend.wait_until_seen(SET)
        assert talk.silent()
        go_on.set()
        talk.expect_answer(STORED)


def test_sync_waits_for_the_copy_of_what_came_of_a_change(in_step):
    asked, go_on = storage(b"add", b"k", b"hello"), threading.Event()
    in_step.set([[expect(asked), STORED]], [[expect(SET), wait_for(go_on), STORED]])
    with Conversation(in_step) as talk:
        talk.send(asked)
        in_step.backups[0].wait_until_seen(SET)
        assert talk.silent()
        go_on.set()
        talk.expect_answer(STORED)


def test_sync_does_not_wait_where_nothing_was_stored(in_step):
    asked = storage(b"add", b"k", b"hello")
    in_step.set([[expect(asked), b"NOT_STORED\r\n"]])
    with Conversation(in_step) as talk:
        talk.expect(asked, b"NOT_STORED\r\n")


TROUBLES = {"closes": close(), "is silent": hang(), "says garbage": say(b"garbage\r\n")}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("asked, copied", [(SET, SET), (storage(b"replace", b"k", b"hello"), SET)], ids=["set", "replace"])
def test_sync_with_a_backup_that_fails_gives_the_answer_of_the_primary(in_step, trouble, asked, copied):
    in_step.set([[expect(asked), STORED]], [[expect(copied), TROUBLES[trouble]]])
    with Conversation(in_step) as talk:
        talk.expect(asked, STORED)


def test_sync_with_a_backup_that_is_down_gives_the_answer_of_the_primary(in_step):
    asked = storage(b"add", b"k", b"hello")
    in_step.set([[expect(SET), STORED, expect(asked), STORED]])
    in_step.backups[0].refuse()
    with Conversation(in_step) as talk:
        talk.expect(SET, STORED)
        talk.expect(asked, STORED)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_sync_with_a_primary_that_fails_gives_the_answer_of_the_copy(in_step, trouble):
    in_step.set([[expect(INCR), TROUBLES[trouble]]], [[expect(INCR), b"6\r\n"]])
    with Conversation(in_step) as talk:
        talk.expect(INCR, b"6\r\n")


def test_sync_with_two_that_fail_says_what_the_primary_did(in_step):
    in_step.set([[expect(SET), hang()]], [[expect(SET), close()]])
    with Conversation(in_step) as talk:
        talk.send(SET)
        assert talk.read_line().startswith(b"SERVER_ERROR timeout ")


# -- off


def test_off_leaves_the_backup_alone(apart):
    apart.set([[expect(SET), STORED, expect(GET), FOUND]])
    with Conversation(apart) as talk:
        talk.expect(SET, STORED)
        talk.expect(GET, FOUND)
    assert not apart.backups[0].saw


def test_off_writes_to_the_backup_while_the_primary_is_down(apart):
    apart.set([], [[expect(SET), STORED, expect(GET), FOUND, expect(SET), STORED]])
    apart.backends[0].refuse()
    with Conversation(apart) as talk:
        talk.expect(SET, STORED)
        talk.expect(GET, FOUND)
        talk.expect(SET, STORED)


def test_off_what_changes_on_the_primary_is_old_on_the_backup(apart):
    """The primary failed once, without being ejected: the write then went to the backup."""
    apart.set([[expect(b"get x\r\n"), MISS, expect(SET), STORED]], [[expect(SET), STORED, hang()]])
    apart.backends[0].refuse()
    with apart.proxy.talk() as talk:
        talk.expect(SET, STORED)
        apart.backends[0].listen()
        talk.expect(b"get x\r\n", MISS)
        talk.expect(SET, STORED)
        eventually(lambda: DELETE in apart.backups[0].forgot, what="the stale key is deleted on the backup")
        talk.in_step()


def test_off_what_was_written_there_is_deleted_there_when_the_primary_is_back(memcached, proxy):
    primary, backup = memcached(), memcached()
    front = proxy("-s", primary.address, "-b", backup.address, "--backup-writes", "off", "--server-retry-timeout", milliseconds(4))
    with front.talk() as talk, backup.talk() as there:
        talk.expect(SET, STORED)
        there.expect(GET, MISS)
        primary.kill()
        eventually(lambda: talk.ask(SET) == STORED and front.stats()["backends_ejected"] == 1, what="the primary is ejected")
        # While the primary was still tried, each attempt deleted on the backup what it had stored at the attempt before.
        eventually(lambda: talk.ask(SET) == STORED and there.ask(GET, MISS) == FOUND, what="the backup keeps it")
        primary.restart()
        eventually(lambda: front.stats()["backends_ejected"] == 0, what="the primary is back")
        eventually(lambda: there.ask(GET, MISS) == MISS, what="it is gone from the backup")
        talk.expect(SET, STORED)
        talk.expect(GET, FOUND)
        talk.in_step()


@pytest.mark.parametrize("between", ["before", "after"])
def test_off_nothing_old_is_read_when_the_primary_fails_again(memcached, proxy, between):
    """Between two failures that do not eject the primary, the key was written there, before or after its pending invalidation was sent."""
    primary, backup = memcached(), memcached()
    front = proxy("-s", primary.address, "-b", backup.address, "--backup-writes", "off", *NEVER_EJECT)
    with front.talk() as talk:
        primary.kill()
        eventually(lambda: talk.ask(SET) == STORED, what="the backup takes it")
        primary.restart()
        if between == "after":
            eventually(lambda: talk.ask(b"get other\r\n", MISS) and front.stats()["backends_behind"] == 0, what="it has caught up")
        new = storage(b"set", b"k", b"new!!")
        talk.expect(new, STORED)
        for _ in range(20):
            assert talk.ask(GET, MISS) != FOUND
        primary.kill()
        for _ in range(20):
            assert talk.ask(GET, MISS) != FOUND
        talk.in_step()


# -- conditional writes


@pytest.mark.parametrize(
    "asked",
    [
        storage(b"add", b"k", b"one"),
        storage(b"replace", b"k", b"one"),
        storage(b"cas", b"k", b"one", more=b" 7"),
    ],
    ids=["add", "replace", "cas"],
)
@pytest.mark.parametrize("other, answer", [(SET, STORED), (INCR, b"6\r\n"), (DELETE, b"DELETED\r\n")], ids=["set", "incr", "delete"])
def test_another_clients_change_overtakes_the_copy(calm, asked, other, answer):
    """It reaches the backup first, so it is not known which value is the last one: the key is deleted on the backup."""
    go_on = threading.Event()
    calm.set(
        [[expect(asked), wait_for(go_on), STORED, expect(other), answer]],
        [[expect(other), answer, expect(DELETE), b"DELETED\r\n"]],
    )
    with Conversation(calm) as talk, calm.proxy.talk() as another:
        talk.send(asked)
        calm.backends[0].wait_until_seen(asked)
        another.send(other)
        calm.backups[0].wait_until_seen(other)
        go_on.set()
        talk.expect_answer(STORED)
        another.expect_answer(answer)
        another.in_step()


def test_a_flush_overtakes_the_copy(calm):
    """Otherwise the value could be filled from the backup."""
    asked, flush, go_on = storage(b"add", b"k", b"one"), b"flush_all\r\n", threading.Event()
    calm.set(
        [[expect(asked), wait_for(go_on), STORED, expect(flush), b"OK\r\n"]],
        [[expect(flush), b"OK\r\n", expect(DELETE), b"NOT_FOUND\r\n"]],
    )
    with Conversation(calm) as talk, calm.proxy.talk() as another:
        talk.send(asked)
        calm.backends[0].wait_until_seen(asked)
        another.send(flush)
        calm.backups[0].wait_until_seen(flush)
        go_on.set()
        talk.expect_answer(STORED)
        another.expect_answer(b"OK\r\n")


def test_two_changes_by_outcome_come_to_the_backup_in_their_order(calm):
    one, two, go_on = storage(b"replace", b"k", b"one"), storage(b"replace", b"k", b"two"), threading.Event()
    copies = storage(b"set", b"k", b"one") + storage(b"set", b"k", b"two")
    calm.set([[expect(one), wait_for(go_on), expect(two), STORED * 2]], [[expect(copies), STORED * 2]])
    with Conversation(calm) as talk, calm.proxy.talk() as another:
        talk.send(one)
        calm.backends[0].wait_until_seen(one)
        another.send(two)
        calm.backends[0].wait_until_seen(two) if go_on.set() else None
        talk.expect_answer(STORED)
        another.expect_answer(STORED)


# -- a backup that replies differently


@pytest.mark.parametrize(
    "asked, answer, other",
    [
        (INCR, b"6\r\n", b"7\r\n"),
        (INCR, b"NOT_FOUND\r\n", b"7\r\n"),
        (storage(b"append", b"k", b"x"), b"NOT_STORED\r\n", STORED),
        (SET, STORED, b"SERVER_ERROR out of memory storing object\r\n"),
        (SET, b"SERVER_ERROR out of memory storing object\r\n", STORED),
    ],
    ids=["another number", "a number it should not have", "a value it should not have", "it has no room", "the primary has no room"],
)
def test_a_backup_that_answers_otherwise_is_told_to_delete(calm, asked, answer, other):
    before = calm.proxy.stats()["backup_writes_differed"]
    calm.set([[expect(asked), answer]], [[expect(asked), other, expect(DELETE), b"DELETED\r\n"]])
    with Conversation(calm) as talk:
        talk.expect(asked, answer)
    assert calm.proxy.stats()["backup_writes_differed"] == before + 1


@pytest.mark.parametrize(
    "asked, answer, other",
    [
        (INCR, b"6\r\n", b"NOT_FOUND\r\n"),
        (DELETE, b"NOT_FOUND\r\n", b"DELETED\r\n"),
        (b"touch k 60\r\n", b"NOT_FOUND\r\n", b"TOUCHED\r\n"),
    ],
)
def test_a_backup_that_has_less_or_did_no_harm_is_left_alone(calm, asked, answer, other):
    calm.set([[expect(asked), answer]], [[expect(asked), other]])
    with Conversation(calm) as talk:
        talk.expect(asked, answer)


# -- a server that is its own backup for some keys


def test_a_server_that_is_its_own_backup_gets_each_change_once(memcached, proxy):
    server = memcached()
    front = proxy("-s", server.address, "-b", server.address)
    with front.talk() as talk:
        talk.expect(storage(b"set", b"k", b"5"), STORED)
        talk.expect(INCR, b"6\r\n")
        talk.expect(storage(b"append", b"k", b"0"), STORED)
        talk.expect(storage(b"add", b"l", b"x"), STORED)
        talk.expect(b"gat 60 k l\r\n", value(b"k", b"60") + value(b"l", b"x") + MISS)
        talk.expect(GET, value(b"k", b"60") + MISS)
        talk.in_step()


def test_a_server_that_is_its_own_backup_is_not_asked_twice_for_a_change(scripted, proxy):
    answers = {INCR: [close()]}
    server = scripted(answer=lambda request: answers.get(request, [b"EN\r\n"]))
    front = proxy("-s", server.address, "-b", server.address, "--on-miss", "never", *NEVER_EJECT)
    with front.talk() as talk:
        talk.send(INCR)
        assert talk.read_line().startswith(b"SERVER_ERROR closed ")
        talk.in_step()
    assert sum(seen.count(INCR) for seen in server.saw) == 1
