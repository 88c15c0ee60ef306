"""One client, several servers: multi-gets in parallel, replies in the order of the requests, none for noreply."""

import threading

import pytest
from support.columns import Stage
from support.keys import keys_by_server
from support.scripted import close, expect, hang, reset, wait_for
from support.talk import storage, value
from support.timing import milliseconds

MISS = b"END\r\n"
TIMEOUT = 6

(A1, A2, A3), (B1, B2, B3), (C1, C2, C3) = keys_by_server(3, 3)


@pytest.fixture(scope="module")
def stage():
    with Stage("--timeout", milliseconds(TIMEOUT), backends=3) as stage:
        yield stage


def get(*keys):
    return b"get %b\r\n" % b" ".join(keys)


def found(*keys):
    """The reply in which every key has its name as value."""
    return b"".join(value(key, key) for key in keys)


# -- a get of many keys


def test_each_server_gets_one_request_for_its_keys(stage, talk):
    stage.set(
        [[expect(get(A1, A2)), found(A1, A2) + MISS]],
        [[expect(get(B2, B1)), found(B2) + MISS]],
        [[expect(get(C1)), found(C1) + MISS]],
    )
    talk.expect(get(B2, A1, C1, A2, B1), found(B2) + found(A1) + found(C1) + found(A2) + MISS)


def test_only_the_servers_concerned_are_asked(stage, talk):
    stage.set([[expect(get(A1, A2)), found(A2) + MISS]])
    talk.expect(get(A1, A2), found(A2) + MISS)


@pytest.mark.parametrize("asked", [b"gets %b %b\r\n", b"gat 60 %b %b\r\n", b"gats 60 %b %b\r\n"])
def test_all_retrievals_are_grouped(stage, talk, asked):
    verb = asked.split(b" %b")[0]
    stage.set(
        [[expect(b"%b %b\r\n" % (verb, A1)), found(A1) + MISS]],
        [[expect(b"%b %b\r\n" % (verb, B1)), found(B1) + MISS]],
    )
    talk.expect(asked % (B1, A1), found(B1) + found(A1) + MISS)


def test_servers_are_asked_at_the_same_time(stage, talk):
    """Neither replies before both have received their requests."""
    go_on = threading.Event()
    stage.set(
        [[expect(get(A1, A2)), wait_for(go_on), found(A1) + MISS]],
        [[expect(get(B1, B2)), wait_for(go_on), found(B2) + MISS]],
    )
    talk.send(get(A1, B1, A2, B2))
    stage.backends[0].wait_until_seen(get(A1, A2))
    stage.backends[1].wait_until_seen(get(B1, B2))
    assert talk.silent()
    go_on.set()
    talk.expect_answer(found(A1) + found(B2) + MISS)


LOST = {
    "closed": [close()],
    "reset": [reset()],
    "closed in the middle": [value(B1, b"x") + b"VALUE", close()],
    "silent": [hang()],
    "silent in the middle": [value(B1, b"x"), hang()],
    "garbage": [b"garbage\r\n"],
    "an error line": [b"SERVER_ERROR out of memory writing get response\r\n"],
}


@pytest.mark.parametrize("loss", LOST)
def test_the_keys_of_a_lost_server_are_misses(stage, talk, loss):
    lost = [expect(get(B1, B2)), *LOST[loss]]
    again = [lost] if loss in ("closed", "reset") else []
    stage.set([[expect(get(A1)), found(A1) + MISS]], [lost, *again], [[expect(get(C1)), found(C1) + MISS]])
    talk.expect(get(B1, A1, B2, C1), found(A1) + found(C1) + MISS)


def test_the_keys_of_a_server_that_is_down_are_misses(stage, talk):
    stage.set([[expect(get(A1)), found(A1) + MISS]], [], [[expect(get(C1)), MISS]])
    stage.backends[1].refuse()
    talk.expect(get(B1, A1, C1), found(A1) + MISS)


def test_nobody_there_is_one_end(stage, talk):
    stage.set()
    for backend in stage.backends:
        backend.refuse()
    talk.expect(get(A1, B1, C1), MISS)


def test_the_keys_of_two_silent_servers_are_misses(stage, talk):
    """Their timeouts pass at the same time: both received their requests at once, see test_servers_are_asked_at_the_same_time."""
    stage.set([[expect(get(A1)), hang()]], [[expect(get(B1)), hang()]], [[expect(get(C1)), found(C1) + MISS]])
    talk.expect(get(A1, B1, C1), found(C1) + MISS)
    assert [backend.saw for backend in stage.backends] == [[get(A1)], [get(B1)], [get(C1)]], "each is sent its request once"


# -- the order of replies


