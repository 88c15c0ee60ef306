"""One connection to a server: pipelined requests, the order of replies, timeouts, and the outcome of each request when it closes.

The server is the other end of a socket pair, and the time is an argument: no test waits for a clock.
"""

import socket
from types import SimpleNamespace

import gevent
import pytest
from support.connections import PairedConnection, RecordingSession, received
from support.loop import run_callbacks, wait_until
from support.packets import OPCODES, packet
from support.requests import request_for

from gmproxy.backend import connection as module
from gmproxy.errors import CLOSED, EJECTED, PROTOCOL, RESET, TIMEOUT

TIMEOUT_SECONDS = 1.0
NOW = 1000.0

#: Bytes from which a request is sent separately, and from which a reply is long (C constants in gmproxy/backend/connection.py).
LONG = 64 * 1024

FOUND = b"VALUE k 0 1\r\nx\r\nEND\r\n"
MISS = b"END\r\n"


@pytest.fixture
def pair():
    made = PairedConnection()
    yield made
    made.close()


@pytest.fixture
def opening():
    """A connection that has no socket yet."""
    made = PairedConnection(attached=False)
    yield made
    made.close()


def gets(count):
    return [request_for(b"get k%d\r\n" % number) for number in range(count)]


def values(count):
    return [b"VALUE k%d 0 1\r\n%d\r\nEND\r\n" % (number, number % 10) for number in range(count)]


def stores(count, size):
    """Writes of different keys with values of `size` bytes."""
    return [request_for(b"set k%d 0 0 %d\r\n%b\r\n" % (number, size, b"%d" % (number % 10) * size)) for number in range(count)]


def ask(pair, now=NOW):
    """A request that is in flight since `now`."""
    (request,) = pair.submit(request_for(b"get k\r\n"))
    pair.connection.check_late(now, TIMEOUT_SECONDS)
    return request


def outcomes(pair, requests):
    return [pair.owner.outcome_of(request) for request in requests]


# -- to the server


def test_requests_of_one_turn_of_the_loop_leave_together_and_in_order(pair):
    requests = gets(5)
    for request in requests:
        pair.connection.submit(request)
    assert received(pair.server) == b"", "nothing is sent before the turn ends"
    assert pair.connection.queues() == (5, sum(len(request.line) for request in requests))
    run_callbacks()
    sent = b"".join(request.line for request in requests)
    assert received(pair.server) == sent and pair.owner.bytes_sent == len(sent)
    assert pair.connection.queues() == (0, len(sent)) and pair.connection.backlog() == 0


def test_requests_wait_for_a_connection_that_is_being_opened(opening):
    requests = opening.submit(*gets(3))
    assert received(opening.server) == b"" and not opening.connection.attached()
    opening.attach()
    assert received(opening.server) == b"".join(request.line for request in requests)
    opening.reply(b"".join(values(3)))
    assert opening.owner.replies == values(3)


def test_requests_behind_a_long_one_keep_their_order(pair):
    """A long request is sent to the kernel separately; the server still receives one stream."""
    long = stores(1, 4 * LONG)[0]
    requests = pair.submit(*gets(2), long, *gets(2))
    sent = b"".join(request.line for request in requests)
    assert pair.read_all(len(sent)) == sent


def test_what_the_kernel_does_not_take_at_once_is_sent_as_the_server_reads(pair):
    requests = pair.submit(*stores(40, 100_000))
    sent = b"".join(request.line for request in requests)
    connection = pair.connection
    taken = pair.owner.bytes_sent
    assert 0 < taken < len(sent), "more than the buffer of a socket"
    assert connection.backlog() == len(sent) - taken
    unsent, unanswered = connection.queues()
    assert unanswered == len(sent) and unsent == sum(request.sent_at_byte + len(request.line) > taken for request in requests)
    more = pair.submit(*gets(3))  # while bytes are unsent, all requests wait behind them
    sent += b"".join(request.line for request in more)
    assert pair.owner.bytes_sent == taken
    assert pair.read_all(len(sent)) == sent
    assert (connection.backlog(), connection.queues()) == (0, (0, len(sent)))


