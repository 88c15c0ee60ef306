"""Connections to servers that are closed, reset or refused, or time out. Reads become misses, the replies to writes name the server and the
reason, and no client ever receives the reply to the request of another."""

import threading
from contextlib import ExitStack

import pytest
from support.columns import NEVER_EJECT, Stage
from support.network import full_listener
from support.scripted import close, expect, hang, refused_port, reset, say, wait_for
from support.servers import HOST
from support.talk import storage, value
from support.timing import TICK, Stopwatch, eventually, milliseconds

SET = storage(b"set", b"k", b"hello")
GET = b"get k\r\n"
FOUND = value(b"k", b"hello") + b"END\r\n"
MISS = b"END\r\n"

#: Requests that may wait on one connection; see gmproxy/backend/backend.py.
MAX_WAITING = 16384

#: The proxy's timeouts in these tests, in ticks.
TIMEOUT = 6


@pytest.fixture(scope="module")
def stage():
    with Stage("--timeout", milliseconds(TIMEOUT), "--connect-timeout", milliseconds(TIMEOUT)) as stage:
        yield stage


def failed(stage, reason):
    return b"SERVER_ERROR %b %b\r\n" % (reason, stage.backends[0].address.encode())


# -- closed before the reply


@pytest.mark.parametrize("end", [close, reset])
@pytest.mark.parametrize(
    "asked, answer",
    [
        (GET, FOUND),
        (b"gets k\r\n", FOUND),
        (b"get k l\r\n", FOUND),
        (b"gat 5 k\r\n", FOUND),
        (b"touch k 5\r\n", b"TOUCHED\r\n"),
    ],
)
def test_what_may_be_repeated_is_asked_once_more(stage, talk, asked, answer, end):
    stage.set([[expect(asked), end()], [expect(asked), say(answer)]])
    talk.expect(asked, answer)


@pytest.mark.parametrize("asked", [SET, b"incr k 1\r\n", b"decr k 1\r\n", b"delete k\r\n", storage(b"append", b"k", b"x")])
@pytest.mark.parametrize("end, reason", [(close, b"closed"), (reset, b"reset")])
def test_a_change_that_may_have_happened_is_not_repeated(stage, talk, asked, end, reason):
    stage.set([[expect(asked), end()]])
    talk.expect(asked, failed(stage, reason))


def test_nothing_is_asked_a_third_time(stage, talk):
    stage.set([[expect(GET), close()], [expect(GET), close()]])
    talk.expect(GET, MISS)


def test_an_answer_that_had_begun_is_not_asked_for_again(stage, talk):
    stage.set([[expect(GET), say(b"V"), close()]])
    talk.expect(GET, MISS)


def test_answers_before_the_end_are_given(stage, talk):
    """Three requests of one packet: one has its reply, one a part of it, and one none."""
    asked = b"get a\r\nget b\r\nget c\r\n"
    stage.set([[expect(asked), say(value(b"a", b"1") + MISS + b"VALUE b"), close()], [expect(b"get c\r\n"), MISS]])
    talk.expect(asked, value(b"a", b"1") + MISS + MISS + MISS)


# -- idle connections


@pytest.mark.parametrize("end", [close, reset])
@pytest.mark.parametrize("asked, answer", [(GET, FOUND), (SET, b"STORED\r\n"), (b"incr k 1\r\n", b"2\r\n")])
def test_a_link_that_ended_idle_costs_nothing(stage, talk, asked, answer, end):
    go_on = threading.Event()
    stage.set([[expect(b"get first\r\n"), MISS, wait_for(go_on), end()], [expect(asked), answer]])
    talk.expect(b"get first\r\n", MISS)
    go_on.set()
    eventually(lambda: stage.proxy.stats()["backend_links"] == 0)
    talk.expect(asked, answer)


@pytest.mark.parametrize("asked, answer", [(GET, FOUND), (SET, b"STORED\r\n")])
def test_bytes_on_an_idle_link_are_for_nobody(stage, talk, asked, answer):
    go_on = threading.Event()
    stage.set([[expect(b"get first\r\n"), MISS, wait_for(go_on), value(b"k", b"poison") + MISS], [expect(asked), answer]])
    talk.expect(b"get first\r\n", MISS)
    go_on.set()
    eventually(lambda: stage.proxy.stats()["backend_links"] == 0)
    talk.expect(asked, answer)


