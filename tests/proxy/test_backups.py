"""Backup servers: they receive a copy of every write, reply for a primary that cannot, and never delay a client."""

import threading

import pytest
from support.columns import Stage
from support.keys import keys_by_server
from support.scripted import close, expect, hang, reset, wait_for
from support.talk import storage, value
from support.timing import TICK, Stopwatch, eventually, milliseconds

GET = b"get k\r\n"
SET = storage(b"set", b"k", b"hello")
INCR = b"incr k 1\r\n"
FOUND = value(b"k", b"hello") + b"END\r\n"
MISS = b"END\r\n"
TIMEOUT = 6


@pytest.fixture(scope="module")
def stage():
    with Stage("--timeout", milliseconds(TIMEOUT), "--on-miss", "never", backups=1) as stage:
        yield stage


# -- writes are made on both


@pytest.mark.parametrize(
    "asked, answer",
    [
        (SET, b"STORED\r\n"),
        (storage(b"append", b"k", b"x"), b"STORED\r\n"),
        (storage(b"prepend", b"k", b"x"), b"STORED\r\n"),
        (INCR, b"5\r\n"),
        (b"decr k 1\r\n", b"3\r\n"),
        (b"delete k\r\n", b"DELETED\r\n"),
        (b"touch k 60\r\n", b"TOUCHED\r\n"),
        (b"flush_all\r\n", b"OK\r\n"),
    ],
)
def test_a_change_reaches_the_backup(stage, talk, asked, answer):
    stage.set([[expect(asked), answer]], [[expect(asked), answer]])
    talk.expect(asked, answer)
    stage.backups[0].wait_until_seen(asked)


@pytest.mark.parametrize("verb", [b"add", b"replace"])
def test_a_change_on_a_condition_reaches_the_backup_as_what_came_of_it(stage, talk, verb):
    asked = storage(verb, b"k", b"x", flags=7, exptime=60)
    copied = storage(b"set", b"k", b"x", flags=7, exptime=60)
    stage.set([[expect(asked), b"STORED\r\n", expect(asked), b"NOT_STORED\r\n"]], [[expect(copied), b"STORED\r\n"]])
    talk.expect(asked, b"STORED\r\n")
    talk.expect(asked, b"NOT_STORED\r\n")
    stage.backups[0].wait_until_seen(copied)


def test_a_change_with_noreply_reaches_the_backup(stage, talk):
    stage.set([[expect(SET + GET), b"STORED\r\n" + FOUND]], [[expect(SET), b"STORED\r\n"]])
    talk.expect(SET.replace(b" 5\r", b" 5 noreply\r") + GET, FOUND)
    stage.backups[0].wait_until_seen(SET)


def test_a_get_that_touches_reaches_the_backup_as_a_touch(stage, talk):
    stage.set([[expect(b"gat 60 k\r\n"), FOUND]], [[expect(b"touch k 60\r\n"), b"TOUCHED\r\n"]])
    talk.expect(b"gat 60 k\r\n", FOUND)
    stage.backups[0].wait_until_seen(b"touch k 60\r\n")


def test_a_read_does_not_concern_the_backup(stage, talk):
    stage.set([[expect(GET), FOUND]])
    talk.expect(GET, FOUND)
    assert not stage.backups[0].saw


def test_the_client_gets_the_answer_of_the_primary(stage, talk):
    stage.set([[expect(INCR), b"5\r\n"]], [[expect(INCR), b"NOT_FOUND\r\n"]])
    talk.expect(INCR, b"5\r\n")
    stage.backups[0].wait_until_seen(INCR)


# -- a failure of the backup does not affect the client


def test_the_client_does_not_wait_for_the_backup(stage, talk):
    go_on = threading.Event()
    stage.set([[expect(SET), b"STORED\r\n"]], [[expect(SET), wait_for(go_on), b"STORED\r\n"]])
    talk.expect(SET, b"STORED\r\n")
    go_on.set()


@pytest.mark.parametrize("trouble", [[close()], [reset()], [b"garbage\r\n"], [hang()]], ids=["close", "reset", "garbage", "hang"])
def test_the_client_does_not_hear_of_a_backup_that_fails(stage, talk, trouble):
    before = stage.proxy.stats()["backup_writes_lost"]
    stage.set([[expect(SET + GET), b"STORED\r\n" + FOUND]], [[expect(SET), *trouble]])
    talk.expect(SET + GET, b"STORED\r\n" + FOUND)
    eventually(lambda: stage.proxy.stats()["backup_writes_lost"] == before + 1, what="the loss is counted")


def test_the_client_does_not_hear_of_a_backup_that_is_down(stage, talk):
    stage.set([[expect(SET + SET), b"STORED\r\n" * 2]])
    stage.backups[0].refuse()
    talk.expect(SET + SET, b"STORED\r\n" * 2)


