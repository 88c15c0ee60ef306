"""Every order of the requests of two clients, the events on servers, and one failure: each request gets one reply, and no client reads a stale value.

A small model checker: explorer.py tries the orders, world.py defines the events, adapter.py runs the real gmproxy, servers.py is a model of
memcached, clients.py has the requests, and promises.py judges the replies. This file selects what is combined.

Guaranteed on each path, with one worker (docs/failures.md):

    each request gets one reply                       Client.receive, World.finish
    no value is stale, in any reply or at the end     promises.explain; at the end the keys are read, while each primary is ejected,
                                                      and after it is restored
    nothing is held when no request is in progress    Proxy.held

promises.explain and promises.excuse define what is not guaranteed, and so not checked.
"""

import pytest

from model.clients import CLASSES
from model.faults import FAULTS
from model.pairs import check_pairs, explore_pair, pairs_of
from model.service import CLOSES, EVICTS, IS_EJECTED, KINDS, NO_FAILURE, RESTARTS, SERVICES, TIMES_OUT, Failure

#: Classes of commands that are routed differently. A pair of LONG classes has many paths: it is only tested without a failure, in the test of
#: all classes. The quick tests combine only the FEW with failures.
DISTINCT = ("get", "set", "gets, cas", "append", "delete", "gat of two", "flush_all")
LONG = {"gets, cas", "gat of two"}
FEW = ("get", "set", "append")

#: Faults that have been fixed, and that no other quick test would find: service, pair, failure.
MENDED = [
    ("backup, off", "set", "set", CLOSES, "A"),
    ("warming", "replace", "get", RESTARTS, "A"),
]

#: Known violations: service, pair, failure, reason.
KNOWN = [
    ("warming", "append", "get", TIMES_OUT, "B",
     "a read that is answered by the backup is told what the backup made of an append that the primary refused, before it is deleted there"),
    ("warming", "append", "get", EVICTS, "A", "the same, where the primary has lost the key"),
]  # fmt: skip


def is_known(service: str, kind: str, server: str, pair: tuple[str, str]) -> bool:
    """True if a pair may have a KNOWN violation. It is left out then."""
    return service == "warming" and "append" in pair and (kind, server) in {(TIMES_OUT, "B"), (EVICTS, "A")}


#: (service, kind of failure, server) of the tests with a failure: of the quick test, and of the long one.
QUICK = [
    ("one server", CLOSES, "A"),
    ("one server", TIMES_OUT, "A"),
    ("two servers", IS_EJECTED, "A"),
    ("backup, async", CLOSES, "A"),
    ("backup, async", TIMES_OUT, "A"),
    ("backup, async", CLOSES, "B"),
    ("backup, sync", TIMES_OUT, "B"),
]
ALL = [(name, kind, server) for name, service in SERVICES.items() for kind in KINDS for server in service.primaries + service.backups]


def shorter_pairs() -> list[tuple[str, str]]:
    return [pair for pair in pairs_of(DISTINCT) if not LONG.issuperset(pair)]


@pytest.mark.parametrize("service", SERVICES)
def test_without_a_failure(service):
    check_pairs(service, shorter_pairs())


@pytest.mark.parametrize("service, kind, server", QUICK)
def test_with_a_failure(service, kind, server):
    check_pairs(service, pairs_of(FEW), Failure((kind,), server))


@pytest.mark.long
@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("one", CLASSES)
def test_all_classes_without_a_failure(service, one):
    check_pairs(service, [pair for pair in pairs_of(CLASSES) if pair[0] == one])


@pytest.mark.parametrize("service, one, other, kind, server", MENDED)
def test_went_wrong_once(service, one, other, kind, server):
    found = explore_pair(service, one, other, Failure((kind,), server), until_found=True).found
    assert found is None, str(found)


@pytest.mark.parametrize(
    "service, one, other, kind, server",
    [pytest.param(*known, marks=pytest.mark.xfail(strict=True, reason=reason)) for *known, reason in KNOWN],
)
def test_known_to_go_wrong(service, one, other, kind, server):
    found = explore_pair(service, one, other, Failure((kind,), server), until_found=True).found
    assert found is None, str(found)


@pytest.mark.long
@pytest.mark.parametrize("service, kind, server", ALL)
def test_all_failures(service, kind, server):
    pairs = [pair for pair in shorter_pairs() if not is_known(service, kind, server, pair)]
    check_pairs(service, pairs, Failure((kind,), server))


# -- the model finds faults


@pytest.mark.parametrize(
    "fault, service, one, other, kind",
    [
        ("nothing is noted that a server missed", "backup, async", "get", "set", CLOSES),
        ("connections that were given up are not waited for", "one server", "set", "set", TIMES_OUT),
        ("a backup that answers otherwise keeps its value", "backup, async", "append", "get", EVICTS),
        ("what is being fetched is not known to become old", "warming", "get", "delete", ""),
        ("changes under way to a stand-in are not followed", "two servers", "set", "set", IS_EJECTED),
        ("cas numbers of the primary are good for the backup", "backup, async", "gets, cas", "set", IS_EJECTED),
    ],
)
def test_a_fault_is_found(fault, service, one, other, kind):
    """gmproxy with one function replaced by a wrong one."""
    failure = Failure((kind,), "A") if kind else NO_FAILURE
    with FAULTS[fault]():
        found = explore_pair(service, one, other, failure, until_found=True).found
    print(found)
    assert found is not None