def test_bytes_before_the_first_request_are_for_nobody(scripted, proxy):
    backend = scripted([say(value(b"k", b"poison") + MISS)], [expect(GET), FOUND])
    process = proxy("-s", backend.address, "--preconnect", *NEVER_EJECT)
    eventually(lambda: len(backend.saw) == 1 and process.stats()["backend_links"] == 0)
    with process.talk() as talk:
        talk.expect(GET, FOUND)
        talk.in_step()


def test_an_unused_link_is_closed_after_its_time(scripted, proxy):
    backend = scripted([expect(GET), MISS], [expect(SET), b"STORED\r\n"])
    process = proxy("-s", backend.address, "--server-idle-timeout", milliseconds(4))
    with process.talk() as talk:
        talk.expect(GET, MISS)
        assert process.stats()["backend_links"] == 1
        eventually(lambda: process.stats()["backend_links"] == 0)
        talk.expect(SET, b"STORED\r\n")
        talk.in_step()


# -- no reply


def test_a_get_without_an_answer_is_a_miss(stage, talk):
    stage.set([[expect(GET), hang()]])
    watch = Stopwatch()
    talk.expect(GET, MISS)
    assert watch.seconds > TIMEOUT * TICK * 0.9
    assert stage.backends[0].saw == [GET], "it is sent the request once"


def test_a_set_without_an_answer_says_so(stage, talk):
    stage.set([[expect(SET), hang()]])
    talk.expect(SET, failed(stage, b"timeout"))


def test_every_silence_is_noticed_not_only_the_first(stage, talk):
    stage.set([[expect(SET), hang()]] * 3)
    for _ in range(3):
        talk.expect(SET, failed(stage, b"timeout"))


def test_all_who_wait_on_a_silent_link_are_told(stage, talk):
    stage.set([[expect(b"get a\r\n"), hang()]])
    with stage.proxy.talk() as other, stage.proxy.talk() as third:
        talk.send(b"get a\r\n")
        stage.backends[0].wait_until_seen(b"get a\r\n")
        other.send(SET + b"get b\r\n")
        third.send(b"get c\r\n")
        talk.expect_answer(MISS)
        other.expect_answer(failed(stage, b"timeout") + MISS)
        third.expect_answer(MISS)
        other.in_step()
        third.in_step()


def test_a_silent_middle_of_an_answer(stage, talk):
    stage.set([[expect(b"get a b\r\n"), value(b"a", b"1") + b"VALUE b 0 100\r\nbut then", hang()]])
    talk.expect(b"get a b\r\n", MISS)


def test_a_late_answer_is_never_given_to_another_request(stage, talk):
    """The reply to the first get arrives when the second has long been sent."""
    late = threading.Event()
    stage.set(
        [
            [expect(b"get first\r\n"), wait_for(late), value(b"first", b"late") + MISS],
            [expect(b"get second\r\n"), wait_for(late), value(b"second", b"right") + MISS],
        ]
    )
    talk.expect(b"get first\r\n", MISS)
    talk.send(b"get second\r\n")
    stage.backends[0].wait_until_seen(b"get second\r\n")
    late.set()
    talk.expect_answer(value(b"second", b"right") + MISS)


def test_slow_answers_within_the_time_are_fine(stage, talk):
    """Each takes most of the timeout. Together they take longer, which is no timeout."""
    half = [threading.Timer((number + 1) * TIMEOUT * TICK * 0.6, lambda: None) for number in range(4)]
    for timer in half:
        timer.start()
    answers = [step for timer in half for step in (wait_for(timer.finished), say(MISS))]
    asked = b"get a\r\nget b\r\nget c\r\nget d\r\n"
    stage.set([[expect(asked), *answers]])
    talk.expect(asked, MISS * 4)


# -- no connection


def test_nobody_listens(proxy):
    address = f"{HOST}:{refused_port()}"
    with proxy("-s", address, *NEVER_EJECT).talk() as talk:
        talk.expect(GET, MISS)
        talk.expect(b"get k l\r\n", MISS)
        talk.expect(SET, b"SERVER_ERROR connecting %b\r\n" % address.encode())
        talk.expect(b"incr k 1\r\n", b"SERVER_ERROR connecting %b\r\n" % address.encode())
        talk.expect(b"touch k 1\r\n", b"SERVER_ERROR connecting %b\r\n" % address.encode())
        talk.in_step()


