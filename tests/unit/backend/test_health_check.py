"""How a server is told what it missed, and what becomes of a probe that goes wrong: with a backend that takes notes and a conversation
that does as the test says."""

import logging
from contextlib import contextmanager
from time import monotonic
from types import SimpleNamespace

import gevent
import pytest
from support.timing import PATIENCE, TICK

from gmproxy.backend import health_check, recovery
from gmproxy.backend.health import EJECTED, PROBING, Health
from gmproxy.backend.invalidations import PendingInvalidations
from gmproxy.errors import CONNECTING, OVERLOAD, TIMEOUT, BackendError, LocalError

LIMIT = 1000
TIMEOUT_OF_A_REQUEST = 0.1


class Server:
    """The other end of the conversation. `meanwhile(server)` is called in each question, after it was noted."""

    def __init__(self):
        self.told = []  # sizes of deletes, and "flush"
        self.meanwhile = lambda server: None

    def delete(self, keys, rest):
        assert keys
        self.told.append(len(keys))
        self.meanwhile(self)

    def ping(self):
        self.told.append("greet")
        self.meanwhile(self)

    def flush(self):
        self.told.append("flush")
        self.meanwhile(self)


class Backend:
    label = "a:1"
    log_name = "server=a:1"
    log = logging.getLogger("test")
    backed = False
    connections = [None]

    def __init__(self):
        self.options = SimpleNamespace(on_miss="never", timeout=TIMEOUT_OF_A_REQUEST)
        self.invalidations = PendingInvalidations(LIMIT)
        self.health = Health(3, 10.0)
        self.half_closed = []
        self.behind = False
        self.counters = SimpleNamespace(keys_deleted=0, flushes=0)
        self.observer = SimpleNamespace(was_flushed=lambda backend: None)
        self.troubles = []

    def misses(self, *keys):
        self.behind = True
        for key in keys:
            self.invalidations.note(key, 0.0)

    def recovery_failed(self, reason):
        self.troubles.append(reason)

    def on_ejected(self, reason):
        self.troubles.append(f"ejected {reason}")

    def on_restored(self):
        self.troubles.append("restored")


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
def keeper(backend, server):
    keeper = health_check.HealthChecker(backend)

    @contextmanager
    def connect(timeout=None):
        yield server

    keeper._connect = connect
    return keeper


@pytest.fixture
def catch_up(keeper):
    """Run it once."""

    def run():
        gevent.spawn(keeper._recover).join(PATIENCE)
        gevent.sleep(0)  # what it left to the loop

    return run


def keys(count, name=b"k"):
    return [b"%b%d" % (name, number) for number in range(count)]


def test_many_at_once(backend, server, catch_up):
    backend.misses(*keys(recovery.DELETE_AT_ONCE + 7))
    catch_up()
    assert server.told == [recovery.DELETE_AT_ONCE, 7]
    assert (backend.behind, len(backend.invalidations), backend.counters.keys_deleted) == (False, 0, recovery.DELETE_AT_ONCE + 7)


def test_what_comes_meanwhile_is_left_for_the_next_time(backend, server, catch_up):
    backend.misses(b"a")
    server.meanwhile = lambda server: backend.misses(b"b%d" % len(server.told))
    catch_up()
    assert server.told == [1]
    assert (backend.behind, len(backend.invalidations)) == (True, 1)


def test_what_overflowed_is_flushed(backend, server, catch_up):
    backend.misses(*keys(LIMIT + 1))
    catch_up()
    assert server.told == ["flush"]
    assert (backend.behind, backend.counters.flushes) == (False, 1)