# -- replies


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_replies_belong_to_the_requests_in_the_order_in_which_they_were_sent(pair, size):
    """In whatever pieces they arrive."""
    requests = pair.submit(*gets(20))
    data = b"".join(values(20))
    for start in range(0, len(data), size):
        pair.reply(data[start : start + size])
    assert outcomes(pair, requests) == [("answered", reply) for reply in values(20)]
    assert pair.owner.bytes_received == len(data) and not pair.connection.closed
    assert pair.connection.queues() == (0, 0)


def test_requests_and_replies_overlap(pair):
    first = pair.submit(*gets(2))
    pair.reply(values(2)[0] + values(2)[1][:5])
    second = pair.submit(*gets(1))
    pair.reply(values(2)[1][5:] + MISS)
    assert outcomes(pair, [*first, *second]) == [("answered", reply) for reply in [*values(2), MISS]]


def test_a_session_is_resumed_once_all_replies_that_have_arrived_are_read(pair):
    """The session gets them together, and sends them with one call."""
    requests = pair.submit(*gets(3))
    session = RecordingSession()
    pair.owner.sessions[requests[0]] = session
    seen = []
    session.resume = lambda: seen.append(len(pair.owner.replies))
    pair.reply(MISS * 3)
    assert seen == [3]


@pytest.mark.parametrize("raises, calls", [(("resume",), ["resume", "give_up"]), (("resume", "give_up"), ["resume", "give_up"])])
def test_a_session_that_cannot_be_resumed_gives_up_and_the_others_go_on(pair, internal_errors_counted, raises, calls):
    requests = pair.submit(*gets(2))
    failing, other = RecordingSession(raises), RecordingSession()
    pair.owner.sessions = dict(zip(requests, [failing, other]))
    pair.reply(MISS * 2)
    assert (failing.calls, other.calls) == (calls, ["resume"])
    assert not pair.connection.closed
    assert internal_errors_counted() == len(raises)


def test_a_long_reply_lets_others_have_a_turn_and_arrives_whole(pair):
    data = b"x" * (16 * LONG)
    (request,) = pair.submit(request_for(b"get k\r\n"))
    reply = b"VALUE k 0 %d\r\n%b\r\nEND\r\n" % (len(data), data)
    sending = gevent.spawn(send_all, pair.server, reply)
    wait_until(lambda: pair.owner.outcomes)
    sending.get(timeout=1)
    assert pair.owner.outcome_of(request) == ("answered", reply)


def send_all(sock, data):
    """Run in a greenlet: sends as fast as the other end reads."""
    while data:
        try:
            data = data[sock.send(data) :]
        except BlockingIOError:
            gevent.sleep(0)


# -- replies that belong to no request


def test_bytes_on_a_connection_on_which_nothing_was_sent_close_it(pair):
    pair.reply(MISS)
    assert pair.connection.closed and pair.owner.failures == [(PROTOCOL, 0, True)]
    assert pair.owner.outcomes == []


def test_bytes_after_the_last_reply_close_the_connection_and_the_reply_counts(pair):
    """The request that they belong to is not known: no request may be sent behind them."""
    (request,) = pair.submit(*gets(1))
    pair.reply(values(1)[0] + b"E")
    assert pair.owner.outcome_of(request) == ("answered", values(1)[0])
    assert pair.connection.closed and pair.owner.failures == [(PROTOCOL, 0, True)]


def test_a_reply_that_cannot_be_fails_all_requests_and_gives_nobody_the_rest(pair):
    requests = pair.submit(*gets(3))
    pair.reply(values(3)[0] + b"STORED\r\n" + values(3)[2])
    assert outcomes(pair, requests) == [
        ("answered", values(3)[0]),
        ("failed", (PROTOCOL, True, False)),  # a part of its reply has arrived
        ("failed", (PROTOCOL, True, True)),
    ]
    assert pair.owner.failures == [(PROTOCOL, 2, True)] and pair.owner.closed == [pair.connection]


