"""Names and addresses, with a resolver that the test controls."""

import errno
import socket
import threading

import gevent
import pytest
from support.clock import ManualClock
from support.loop import wait_until

from gmproxy.backend import resolver as module
from gmproxy.backend.resolver import FRESH_FOR, LAST_KNOWN_FOR, MAX_LOOKUPS, RETRY_AFTER, Names
from gmproxy.errors import CONNECTING, OVERLOAD, LocalError
from gmproxy.transport.deadline import Deadline

PATIENCE = 10
PORT = 11211
IPV4, IPV6 = socket.AF_INET, socket.AF_INET6


def found(*hosts):
    return [
        (IPV6, socket.SOCK_STREAM, 6, "", (host, 0, 0, 0)) if ":" in host else (IPV4, socket.SOCK_STREAM, 6, "", (host, 0))
        for host in hosts
    ]


class Resolver:
    """
    answers   the results, or exceptions; one for each lookup, the last one for all further ones
    asked     the names that were looked up
    hang      while it is not set, lookups do not return
    """

    def __init__(self):
        self.answers = [found("192.0.2.1")]
        self.asked = []
        self.goes_on = threading.Event()
        self.goes_on.set()

    def __call__(self, host):
        self.asked.append(host)
        self.goes_on.wait(PATIENCE)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def time():
    return ManualClock()


@pytest.fixture
def resolver():
    resolver = Resolver()
    yield resolver
    resolver.goes_on.set()


@pytest.fixture
def names(resolver, time):
    return Names(resolver, lambda: time.now)


def hosts(names, host="cache", seconds=PATIENCE):
    return [address[0] for _, address in names.addresses(host, PORT, Deadline(seconds))]


def trouble(names, host="cache", seconds=PATIENCE):
    with pytest.raises(LocalError) as caught:
        names.addresses(host, PORT, Deadline(seconds))
    return caught.value.reason, caught.value.detail


SILENT = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
NO_SUCH_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


# -- addresses


@pytest.mark.parametrize(
    "host, family, address",
    [
        ("127.0.0.1", IPV4, ("127.0.0.1", PORT)),
        ("127.1", IPV4, ("127.0.0.1", PORT)),
        ("::1", IPV6, ("::1", PORT, 0, 0)),
    ],
)
def test_an_address_is_not_looked_up(names, resolver, host, family, address):
    resolver.goes_on.clear()
    assert names.addresses(host, PORT, Deadline(0)) == [(family, address)]
    assert not resolver.asked


def test_the_name_of_this_machine():
    """`localhost` is looked up by the resolver of the system."""
    assert {address[0] for _, address in Names().addresses("localhost", PORT, Deadline(PATIENCE))} & {"127.0.0.1", "::1"}


# -- names


def test_a_name(names, resolver):
    assert names.addresses("cache", PORT, Deadline(PATIENCE)) == [(IPV4, ("192.0.2.1", PORT))]
    assert names.addresses("cache", 1, Deadline(PATIENCE)) == [(IPV4, ("192.0.2.1", 1))]
    assert resolver.asked == ["cache"]


def test_an_answer_holds_for_a_moment(names, resolver, time):
    hosts(names)
    time.now += FRESH_FOR
    resolver.answers = [found("192.0.2.2")]
    assert hosts(names) == ["192.0.2.2"]


def test_all_share_one_lookup(names, resolver):
    resolver.goes_on.clear()
    asking = [gevent.spawn(hosts, names) for _ in range(50)]
    gevent.sleep(0.05)
    resolver.goes_on.set()
    assert [each.get(timeout=PATIENCE) for each in asking] == [["192.0.2.1"]] * 50
    assert resolver.asked == ["cache"]