@pytest.mark.parametrize("when", ["while it deletes", "while it waits"])
def test_what_overflows_meanwhile_is_flushed_the_next_time(backend, server, catch_up, when):
    backend.misses(b"a")
    too_many = keys(LIMIT + 1, b"more")
    if when == "while it deletes":
        server.meanwhile = lambda server: backend.misses(*too_many)
    else:
        backend.half_closed = Draining(lambda: backend.misses(*too_many))
    catch_up()
    assert backend.behind and backend.invalidations.overflowed and backend.troubles == []
    server.meanwhile = lambda server: None
    catch_up()
    assert server.told[-1] == "flush" and not backend.behind


class Draining:
    """Connections that linger: one, which ends at the third look, just after `before_that`."""

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


def test_what_cannot_be_deleted_stays(backend, server, catch_up):
    def refuse(server):
        raise BackendError(TIMEOUT, "no reply to delete")

    backend.misses(b"a", b"b")
    server.meanwhile = refuse
    catch_up()
    assert backend.behind and b"a" in backend.invalidations and b"b" in backend.invalidations
    assert backend.troubles == [TIMEOUT]


def test_what_was_deleted_before_a_failure_is_counted(backend, server, catch_up):
    def refuse_the_second(server):
        if len(server.told) == 2:
            raise BackendError(TIMEOUT, "no reply to delete")

    backend.misses(*keys(recovery.DELETE_AT_ONCE + 7))
    server.meanwhile = refuse_the_second
    catch_up()
    assert backend.behind and (len(backend.invalidations), backend.counters.keys_deleted) == (7, recovery.DELETE_AT_ONCE)
    catch_up()
    assert not backend.behind and backend.counters.keys_deleted == recovery.DELETE_AT_ONCE + 7


def test_nothing_is_deleted_before_the_lingering_connections_have_ended(backend, server, catch_up):
    order = []
    backend.misses(b"a")
    backend.half_closed = Draining(lambda: order.append("ended"))
    server.meanwhile = lambda server: order.append(server.told[-1])
    catch_up()
    assert order == ["greet", "ended", 1], "first it has to answer, last the key is deleted"


class Stuck(list):
    """Connections that the server never ends."""

    def cut(self, given_up):
        for connection in given_up:
            self.remove(connection)


def test_they_are_not_waited_for_for_ever(backend, server, catch_up):
    """It answers before and after that: what it has not read by then was never delivered."""
    backend.misses(b"a")
    backend.half_closed = Stuck(["a connection"])
    catch_up()
    assert server.told == ["greet", "greet", 1] and not backend.half_closed


@pytest.mark.parametrize("answers", [0, 1])
def test_a_server_that_hangs_may_read_them_later(backend, server, catch_up, answers):
    """It has them in its buffers. So nothing is cut, and nothing deleted, while it does not answer."""

    def hang(server):
        if server.told.count("greet") > answers:
            raise BackendError(TIMEOUT, "no reply to version")

    backend.misses(b"a")
    backend.half_closed = Stuck(["a connection"])
    server.meanwhile = hang
    catch_up()
    assert server.told == ["greet"] * (answers + 1) and backend.half_closed and b"a" in backend.invalidations
    assert backend.troubles == [TIMEOUT]


def test_more_that_come_meanwhile_are_waited_for_in_turn(backend, server, catch_up):
    class Growing(Stuck):
        def cut(self, given_up):
            super().cut(given_up)
            self.append(object())

    backend.misses(b"a")
    backend.half_closed = Growing(["a connection"])
    catch_up()
    assert b"a" in backend.invalidations and 1 not in server.told and backend.troubles == [TIMEOUT], "later, then"


def test_in_the_log_once_in_a_while(backend, catch_up, caplog):
    with caplog.at_level(logging.INFO, "test"):
        for number in range(5):
            backend.misses(b"%d" % number)
            catch_up()
    assert caplog.text.count("caught up") == 1


# -- what goes wrong


def tick(keeper):
    """Do what is due, to its end."""
    keeper.tick(monotonic())
    if keeper._at_work is not None:
        keeper._at_work.join(PATIENCE)
    gevent.sleep(0)  # what it left to the loop