def test_answers_come_in_the_order_of_the_requests(stage, talk):
    """The server of the first request is the last to reply."""
    go_on = threading.Event()
    stage.set(
        [[expect(get(A1) + storage(b"set", A2, b"x")), wait_for(go_on), found(A1) + MISS + b"STORED\r\n"]],
        [[expect(get(B1)), found(B1) + MISS]],
        [[expect(b"incr %b 1\r\n" % C1), b"5\r\n"]],
    )
    talk.send(get(A1) + get(B1) + b"nonsense\r\nincr %b 1\r\n" % C1 + storage(b"set", A2, b"x"))
    stage.backends[1].wait_until_seen(get(B1))
    stage.backends[2].wait_until_seen(C1)
    assert talk.silent()
    go_on.set()
    talk.expect_answer(found(A1) + MISS + found(B1) + MISS + b"ERROR\r\n" + b"5\r\n" + b"STORED\r\n")


def test_a_thousand_requests_in_one_packet(scripted, proxy):
    backends = [scripted(answer=answer_by_name) for _ in range(3)]
    keys = [b"key%d" % number for number in range(1000)]
    with proxy(*(part for backend in backends for part in ("-s", backend.address))).talk() as talk:
        talk.expect(b"".join(map(get, keys)), b"".join(found(key) + MISS for key in keys))
        talk.in_step()


def answer_by_name(request):
    return b"".join(map(found, request.split()[1:])) + MISS


def test_a_client_that_sends_all_and_half_closes_gets_all_answers(stage):
    stage.set([[expect(get(A1)), found(A1) + MISS]], [[expect(get(B1)), found(B1) + MISS]])
    with stage.proxy.talk() as talk:
        talk.send(get(A1) + get(B1))
        talk.socket.shutdown(1)
        talk.expect_answer(found(A1) + MISS + found(B1) + MISS)
        assert talk.closed()


def test_quit_is_the_last_request(stage):
    stage.set([[expect(get(A1)), found(A1) + MISS]])
    with stage.proxy.talk() as talk:
        talk.expect(get(A1) + b"quit\r\n" + get(B1), found(A1) + MISS)
        assert talk.closed()
    stage.check()


# -- noreply


@pytest.mark.parametrize(
    "asked, answer",
    [
        (b"set %b 0 0 1 noreply\r\nx\r\n", b"STORED\r\n"),
        (b"add %b 0 0 1 noreply\r\nx\r\n", b"NOT_STORED\r\n"),
        (b"replace %b 0 0 1 noreply\r\nx\r\n", b"NOT_STORED\r\n"),
        (b"append %b 0 0 1 noreply\r\nx\r\n", b"STORED\r\n"),
        (b"prepend %b 0 0 1 noreply\r\nx\r\n", b"STORED\r\n"),
        (b"cas %b 0 0 1 7 noreply\r\nx\r\n", b"EXISTS\r\n"),
        (b"incr %b 1 noreply\r\n", b"5\r\n"),
        (b"decr %b 1 noreply\r\n", b"NOT_FOUND\r\n"),
        (b"delete %b noreply\r\n", b"DELETED\r\n"),
        (b"touch %b 10 noreply\r\n", b"TOUCHED\r\n"),
        (b"set %b 0 0 1 noreply\r\nx\r\n", b"SERVER_ERROR out of memory storing object\r\n"),
        (b"incr %b 1 noreply\r\n", b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
    ],
)
def test_noreply_stays_between_client_and_proxy(stage, talk, asked, answer):
    """The server receives the request without noreply, so that its reply is known; the client gets none."""
    asked = asked % A1
    stage.set([[expect(asked.replace(b" noreply", b"") + get(A2)), answer + MISS]])
    talk.expect(asked + get(A2), MISS)


def test_noreply_is_silent_about_a_server_that_is_down(stage, talk):
    stage.set()
    stage.backends[0].refuse()
    talk.expect(b"set %b 0 0 1 noreply\r\nx\r\n" % A1 + get(A2), MISS)


# -- flush_all


@pytest.mark.parametrize(
    "asked, seen, answer",
    [
        (b"flush_all\r\n", b"flush_all\r\n", b"OK\r\n"),
        (b"flush_all 10\r\n", b"flush_all 10\r\n", b"OK\r\n"),
        (b"flush_all noreply\r\n", b"flush_all\r\n", b""),
        (b"flush_all 10 noreply\r\n", b"flush_all 10\r\n", b""),
    ],
)
def test_flush_all_goes_to_all_servers(stage, talk, asked, seen, answer):
    stage.set(*([[expect(seen), b"OK\r\n"]] for _ in stage.backends))
    talk.expect(asked, answer)
    talk.in_step()
    for backend in stage.backends:
        backend.wait_until_seen(seen)


def test_flush_all_is_only_ok_if_all_servers_did_it(stage, talk):
    stage.set([[expect(b"flush_all\r\n"), b"OK\r\n"]], [], [[expect(b"flush_all\r\n"), b"OK\r\n"]])
    stage.backends[1].refuse()
    talk.expect(b"flush_all\r\n", b"SERVER_ERROR connecting %b\r\n" % stage.backends[1].address.encode())


def test_flush_all_can_be_refused(scripted, proxy):
    backend = scripted()
    with proxy("-s", backend.address, "-F").talk() as talk:
        talk.expect(b"flush_all\r\n", b"CLIENT_ERROR flush_all not allowed\r\n")
        talk.expect(b"flush_all 10 noreply\r\n", b"")
        talk.in_step()