def test_a_reply_of_a_server_that_takes_the_value_for_commands_is_the_last(pair):
    """It did not read the data block as such, and its replies to the block belong to no request."""
    requests = pair.submit(*stores(1, 5), *gets(1))
    pair.reply(b"ERROR\r\nERROR\r\n" + MISS)
    assert outcomes(pair, requests) == [("answered", b"ERROR\r\n"), ("failed", (PROTOCOL, True, False))]
    assert pair.connection.closed


def test_a_reply_after_the_timeout_reaches_no_request(pair):
    request = ask(pair)
    pair.connection.check_late(NOW + TIMEOUT_SECONDS, TIMEOUT_SECONDS)
    with pytest.raises(BrokenPipeError):
        pair.server.sendall(FOUND)
    pair.connection.on_readable()
    assert pair.owner.outcome_of(request)[0] == "failed"


# -- a connection that closes


def test_each_request_without_a_reply_fails_once_and_in_order(pair):
    requests = pair.submit(*gets(4))
    pair.server.sendall(b"".join(values(2)))
    pair.server.shutdown(socket.SHUT_WR)
    pair.connection.on_readable()
    pair.connection.on_readable()
    failed = ("failed", (CLOSED, True, True))
    assert outcomes(pair, requests) == [("answered", values(2)[0]), ("answered", values(2)[1]), failed, failed]
    assert [request for request, *_ in pair.owner.outcomes] == list(requests)
    assert pair.owner.failures == [(CLOSED, 2, True)] and pair.owner.closed == [pair.connection]


def test_a_request_of_whose_reply_some_has_arrived_is_not_repeated(pair):
    requests = pair.submit(*gets(2))
    pair.server.sendall(values(1)[0][:-1])
    pair.server.shutdown(socket.SHUT_WR)
    pair.connection.on_readable()
    pair.connection.on_readable()
    assert outcomes(pair, requests) == [("failed", (CLOSED, True, False)), ("failed", (CLOSED, True, True))]


def test_a_read_is_not_repeated_behind_a_write_of_its_key(pair):
    """Its client may have sent a write after it: the repeated read could return the later value."""
    lines = [b"get a\r\n", b"get b\r\n", b"get a b\r\n", b"set a 0 0 1\r\nx\r\n", b"get a\r\n", b"incr b 1\r\n"]
    requests = pair.submit(*(request_for(line, [b"a", b"b"] if line == b"get a b\r\n" else None) for line in lines))
    pair.connection.fail(RESET)
    repeatable = [may_repeat for _, (_, _, may_repeat) in outcomes(pair, requests)]
    assert repeatable == [False, False, False, True, True, True]


def test_no_read_is_repeated_behind_a_flush(pair):
    requests = pair.submit(request_for(b"get a\r\n"), request_for(b"flush_all \r\n"), request_for(b"get a\r\n"))
    pair.connection.fail(RESET)
    assert [may_repeat for _, (_, _, may_repeat) in outcomes(pair, requests)] == [False, True, True]


def test_a_connection_that_is_reset_says_so(pair):
    (request,) = pair.submit(*gets(1))
    pair.server.close()  # with an unread request: the kernel resets the connection
    pair.connection.on_readable()
    assert pair.owner.outcome_of(request) == ("failed", (RESET, True, True))
    assert pair.owner.failures == [(RESET, 1, True)]


def test_of_a_half_written_request_the_server_may_have_got_something(pair):
    """It has received nothing of the requests behind that one: those can be sent again, whatever they are."""
    requests = pair.submit(*stores(40, 100_000))
    taken = pair.owner.bytes_sent
    pair.connection.fail(CLOSED)
    started = [result[1] for _, result in outcomes(pair, requests)]
    assert started == [request.sent_at_byte < taken for request in requests]
    assert started.count(True) < len(requests) and started[0]


