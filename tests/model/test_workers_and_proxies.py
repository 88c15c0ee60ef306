"""As test_interleavings.py, for two workers of one service, and for two services of one worker each that have the same servers (`--proxies several`).

Client 1 is connected to the first worker, client 2 to the second one, client 3 to the first one again. A failure of a server happens to one of the
workers, or one of the workers dies.

Two workers guarantee what one does. Two proxies guarantee less: promises.stays_resurrected. A path in which one of them missed a write is not judged.
"""

import pytest

from model.faults import FAULTS
from model.pairs import check_pairs, explore_classes, explore_pair, pairs_of, violation_after
from model.service import CLOSES, DIES, EVICTS, IS_EJECTED, KINDS, NO_FAILURE, PROXIES, RESTARTS, TIMES_OUT, WORKERS, Failure

#: Classes of commands that are routed differently.
DISTINCT = ("get", "set", "delete", "append", "incr", "add", "gets, cas", "gat", "flush_all")

#: What differs among proxies: a command that depends on the previous value has another result on each server if there are two writers.
OF_PROXIES = ("get", "set", "delete", "add", "gat", "flush_all")

#: Three clients: two writers and a read that fills.
THREE = (("set", "set", "get"), ("set", "delete", "get"))

#: Without a failure: {service: classes of which all pairs are explored}.
QUICK = {
    "2 workers, two servers": ("get", "set", "delete", "append"),
    "2 workers, backup, async": ("get", "set"),
    "2 workers, warming": ("get", "delete"),
    "2 proxies, backup, sync": ("set", "delete"),
    "2 proxies, warming": ("get", "delete"),
}

#: (service, pair, kind of failure, server), with few paths.
QUICK_FAILURES = [
    ("2 workers, backup, async", ("set", "get"), CLOSES, "A"),
    ("2 workers, backup, async", ("set", "get"), TIMES_OUT, "B"),
    ("2 workers, backup, async", ("get", "get"), DIES, ""),
]

#: Known violations: service, pair, failure, reason.
KNOWN = [
    ("2 workers, two servers", "set", "set", DIES, "",
     "without a backup, no other worker knows what was in flight in a worker that has died: its write may be made after a later one"),
]  # fmt: skip


@pytest.mark.parametrize("service", QUICK)
def test_pairs_without_a_failure(service):
    check_pairs(service, pairs_of(QUICK[service]))


@pytest.mark.parametrize("service, pair, kind, server", QUICK_FAILURES)
def test_pairs_with_a_failure(service, pair, kind, server):
    check_pairs(service, [pair], Failure((kind,), server))


@pytest.mark.parametrize(
    "service, one, other, kind, server",
    [pytest.param(*known, marks=pytest.mark.xfail(strict=True, reason=reason)) for *known, reason in KNOWN],
)
def test_known_violations(service, one, other, kind, server):
    found = explore_pair(service, one, other, Failure((kind,), server) if kind else NO_FAILURE, until_found=True).found
    assert found is None, str(found)


@pytest.mark.long
@pytest.mark.parametrize("pair", pairs_of(DISTINCT), ids=" | ".join)
@pytest.mark.parametrize("service", WORKERS)
def test_workers_without_a_failure(service, pair):
    check_pairs(service, [pair, pair[::-1]])


@pytest.mark.long
@pytest.mark.parametrize("pair", pairs_of(OF_PROXIES), ids=" | ".join)
@pytest.mark.parametrize("service", PROXIES)
def test_proxies_without_a_failure(service, pair):
    check_pairs(service, [pair, pair[::-1]])


@pytest.mark.long
@pytest.mark.parametrize("classes", THREE, ids=" | ".join)
@pytest.mark.parametrize("service", ["2 workers, warming", "2 proxies, warming"])
def test_three_clients(service, classes):
    check_pairs(service, [classes])


@pytest.mark.long
@pytest.mark.parametrize("kind", [RESTARTS, EVICTS, CLOSES])
@pytest.mark.parametrize("service", PROXIES)
def test_proxies_with_a_failure(service, kind):
    check_pairs(service, [("set", "get"), ("get", "delete"), ("set", "delete")], Failure((kind,), "A"))


@pytest.mark.long
@pytest.mark.parametrize("server", "AB")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != IS_EJECTED])
@pytest.mark.parametrize("service", WORKERS)
def test_workers_with_a_failure(service, kind, server):
    check_pairs(service, [("set", "get"), ("delete", "get")], Failure((kind,), server))


# -- the model finds faults