def fails_with(error):
    def fail(server):
        raise error

    return fail


def wait_until_due(backend):
    while not backend.health.probe_is_due(monotonic()):
        gevent.sleep(TICK / 10)


def test_a_probe_that_is_answered_restores(backend, server, keeper):
    backend.health.failed(monotonic(), 3)
    wait_until_due(backend)
    tick(keeper)
    assert backend.troubles == ["restored"]


def test_a_probe_in_vain_that_ejects_is_announced(backend, server, keeper):
    backend.health.failed(monotonic(), 2, hangs=True)
    server.meanwhile = fails_with(BackendError(TIMEOUT, "no reply to version"))
    tick(keeper)
    assert backend.troubles == [f"ejected {TIMEOUT}"]


@pytest.mark.parametrize("fault", [ValueError("a fault of the test"), AssertionError()])
def test_a_fault_of_our_own_in_a_probe_is_recorded_and_has_no_result(backend, server, keeper, internal_errors_counted, fault):
    """Whatever is raised, wherever: nothing counts against the server, and it is probed again."""
    backend.health.failed(monotonic(), 2, hangs=True)
    server.meanwhile = fails_with(fault)
    for number in range(1, 4):
        wait_until_due(backend)
        tick(keeper)
        assert (internal_errors_counted(), backend.troubles, backend.health.failures) == (number, [], 2)
    server.meanwhile = lambda server: None
    wait_until_due(backend)
    tick(keeper)
    assert not backend.health.probe_is_due(monotonic() + 1000)


def test_an_ejected_server_is_probed_again_after_a_fault_of_our_own(backend, server, keeper, internal_errors_counted):
    backend.health.failed(monotonic(), 3)
    server.meanwhile = fails_with(ValueError("a fault of the test"))
    wait_until_due(backend)
    tick(keeper)
    assert internal_errors_counted() == 1
    server.meanwhile = lambda server: None
    wait_until_due(backend)
    tick(keeper)
    assert backend.troubles == ["restored"]


def test_a_probe_that_is_ended_from_outside(backend, server, keeper):
    backend.health.failed(monotonic(), 3)
    server.meanwhile = lambda server: gevent.sleep(3600)
    wait_until_due(backend)
    keeper.tick(monotonic())
    gevent.sleep(0)
    assert backend.health.state(monotonic()) == PROBING
    keeper._at_work.kill()
    assert backend.health.state(monotonic()) == EJECTED
    wait_until_due(backend)


@pytest.mark.parametrize("lack", [LocalError(OVERLOAD, "Too many open files"), LocalError(CONNECTING, "name: no answer")])
def test_a_probe_that_cannot_be_made_has_no_result(backend, server, keeper, internal_errors_counted, lack):
    backend.health.failed(monotonic(), 2, hangs=True)
    server.meanwhile = fails_with(lack)
    for _ in range(3):
        wait_until_due(backend)
        tick(keeper)
    assert (internal_errors_counted(), backend.troubles, backend.health.failures) == (0, [], 2)


def test_for_want_of_a_descriptor_nothing_is_deleted_and_nobody_blamed(backend, server, catch_up):
    backend.misses(b"a")
    server.meanwhile = fails_with(LocalError(OVERLOAD, "Too many open files"))
    catch_up()
    assert backend.behind and b"a" in backend.invalidations
    assert backend.troubles == []


def test_a_fault_of_our_own_while_catching_up(backend, server, keeper, internal_errors_counted):
    """It is recorded, the keys stay, and it is tried again after a while."""
    backend.misses(b"a")
    server.meanwhile = fails_with(ValueError("a fault of the test"))
    tick(keeper)
    tick(keeper)
    assert internal_errors_counted() == 1 and backend.behind and b"a" in backend.invalidations
    server.meanwhile = lambda server: None
    gevent.sleep(recovery.CATCH_UP_AGAIN)
    tick(keeper)
    assert not backend.behind
