"""A server that missed writes: their keys are deleted there, or the whole server is flushed, and each is kept until then."""

import logging

import pytest
from support.checked import JOURNAL_SIZE, Checked, fails_with

from gmproxy.backend import recovery
from gmproxy.errors import OVERLOAD, TIMEOUT, BackendError, LocalError


@pytest.fixture
def checked():
    return Checked()


@pytest.fixture
def backend(checked):
    return checked.backend


@pytest.fixture
def connection(checked):
    return checked.connection


@pytest.fixture
def catch_up(checked):
    """Runs the recovery once."""
    return checked.catch_up


def keys(count, name=b"k"):
    return [b"%b%d" % (name, number) for number in range(count)]


def test_many_at_once(backend, connection, catch_up):
    backend.misses(*keys(recovery.DELETE_AT_ONCE + 7))
    catch_up()
    assert connection.commands == [recovery.DELETE_AT_ONCE, 7]
    assert (backend.behind, len(backend.invalidations), backend.counters.keys_deleted) == (False, 0, recovery.DELETE_AT_ONCE + 7)


def test_what_comes_meanwhile_is_left_for_the_next_time(backend, connection, catch_up):
    backend.misses(b"a")
    connection.meanwhile = lambda connection: backend.misses(b"b%d" % len(connection.commands))
    catch_up()
    assert connection.commands == [1]
    assert (backend.behind, len(backend.invalidations)) == (True, 1)


def test_what_overflowed_is_flushed(backend, connection, catch_up):
    backend.misses(*keys(JOURNAL_SIZE + 1))
    catch_up()
    assert connection.commands == ["flush"]
    assert (backend.behind, backend.counters.flushes) == (False, 1)


@pytest.mark.parametrize("when", ["while it deletes", "while it waits"])
def test_what_overflows_meanwhile_is_flushed_the_next_time(backend, connection, catch_up, when):
    backend.misses(b"a")
    too_many = keys(JOURNAL_SIZE + 1, b"more")
    if when == "while it deletes":
        connection.meanwhile = lambda connection: backend.misses(*too_many)
    else:
        backend.half_closed = Draining(lambda: backend.misses(*too_many))
    catch_up()
    assert backend.behind and backend.invalidations.overflowed and backend.reports == []
    connection.meanwhile = lambda connection: None
    catch_up()
    assert connection.commands[-1] == "flush" and not backend.behind


class Draining:
    """Half-closed connections: one, which ends when it is checked for the third time, just after `before_that`."""

    def __init__(self, before_that):
        self._before_that = before_that
        self._looks = 0

    def __iter__(self):
        self._looks += 1
        if self._looks == 3:
            self._before_that()
        return iter(["a connection"] if self._looks < 3 else [])

    def __len__(self):
        return len([*self])


def test_what_cannot_be_deleted_stays(backend, connection, catch_up):
    def refuse(connection):
        raise BackendError(TIMEOUT, "no reply to delete")

    backend.misses(b"a", b"b")
    connection.meanwhile = refuse
    catch_up()
    assert backend.behind and b"a" in backend.invalidations and b"b" in backend.invalidations
    assert backend.reports == [TIMEOUT]


def test_what_was_deleted_before_a_failure_is_counted(backend, connection, catch_up):
    def refuse_the_second(connection):
        if len(connection.commands) == 2:
            raise BackendError(TIMEOUT, "no reply to delete")

    backend.misses(*keys(recovery.DELETE_AT_ONCE + 7))
    connection.meanwhile = refuse_the_second
    catch_up()
    assert backend.behind and (len(backend.invalidations), backend.counters.keys_deleted) == (7, recovery.DELETE_AT_ONCE)
    catch_up()
    assert not backend.behind and backend.counters.keys_deleted == recovery.DELETE_AT_ONCE + 7


def test_nothing_is_deleted_before_the_lingering_connections_have_ended(backend, connection, catch_up):
    order = []
    backend.misses(b"a")
    backend.half_closed = Draining(lambda: order.append("ended"))
    connection.meanwhile = lambda connection: order.append(connection.commands[-1])
    catch_up()
    assert order == ["ping", "ended", 1], "first it has to answer, last the key is deleted"


class Stuck(list):
    """Connections that the server never ends."""

    def cut(self, given_up):
        for connection in given_up:
            self.remove(connection)


def test_they_are_not_waited_for_for_ever(backend, connection, catch_up):
    """It replies before and after that: what it has not read by then is never delivered."""
    backend.misses(b"a")
    backend.half_closed = Stuck(["a connection"])
    catch_up()
    assert connection.commands == ["ping", "ping", 1] and not backend.half_closed