def test_names_that_hang_take_a_bounded_number_of_threads(names, resolver):
    resolver.goes_on.clear()
    before = threading.active_count()
    asking = [gevent.spawn(trouble, names, f"cache{number}", 0.05) for number in range(3 * MAX_LOOKUPS)]
    gevent.joinall(asking, PATIENCE)
    assert {each.value for each in asking} == {(CONNECTING, "name: the name service does not reply")}
    wait_until(lambda: len(resolver.asked) >= MAX_LOOKUPS, "the last of the threads")
    assert len(resolver.asked) == MAX_LOOKUPS
    assert threading.active_count() - before <= MAX_LOOKUPS
    assert names.addresses("127.0.0.1", PORT, Deadline(0))


def test_for_a_name_that_hangs_only_the_first_wait(names, resolver):
    resolver.goes_on.clear()
    trouble(names, seconds=0.05)
    watch = gevent.Timeout.start_new(PATIENCE)
    assert trouble(names, seconds=1000) == (CONNECTING, "name: the name service does not reply")
    watch.cancel()
    resolver.goes_on.set()
    gevent.sleep(0.05)
    assert hosts(names) == ["192.0.2.1"]


def test_after_a_failure_there_is_a_moment_of_rest(names, resolver, time):
    resolver.answers = [SILENT, found("192.0.2.1")]
    assert trouble(names) == trouble(names) == (CONNECTING, "name: Temporary failure in name resolution")
    assert len(resolver.asked) == 1
    time.now += RETRY_AFTER
    assert hosts(names) == ["192.0.2.1"]


# -- the last known addresses


def test_they_hold_while_there_is_no_answer(names, resolver, time):
    hosts(names)
    resolver.answers = [SILENT]
    time.now += LAST_KNOWN_FOR - 1
    assert hosts(names) == ["192.0.2.1"]
    time.now += 1
    assert trouble(names)[0] == CONNECTING


def test_for_half_of_the_time_an_answer_is_waited_for(names, resolver, time):
    """The connection needs a part of the time too."""
    hosts(names)
    time.now += FRESH_FOR
    resolver.goes_on.clear()
    deadline = Deadline(0.2)
    assert names.addresses("cache", PORT, deadline)
    assert deadline.left() > 0


def test_a_name_that_is_no_more_has_none(names, resolver, time):
    hosts(names)
    time.now += FRESH_FOR
    resolver.answers = [NO_SUCH_NAME]
    assert trouble(names) == (CONNECTING, "name: Name or service not known")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        MemoryError("no memory"),
        socket.gaierror(socket.EAI_MEMORY, "Memory allocation failure"),
    ],
)
def test_what_we_lack(names, resolver, error):
    resolver.answers = [error]
    reason, detail = trouble(names)
    assert reason == OVERLOAD and detail.startswith("name: ")


def test_no_thread_can_be_started(names, monkeypatch):
    def refuse(self, *arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module.ThreadPool, "spawn", refuse)
    assert trouble(names) == (OVERLOAD, "name: can't start new thread")


def test_a_fault_of_our_own_is_no_hang(names, resolver, internal_errors_counted):
    resolver.answers = [ValueError("a fault of the test")]
    assert trouble(names)[0] == CONNECTING
    assert internal_errors_counted() == 1


# -- order


def test_the_families_in_turns(names, resolver):
    resolver.answers = [found("2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2")]
    assert hosts(names) == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"]


def test_the_one_that_was_reached_comes_first(names, resolver, time):
    resolver.answers = [found("192.0.2.1", "192.0.2.2", "192.0.2.3")]
    addresses = names.addresses("cache", PORT, Deadline(PATIENCE))
    names.reached("cache", addresses[2])
    assert hosts(names) == ["192.0.2.3", "192.0.2.1", "192.0.2.2"]
    time.now += FRESH_FOR
    assert hosts(names)[0] == "192.0.2.3"


def test_names_are_not_remembered_for_ever(names, monkeypatch):
    monkeypatch.setattr(module, "MAX_NAMES", 10)
    for number in range(25):
        hosts(names, f"cache{number}")
    assert len(names._names) <= 10