@pytest.mark.parametrize(
    "fault, service, classes, failure",
    [
        ("changes of another worker are not noticed", "2 workers, backup, async", ("set", "set"), NO_FAILURE),
        ("a fill ignores another worker's change", "2 workers, warming", ("get", "delete"), NO_FAILURE),
        ("a fill is not verified", "2 proxies, warming", ("get", "delete"), NO_FAILURE),
        ("a delete is sent to the primary first", "2 proxies, warming", ("get", "delete"), NO_FAILURE),
    ],
)
def test_a_fault_of_workers_or_proxies_is_found(fault, service, classes, failure):
    """gmproxy with one function replaced by a wrong one."""
    with FAULTS[fault]():
        found = explore_classes(service, classes, failure, until_found=True).found
    print(found)
    assert found is not None


#: {fault: (service, classes, failure, the beginnings of the events)}: the explorer would need minutes to find them.
PATHS = {
    "an ejection is not followed": (
        "2 workers, two servers",
        ("set, then get", "set"),
        Failure((IS_EJECTED,), "A"),
        [
            "A is ejected for w1",
            "client 1 sends set",
            "B.w1.1 executes",
            "B.w1.1 replies",
            "client 2 sends set",
            "A.w2.1 executes",
            "A.w2.1 replies",
            "client 1 sends get",
            "B.w1.1 executes",
            "B.w1.1 replies",
        ],
    ),
    "what a worker has left is wiped": (
        "2 workers, backup, async",
        ("set", "get"),
        Failure((DIES,), ""),
        ["client 1 sends set", "w1 dies, 1 of 1 sent to A.w1.1, 0 of 1 sent to B.w1.1", "w2 adopts", "A.w1.1 executes"],
    ),
}


@pytest.mark.parametrize("fault", PATHS)
def test_a_fault_is_found_on_a_path(fault):
    service, classes, failure, path = PATHS[fault]
    with FAULTS[fault]():
        violation = violation_after(service, classes, failure, path)
    print(violation)
    assert violation is not None


def test_a_worker_that_has_died_is_adopted():
    service, classes, failure, path = PATHS["what a worker has left is wiped"]
    assert violation_after(service, classes, failure, path) is None


@pytest.mark.parametrize("service", ["2 workers, backup, async", "2 workers, backup, sync"])
def test_the_backup_gets_two_writes_in_the_other_order(service):
    path = ["client 1 sends", "client 2 sends", "A.w1.1 executes", "A.w2.1 executes", "B.w2.1 executes", "B.w1.1 executes"]
    assert violation_after(service, ("set", "set"), NO_FAILURE, path) is None


#: Faults that have been fixed, and that the explorer would need minutes to find: (service, classes, failure, the beginnings of the events, what was
#: wrong).
MENDED_PATHS = [
    (
        "2 workers, backup, async",
        ("set, then get", "set"),
        Failure((IS_EJECTED,), "A"),
        "A is ejected for w1; w2 ticks; client 2 sends set; A answers w2's own version; A answers w1's own version; A answers w2's own delete; "
        "client 1 sends set; B.w1.1 executes; B.w1.1 replies; A.w1.2 executes; A.w1.2 replies; B.w1.1 executes; client 1 sends get; "
        "A.w1.2 executes; A.w1.2 replies; B.w2.1 executes; B.w2.1 replies",
        "a write that was sent to the backup alone ends last: the key is deleted nowhere, and the two servers differ",
    ),
    (
        "2 workers, backup, async",
        ("incr, then get", "set"),
        Failure((IS_EJECTED,), "A"),
        "client 1 sends incr; A is ejected for w2; A.w1.1 executes; A.w1.1 replies; client 1 sends get; client 2 sends set; "
        "A answers w2's own version; A answers w2's own delete; w1 ticks; B.w2.1 executes; A answers w1's own version; B.w1.1 executes",
        "a read is answered by the backup, which has made the writes of two workers in the other order",
    ),
    (
        "2 workers, backup, async",
        ("incr", "incr"),
        Failure((IS_EJECTED,), "A"),
        "A is ejected for w2; client 1 sends incr; A answers w1's own version; A answers w1's own delete; A answers w2's own version; "
        "client 2 sends incr; B.w2.1 executes; B.w1.1 executes; B.w1.1 replies; A.w2.2 executes; B.w2.1 replies; A.w2.2 replies",
        "an incr that is answered by the backup has counted one that the primary has refused",
    ),
]


@pytest.mark.parametrize("service, classes, failure, path", [mended for *mended, _ in MENDED_PATHS])
def test_paths_that_went_wrong_once(service, classes, failure, path):
    violation = violation_after(service, classes, failure, path.split("; "))
    assert violation is None, violation