@pytest.mark.parametrize("answers", [0, 1])
def test_a_server_that_hangs_may_read_them_later(backend, connection, catch_up, answers):
    """It has them in its buffers. So no connection is cut, and no key deleted, while it does not reply."""

    def hang(connection):
        if connection.commands.count("ping") > answers:
            raise BackendError(TIMEOUT, "no reply to version")

    backend.misses(b"a")
    backend.half_closed = Stuck(["a connection"])
    connection.meanwhile = hang
    catch_up()
    assert connection.commands == ["ping"] * (answers + 1) and backend.half_closed and b"a" in backend.invalidations
    assert backend.reports == [TIMEOUT]


def test_more_that_come_meanwhile_are_waited_for_in_turn(backend, connection, catch_up):
    class Growing(Stuck):
        def cut(self, given_up):
            super().cut(given_up)
            self.append(object())

    backend.misses(b"a")
    backend.half_closed = Growing(["a connection"])
    catch_up()
    assert b"a" in backend.invalidations and 1 not in connection.commands and backend.reports == [TIMEOUT], "later, then"


# -- writes of processes that have ended


@pytest.fixture
def order(backend, connection, monkeypatch):
    """What the recovery does, in order: commands, and its sleeps of a timeout. `order.then()` is called at each sleep."""

    class Order(list):
        then = staticmethod(lambda: None)

    order = Order()
    connection.meanwhile = lambda connection: order.append(connection.commands[-1])

    real_sleep = recovery.gevent.sleep

    def sleep(seconds):
        if seconds == backend.options.timeout:
            order.append("timeout")
            order.then()
        else:
            real_sleep(seconds)

    monkeypatch.setattr(recovery.gevent, "sleep", sleep)
    return order


def test_nothing_is_deleted_before_the_server_has_read_what_an_ended_process_sent(backend, catch_up, order):
    """It replies, and once more a timeout later."""
    backend.misses(b"a")
    backend.unsettled = True
    catch_up()
    assert order == ["ping", "timeout", "ping", 1]
    assert not backend.unsettled and not backend.behind
    backend.misses(b"b")
    catch_up()
    assert order[4:] == [1], "later keys need not wait"


def test_nor_is_it_flushed(backend, catch_up, order):
    backend.misses(*keys(JOURNAL_SIZE + 1))
    backend.unsettled = True
    catch_up()
    assert order == ["ping", "timeout", "ping", "flush"]


@pytest.mark.parametrize("answers", [0, 1])
def test_it_does_not_reply_meanwhile(backend, connection, catch_up, order, answers):
    """It is tried again, from the beginning."""

    def hang(connection):
        order.append(connection.commands[-1])
        if connection.commands.count("ping") > answers:
            raise BackendError(TIMEOUT, "no reply to version")

    backend.misses(b"a")
    backend.unsettled = True
    connection.meanwhile = hang
    catch_up()
    assert order == ["ping", "timeout", "ping"][: 1 + 2 * answers] and backend.unsettled and b"a" in backend.invalidations
    assert backend.reports == [TIMEOUT]


def test_another_process_that_ends_meanwhile_is_waited_for_as_well(backend, catch_up, order):
    def end_another():
        if order.count("timeout") == 1:
            backend.misses(b"b")
            backend.unsettled = True

    order.then = end_another
    backend.misses(b"a")
    backend.unsettled = True
    catch_up()
    assert order == ["ping", "timeout", "ping"] * 2 + [2] and not backend.unsettled


def test_also_while_keys_are_deleted(backend, connection, catch_up, order):
    def end_another(connection):
        order.append(connection.commands[-1])
        if order == [recovery.DELETE_AT_ONCE]:
            backend.unsettled = True

    connection.meanwhile = end_another
    backend.misses(*keys(recovery.DELETE_AT_ONCE + 7))
    catch_up()
    assert order == [recovery.DELETE_AT_ONCE, "ping", "timeout", "ping", 7]


def test_processes_that_keep_ending_are_not_waited_for_for_ever(backend, catch_up, order):
    def end_another():
        backend.unsettled = True

    order.then = end_another
    backend.misses(b"a")
    backend.unsettled = True
    catch_up()
    assert order == ["ping", "timeout", "ping"] * recovery.MAX_WAITS and backend.unsettled and b"a" in backend.invalidations
    assert backend.reports == [TIMEOUT]


# -- the rest


def test_in_the_log_once_in_a_while(backend, catch_up, caplog):
    with caplog.at_level(logging.INFO, "test"):
        for number in range(5):
            backend.misses(b"%d" % number)
            catch_up()
    assert caplog.text.count("caught up") == 1


def test_for_want_of_a_descriptor_nothing_is_deleted_and_nobody_blamed(backend, connection, catch_up):
    backend.misses(b"a")
    connection.meanwhile = fails_with(LocalError(OVERLOAD, "Too many open files"))
    catch_up()
    assert backend.behind and b"a" in backend.invalidations
    assert backend.reports == []