def test_a_silent_backup_delays_no_client_however_many_writes_there_are():
    """The timeout is longer than the client waits here."""
    writes = 500
    with Stage("--timeout", milliseconds(400), "--on-miss", "never", backups=1) as stage:
        stage.set([[expect(SET), b"STORED\r\n"] * writes], [[expect(SET * writes), hang()]])
        with stage.proxy.talk() as talk:
            talk.expect(SET * writes, b"STORED\r\n" * writes)
            talk.in_step()
        stage.check()


# -- a failure of the primary


TROUBLES = {
    "closes": [close()],
    "closes in the middle": [b"VALUE k 0", close()],
    "resets": [reset()],
    "says garbage": [b"garbage\r\n"],
    "is silent": [hang()],
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_backup_answers_a_read(stage, talk, trouble):
    played = [expect(GET), *TROUBLES[trouble]]
    again = [played] if trouble in ("closes", "resets") else []
    stage.set([played, *again], [[expect(GET), FOUND]])
    talk.expect(GET, FOUND)


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("asked, answer", [(SET, b"STORED\r\n"), (INCR, b"5\r\n"), (b"delete k\r\n", b"DELETED\r\n")])
def test_the_backup_answers_for_a_change_and_makes_it_once(stage, talk, trouble, asked, answer):
    stage.set([[expect(asked), *TROUBLES[trouble]]], [[expect(asked), answer]])
    talk.expect(asked, answer)


def test_the_backup_answers_when_the_primary_is_down(stage, talk):
    asked = SET + GET + INCR + b"gat 60 k\r\n"
    stage.set([], [[expect(SET), b"STORED\r\n", expect(GET), FOUND, expect(INCR), b"CLIENT_ERROR no\r\n", hang()]])
    stage.backends[0].refuse()
    talk.expect(asked[: len(SET)], b"STORED\r\n")
    talk.expect(GET, FOUND)
    talk.expect(INCR, b"CLIENT_ERROR no\r\n")


def test_a_slow_answer_of_the_backup_is_waited_for_when_it_is_needed(stage, talk):
    go_on = threading.Event()
    stage.set([], [[expect(SET), wait_for(go_on), b"STORED\r\n"]])
    stage.backends[0].refuse()
    talk.send(SET)
    stage.backups[0].wait_until_seen(SET)
    assert talk.silent()
    go_on.set()
    talk.expect_answer(b"STORED\r\n")


def test_what_a_client_wrote_it_reads_while_the_primary_is_down(stage, talk):
    """In one packet: the backup receives the write before the read."""
    stage.set([], [[expect(SET), b"STORED\r\n", expect(GET), FOUND]])
    stage.backends[0].refuse()
    talk.expect(SET + GET, b"STORED\r\n" + FOUND)


def test_what_a_client_read_is_not_what_it_writes_later(stage, talk):
    """In one packet: the read, repeated on the backup, must not return there what the write behind it has stored."""
    stage.set(
        [[expect(GET), b"garbage\r\n"], [expect(SET), b"STORED\r\n"]],
        [[expect(GET), MISS, expect(SET), b"STORED\r\n"]],
    )
    talk.expect(GET + SET, MISS + b"STORED\r\n")
    stage.backups[0].wait_until_seen(SET)


def test_a_silent_primary_costs_a_read_one_timeout(stage, talk):
    stage.set([[expect(GET), hang()]], [[expect(GET), FOUND]])
    watch = Stopwatch()
    talk.expect(GET, FOUND)
    assert watch.seconds > TIMEOUT * TICK * 0.9
    assert stage.backends[0].saw == [GET], "it is sent the request once"


def test_both_down(stage, talk):
    stage.set()
    stage.backends[0].refuse()
    stage.backups[0].refuse()
    talk.expect(GET, MISS)
    talk.send(SET)
    assert talk.read_line().startswith(b"SERVER_ERROR connecting 127.0.0.1:")


def test_both_silent(stage, talk):
    stage.set([[expect(SET), hang()]], [[expect(SET), hang()]])
    talk.send(SET)
    assert talk.read_line().startswith(b"SERVER_ERROR timeout 127.0.0.1:")


# -- several of each


def test_every_key_has_its_own_backup_and_lost_keys_are_read_there():
    """Two primaries, two backups: the second primary is down, so its keys are read from the backups, in one reply."""
    (a, *_), (b1, b2, *_) = keys_by_server(2, 3)
    with Stage("--on-miss", "never", backends=2, backups=2) as stage, stage.proxy.talk() as talk:
        get_lost = b"get %b %b\r\n" % (b1, b2)
        stage.set(
            [[expect(b"get %b\r\n" % a), value(a, b"1") + MISS]],
            [],
            [],
            [[expect(get_lost), value(b2, b"2") + MISS]],
        )
        stage.backends[1].refuse()
        talk.expect(b"get %b %b %b\r\n" % (b1, a, b2), value(a, b"1") + value(b2, b"2") + MISS)
        talk.in_step()
        stage.check()
        assert not stage.backups[0].saw