def test_requests_that_were_never_sent_have_not_started(opening):
    requests = opening.submit(*gets(2))
    opening.connection.fail("connecting")
    assert outcomes(opening, requests) == [("failed", ("connecting", False, True))] * 2
    assert opening.owner.failures == [("connecting", 2, True)]


def test_a_write_behind_which_nothing_reached_the_server_hinders_no_repetition(opening):
    """Only what the kernel took can have overtaken a read."""
    requests = opening.submit(request_for(b"get a\r\n"), request_for(b"get a\r\n"), request_for(b"set a 0 0 1\r\nx\r\n"))
    opening.connection.fail(RESET)
    assert [result[2] for _, result in outcomes(opening, requests)] == [True] * 3


def test_replies_that_have_arrived_count_when_nothing_can_be_sent_any_more(pair):
    (answered,) = pair.submit(*gets(1))
    assert received(pair.server)
    pair.server.sendall(values(1)[0])
    pair.server.close()
    (unsent,) = pair.submit(*gets(1))  # the send fails with EPIPE
    run_callbacks()
    assert pair.owner.outcome_of(answered) == ("answered", values(1)[0])
    assert pair.owner.outcome_of(unsent) == ("failed", (RESET, False, True))
    assert pair.connection.closed


def test_close_while_bytes_are_left_over_sends_no_more(pair):
    requests = pair.submit(*stores(40, 100_000))
    pair.connection.close()
    taken = pair.owner.bytes_sent
    assert len(received(pair.server)) == taken
    pair.connection.on_writable()
    pair.connection.on_readable()
    pair.connection.flush()
    run_callbacks()
    assert pair.owner.bytes_sent == taken and received(pair.server) == b""
    assert pair.owner.outcomes == [] and list(pair.connection.waiting) == list(requests), "they are the caller's"
    assert pair.owner.closed == [pair.connection]


def test_a_connection_fails_once(pair):
    (request,) = pair.submit(*gets(1))
    for reason in (TIMEOUT, CLOSED, EJECTED):
        pair.connection.fail(reason)
    assert pair.owner.failures == [(TIMEOUT, 1, True)]
    assert pair.owner.outcome_of(request) == ("failed", (TIMEOUT, True, True))


def test_a_request_that_is_repeated_while_the_others_fail_is_not_lost(pair):
    """The owner sends it on another connection at once; this connection does not affect it."""
    requests = pair.submit(*gets(3))
    other = PairedConnection()
    try:
        failed = pair.owner.request_failed

        def request_failed(request, *arguments):
            failed(request, *arguments)
            other.submit(request)

        pair.owner.request_failed = request_failed
        pair.connection.fail(RESET)
        assert list(other.connection.waiting) == list(requests) and not pair.connection.waiting
    finally:
        other.close()


# -- writes that the server may still execute


@pytest.mark.parametrize(
    "line, reason, kept",
    [
        (b"set k 0 0 1\r\nx\r\n", TIMEOUT, True),
        (b"incr k 1\r\n", PROTOCOL, True),
        (b"flush_all \r\n", EJECTED, True),
        (b"get k\r\n", TIMEOUT, False),
        (b"set k 0 0 1\r\nx\r\n", CLOSED, False),
        (b"set k 0 0 1\r\nx\r\n", RESET, False),
    ],
)
def test_a_connection_is_half_closed_while_the_server_may_make_a_write_that_was_given_up(pair, line, reason, kept):
    """Until it has ended it is not known whether a delete of the key is executed before the write or after it."""
    pair.submit(request_for(line))
    pair.connection.fail(reason)
    assert bool(pair.owner.half_closed) is kept
    assert pair.connection.closed and len(pair.owner.outcomes) == 1
    if kept:
        (sock,) = pair.owner.half_closed
        assert sock.fileno() >= 0, "it is still open"