def test_nobody_answers_the_connection(proxy):
    """A listener whose queue is full lets connections wait, as a firewall that drops packets does."""
    with full_listener() as (_, port):
        times = ("--connect-timeout", milliseconds(4), "--timeout", milliseconds(400))  # the second value is longer than the client waits
        with proxy("-s", f"{HOST}:{port}", *times, *NEVER_EJECT).talk() as talk:
            talk.expect(SET, b"SERVER_ERROR connecting %b:%d\r\n" % (HOST.encode(), port))
            talk.expect(GET, MISS)
            talk.in_step()


def test_a_host_that_cannot_be_found(proxy):
    with proxy("-s", "no-such-host.invalid:11211", *NEVER_EJECT).talk() as talk:
        talk.expect(SET, b"SERVER_ERROR connecting no-such-host.invalid:11211\r\n")
        talk.expect(GET, MISS)
        talk.in_step()


def test_a_server_that_is_full(scripted, proxy):
    """memcached at its -c limit sends this line to a client that it refuses, before it receives a request."""
    full = [say(b"ERROR Too many open connections\r\n"), close()]
    backend = scripted(full, full)
    with proxy("-s", backend.address, *NEVER_EJECT).talk() as talk:
        talk.expect(GET, MISS)
        talk.send(SET)
        assert talk.read_line().startswith(b"SERVER_ERROR ")
        talk.in_step()


def test_a_server_that_comes_back_is_used_again(stage, talk):
    stage.set([[expect(GET), FOUND]])
    talk.expect(GET, FOUND)
    stage.backends[0].refuse()
    eventually(lambda: stage.proxy.stats()["backend_links"] == 0)
    talk.expect(SET, failed(stage, b"connecting"))
    stage.set([[expect(SET), b"STORED\r\n"]])
    talk.expect(SET, b"STORED\r\n")


# -- a server that fails again and again


def test_an_ejected_server_fails_at_once_and_returns_when_it_answers(scripted, proxy):
    backend = scripted(answer=lambda request: b"VERSION 1.6.18\r\n" if request == b"version\r\n" else b"STORED\r\n")
    backend.refuse()
    process = proxy("-s", backend.address, "--server-failure-limit", "2", "--server-retry-timeout", milliseconds(8))
    address = backend.address.encode()
    with process.talk() as talk:
        talk.expect(SET, b"SERVER_ERROR connecting %b\r\n" % address)
        talk.expect(SET, b"SERVER_ERROR connecting %b\r\n" % address)
        talk.expect(SET, b"SERVER_ERROR ejected %b\r\n" % address)
        talk.expect(GET, MISS)
        assert process.stats()["backends_ejected"] == 1
        backend.listen()
        eventually(lambda: process.stats()["backends_ejected"] == 0)
        talk.expect(SET, b"STORED\r\n")
        talk.in_step()


def test_what_waits_for_a_silent_server_is_bounded(scripted, proxy):
    """256 clients with 64 requests each are the maximum for one connection; the next client receives the error at once."""
    in_flight = 64
    clients = MAX_WAITING // in_flight
    backend = scripted([expect(SET * MAX_WAITING), hang()])
    process = proxy("-s", backend.address, "-i", "1", "--timeout", milliseconds(400))
    overload = b"SERVER_ERROR overload %b\r\n" % backend.address.encode()
    with ExitStack() as stack:
        for _ in range(clients):
            stack.enter_context(process.talk()).send(SET * in_flight)
        eventually(lambda: backend.saw and len(backend.saw[0]) == len(SET) * MAX_WAITING, what="the link is full")
        with process.talk() as talk:
            talk.expect(SET + GET, overload + MISS)
            talk.in_step()


# -- on_get_error


def test_who_wants_errors_for_reads_gets_them(proxy):
    address = f"{HOST}:{refused_port()}"
    error = b"SERVER_ERROR connecting %b\r\n" % address.encode()
    with proxy("-s", address, "--on-get-error", "error", *NEVER_EJECT).talk() as talk:
        for asked in (GET, b"gets k\r\n", b"get k l\r\n", b"gat 1 k\r\n"):
            talk.expect(asked, error)
        talk.in_step()


def test_a_miss_for_an_error_is_counted(stage, talk):
    before = stage.proxy.stats()
    stage.set([[expect(GET), b"garbage\r\n"]])
    talk.expect(GET, MISS)
    after = stage.proxy.stats()
    assert after["get_errors_as_misses"] == before["get_errors_as_misses"] + 1
    assert after["backend_failures"] == before["backend_failures"] + 1