def test_a_socket_that_cannot_be_kept_half_closed_is_closed(pair, internal_errors_counted):
    (request,) = pair.submit(*stores(1, 1))
    sockets = []

    def add(sock):
        sockets.append(sock)
        raise ValueError("a fault of the test")

    pair.owner.half_closed = SimpleNamespace(add=add)
    pair.connection.fail(TIMEOUT)
    assert [sock.fileno() for sock in sockets] == [-1]
    assert pair.owner.outcome_of(request)[0] == "failed"
    pair.owner.half_closed = []
    assert internal_errors_counted() == 1


# -- an owner that raises


def test_a_reply_on_which_the_owner_raises_costs_that_request_alone(pair, internal_errors_counted):
    requests = pair.submit(*gets(3))
    pair.owner.raises = {"request_replied"}
    pair.reply(values(3)[0])
    pair.owner.raises = set()
    pair.reply(values(3)[1] + values(3)[2])
    assert outcomes(pair, requests) == [("abandoned", None), ("answered", values(3)[1]), ("answered", values(3)[2])]
    assert not pair.connection.closed
    assert internal_errors_counted() == 1


@pytest.mark.parametrize(
    "raises, outcome, errors",
    [("request_failed", "abandoned", 3), ("connection_failed", "failed", 1), ("connection_closed", "failed", 1)],
)
def test_an_owner_that_raises_when_a_connection_fails_keeps_no_request(pair, internal_errors_counted, raises, outcome, errors):
    requests = pair.submit(*gets(3))
    session = RecordingSession()
    pair.owner.sessions[requests[2]] = session
    pair.owner.raises = {raises}
    pair.connection.fail(TIMEOUT)
    assert [result[0] for result in outcomes(pair, requests)] == [outcome] * 3
    assert session.calls == ["resume"] and pair.connection.closed
    assert internal_errors_counted() == errors


# -- timeouts


def test_a_server_that_does_not_reply_is_late(pair):
    ask(pair)
    pair.connection.check_late(NOW + TIMEOUT_SECONDS / 2, TIMEOUT_SECONDS)
    assert pair.owner.failures == []
    pair.connection.check_late(NOW + TIMEOUT_SECONDS, TIMEOUT_SECONDS)
    assert pair.owner.failures == [(TIMEOUT, 1, True)]


def test_a_connection_that_is_not_opened_in_time_is_late(opening):
    (request,) = opening.submit(*gets(1))
    opening.connection.check_late(NOW, TIMEOUT_SECONDS)
    opening.connection.check_late(NOW + TIMEOUT_SECONDS, TIMEOUT_SECONDS)
    assert opening.owner.outcome_of(request) == ("failed", (TIMEOUT, False, True))


def test_a_reply_that_has_arrived_is_not_late(pair):
    """However long the loop did not read it."""
    for _ in range(3):
        ask(pair)
    pair.server.send(FOUND * 3)
    pair.connection.check_late(NOW + 100, TIMEOUT_SECONDS)
    assert (pair.owner.failures, pair.owner.replies) == ([], [FOUND] * 3)


def test_the_request_that_waits_longest_counts(pair):
    ask(pair)
    ask(pair, NOW + TIMEOUT_SECONDS / 2)
    pair.server.send(FOUND)
    pair.connection.check_late(NOW + TIMEOUT_SECONDS, TIMEOUT_SECONDS)
    assert pair.owner.failures == []
    pair.connection.check_late(NOW + TIMEOUT_SECONDS * 2, TIMEOUT_SECONDS)
    assert (pair.owner.failures, pair.owner.replies) == ([(TIMEOUT, 1, True)], [FOUND])


def test_part_of_a_reply_is_late(pair):
    ask(pair)
    pair.server.send(FOUND[:-1])
    pair.connection.check_late(NOW + TIMEOUT_SECONDS, TIMEOUT_SECONDS)
    assert pair.owner.failures == [(TIMEOUT, 1, True)]


def test_an_end_that_has_arrived_is_no_timeout(pair):
    ask(pair)
    pair.server.shutdown(socket.SHUT_WR)
    pair.connection.check_late(NOW + TIMEOUT_SECONDS, TIMEOUT_SECONDS)
    assert pair.owner.failures == [(CLOSED, 1, True)]


def test_a_reply_that_arrives_faster_than_it_is_read_is_not_late(pair, monkeypatch):
    """It is not known yet how much of it has arrived. At the next check nothing more has."""
    monkeypatch.setattr(module, "LATE_READS", 1)
    ask(pair)
    pair.server.send(FOUND[:-1])
    pair.connection.check_late(NOW + TIMEOUT_SECONDS, TIMEOUT_SECONDS)
    assert pair.owner.failures == []
    pair.connection.check_late(NOW + TIMEOUT_SECONDS, TIMEOUT_SECONDS)
    assert pair.owner.failures == [(TIMEOUT, 1, True)]


def test_a_long_reply_that_keeps_arriving_has_more_time_and_ends_without_blame(pair):
    ask(pair)
    pair.server.send(b"VALUE k 0 100000000\r\n")
    now = NOW
    checks = 0
    while not pair.connection.closed:
        assert checks < 2 * module.TIMEOUTS_FOR_LONG
        pair.server.send(b"x" * LONG)
        pair.connection.on_readable()
        now += TIMEOUT_SECONDS
        checks += 1
        pair.connection.check_late(now, TIMEOUT_SECONDS)
    assert checks == module.TIMEOUTS_FOR_LONG
    assert pair.owner.failures == [(TIMEOUT, 1, False)]


# -- idle connections


def test_idle_counts_from_the_first_check(pair):
    """The same clock is used however the connection was opened."""
    pair.connection.check_idle(NOW, 10)
    pair.connection.check_idle(NOW + 9, 10)
    assert not pair.connection.closed
    pair.connection.check_idle(NOW + 10, 10)
    assert pair.connection.closed and pair.owner.failures == []


def test_a_connection_with_an_unanswered_request_is_not_idle(pair):
    pair.connection.check_idle(NOW, 10)
    pair.submit(*gets(1))
    pair.connection.check_idle(NOW + 20, 10)
    pair.reply(MISS)
    pair.connection.check_idle(NOW + 29, 10)
    assert not pair.connection.closed
    pair.connection.check_idle(NOW + 30, 10)
    assert pair.connection.closed


def test_a_connection_that_is_being_opened_is_not_idle(opening):
    """As with preconnect, before any request."""
    opening.connection.check_idle(NOW, 10)
    assert not opening.connection.closed
    opening.connection.check_idle(NOW + 10, 10)
    assert opening.connection.closed


# -- a server of the binary protocol


def binary_reply(number, value):
    """The packet for a hit of request `number`."""
    return packet("get", b"", value, extras=bytes(4), magic=0x81, opaque=number.to_bytes(4, "big"))


@pytest.fixture
def binary():
    made = PairedConnection("binary")
    yield made
    made.close()


def test_a_binary_server_receives_packets_and_its_replies_are_text(binary):
    requests = binary.submit(*gets(2))
    sent = received(binary.server)
    assert [sent[at] for at in (1, 27)] == [OPCODES["get"]] * 2 and len(sent) == 52
    binary.reply(binary_reply(0, b"0") + binary_reply(1, b"1"))
    assert outcomes(binary, requests) == [("answered", reply) for reply in values(2)]


def test_a_packet_of_another_request_closes_the_connection(binary):
    requests = binary.submit(*gets(2))
    binary.reply(binary_reply(1, b"1"))
    assert [result[0] for _, result in outcomes(binary, requests)] == [PROTOCOL] * 2
    assert binary.connection.closed
