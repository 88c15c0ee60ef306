"""The reports of several workers, as one. The report of a worker is tested with real processes, in tests/admin."""

import copy
import json
import os
from types import SimpleNamespace

import pytest

from gmproxy.monitoring import report
from gmproxy.monitoring.report import BOUNDS


def backend(label="a:1", role="primary", **told):
    return {
        "label": label,
        "name": "",
        "address": label,
        "weight": 1,
        "role": role,
        "set": "main",
        "zone": "",
        "enabled": True,
        "share": 0.5,
        "state": "up",
        "state_since": 10.0,
        "by_hand": False,
        "ejected_at": 0.0,
        "last_error": "",
        "last_error_at": 0.0,
        "identity": None,
        "links": 1,
        "connects": 1,
        "in_flight": 2,
        "backlog": 3,
        "unsent": 1,
        "bytes_waiting": 4,
        "requests": {"get": 5},
        "keys": 6,
        "hits": 4,
        "refills": 1,
        "refills_undone": 1,
        "errors": {"timeout": 1, "closed": 0},
        "failures": 1,
        "ejections": 1,
        "journal": 2,
        "journal_everything": False,
        "journal_age": 1.5,
        "journal_deleted": 3,
        "journal_flushes": 0,
        "bytes_sent": 100,
        "bytes_received": 200,
        "latency": {"count": 5, "sum": 0.5, "buckets": [5] + [0] * len(BOUNDS)},
    } | told


def of_worker(pid, *backends, **told):
    clients = {
        "current": 3,
        "asleep": 2,
        "accepted": 2,
        "rejected": 0,
        "dropped": 0,
        "limit": 100,
        "held": 5,
        "bytes_read": 10,
        "bytes_written": 20,
    }
    pool = {
        "clients": clients,
        "misses_for_errors": 1,
        "backup_writes_lost": 2,
        "backup_writes_differed": 3,
        "conflicting_changes": 1,
        "verify_compared": 2,
        "verify_different": 1,
        "flushes": 4,
        "fragments": 5,
        "options": {"timeout": "1000"},
        "backends": list(backends),
    }
    return {
        "pid": pid,
        "version": "1",
        "build": "pure",
        "workers": [pid],
        "started": 100.0 + pid,
        "time": 200.0 + pid,
        "process": {"cpu_user": 1.5, "cpu_system": 0.5, "resident": 1000, "open_files": 10, "journal_errors": 1},
        "loop_lag": pid / 10,
        "draining": False,
        "fills_enabled": True,
        "journal": "ok",
        "pools": {"default": pool},
        "latency_bounds": list(BOUNDS),
        "events": [],
    } | told


def test_open_files_are_counted_and_not_listed():
    """From Linux 6.2 on. A list of 50,000 files takes 25 ms, in which no client is served."""
    if not os.stat("/proc/self/fd").st_size:
        pytest.skip("an older kernel")
    count = report.OpenFiles().count()
    assert abs(count - len(os.listdir("/proc/self/fd"))) <= 1
    with open(os.devnull):
        assert report.OpenFiles().count() == count + 1


def test_where_they_must_be_listed_that_is_done_seldom(monkeypatch, tmp_path):
    monkeypatch.setattr(report.os, "stat", lambda path: SimpleNamespace(st_size=0))
    monkeypatch.setattr(report, "OPEN_FILES_OF", str(tmp_path))
    now = [100.0]
    files = report.OpenFiles(lambda: now[0])
    assert files.count() == 0
    (tmp_path / "1").touch()
    now[0] += report.LISTED_EVERY / 2
    assert files.count() == 0
    now[0] += report.LISTED_EVERY / 2
    assert files.count() == 1


def test_counters_add_up_and_the_rest_speaks_for_all():
    whole = report.merge([of_worker(1, backend()), of_worker(2, backend(requests={"get": 1, "set": 7}))], pid=9)
    assert (whole["pid"], whole["workers"], whole["started"], whole["time"], whole["loop_lag"]) == (9, [1, 2], 101.0, 202.0, 0.2)
    assert whole["process"] == {"cpu_user": 3.0, "cpu_system": 1.0, "resident": 2000, "open_files": 20, "journal_errors": 2}
    pool = whole["pools"]["default"]
    assert pool["clients"] == {
        "current": 6,
        "asleep": 4,
        "accepted": 4,
        "rejected": 0,
        "dropped": 0,
        "limit": 100,
        "held": 10,
        "bytes_read": 20,
        "bytes_written": 40,
    }
    assert (pool["flushes"], pool["fragments"], pool["options"]) == (8, 10, {"timeout": "1000"})
    (one,) = pool["backends"]
    assert one["requests"] == {"get": 6, "set": 7}
    assert one["errors"] == {"timeout": 2, "closed": 0}
    assert (one["links"], one["in_flight"], one["bytes_sent"], one["share"], one["weight"]) == (2, 4, 200, 0.5, 1)
    assert one["latency"] == {"count": 10, "sum": 1.0, "buckets": [10] + [0] * len(BOUNDS)}


def test_a_state_is_the_worst_and_an_error_the_latest():
    whole = report.merge(
        [
            of_worker(1, backend(state="up", state_since=50.0, last_error="timeout", last_error_at=3.0)),
            of_worker(2, backend(state="ejected", state_since=20.0, last_error="closed", last_error_at=2.0, by_hand=True)),
            of_worker(3, backend(state="probing", state_since=30.0)),
        ]
    )
    (one,) = whole["pools"]["default"]["backends"]
    assert (one["state"], one["state_since"], one["by_hand"], one["last_error"]) == ("ejected", 20.0, True, "timeout")


def test_pending_invalidations_are_those_of_all_workers():
    whole = report.merge(
        [of_worker(1, backend(journal=2, journal_age=3.0)), of_worker(2, backend(journal=1, journal_age=9.0, journal_everything=True))]
    )
    (one,) = whole["pools"]["default"]["backends"]
    assert (one["journal"], one["journal_age"], one["journal_everything"]) == (3, 9.0, True)


@pytest.mark.parametrize(
    "states, whole",
    [(["none", "none"], "none"), (["ok", "ok"], "ok"), (["ok", "off"], "off"), (["off", "incomplete"], "incomplete")],
)
def test_the_state_of_the_journal_is_the_worst(states, whole):
    reports = [of_worker(number, journal=state) for number, state in enumerate(states, 1)]
    assert report.merge([*reports, report.counters_only(of_worker(9, journal="incomplete"))])["journal"] == whole


def test_fills_are_enabled_if_they_are_in_all_workers():
    off = of_worker(2, fills_enabled=False)
    assert not report.merge([of_worker(1), off])["fills_enabled"]
    assert report.merge([of_worker(1), report.counters_only(off)])["fills_enabled"], "that worker has ended"


def test_servers_are_matched_by_address_role_and_place():
    whole = report.merge(
        [
            of_worker(1, backend("a:1"), backend("a:1"), backend("a:1", "backup")),
            of_worker(2, backend("a:1"), backend("new:1"), backend("a:1", "backup")),
        ]
    )
    assert [(one["label"], one["role"], one["links"]) for one in whole["pools"]["default"]["backends"]] == [
        ("a:1", "primary", 2),
        ("a:1", "primary", 1),
        ("a:1", "backup", 2),
        ("new:1", "primary", 1),
    ]


def test_pools_of_any_name_and_those_that_only_one_worker_knows():
    one, two = of_worker(1, backend()), of_worker(2, backend())
    two["pools"]["time"] = copy.deepcopy(two["pools"]["default"])
    assert list(report.merge([one, two])["pools"]) == ["default", "time"]


def test_what_a_worker_had_counted_counts_on():
    lost = backend(state="ejected", state_since=99.0, by_hand=True, last_error="timeout", last_error_at=3.0)
    gone = report.counters_only(of_worker(2, lost, backend("removed:1"), loop_lag=7.0, draining=True, events=[{"what": "it began"}]))
    gone["pools"]["removed"] = copy.deepcopy(gone["pools"]["default"])
    for silent in ([gone], [report.merge([gone, report.counters_only(of_worker(3))])]):
        whole = report.merge([of_worker(1, backend(state_since=5.0)), *silent])
        assert (whole["workers"], whole["loop_lag"], whole["draining"], whole["events"]) == ([1], 0.1, False, [])
        assert (whole["process"]["resident"], whole["process"]["open_files"]) == (1000, 10)
        assert list(whole["pools"]) == ["default"]
        clients = whole["pools"]["default"]["clients"]
        assert (clients["current"], clients["asleep"], clients["held"], clients["limit"]) == (3, 2, 5, 100)
        assert clients["accepted"] >= 4 and clients["bytes_read"] >= 20 and whole["process"]["cpu_user"] >= 3.0
        (one,) = whole["pools"]["default"]["backends"]
        assert (one["requests"], one["hits"], one["bytes_sent"], one["latency"]["count"]) == ({"get": 10}, 8, 200, 10)
        assert (one["links"], one["in_flight"], one["backlog"], one["unsent"], one["bytes_waiting"], one["journal"]) == (1, 2, 3, 1, 4, 2)
        assert (one["state"], one["state_since"], one["by_hand"], one["last_error"]) == ("up", 5.0, False, "timeout")


def test_a_merge_can_be_sent_and_merged_again():
    whole = report.merge([of_worker(1, backend()), of_worker(2, backend())])
    assert report.merge([json.loads(json.dumps(whole))], whole["pid"]) == whole


def test_troubles():
    well = of_worker(1, backend(), backend("b:2", state="ejected"))
    assert report.health_problems(well) == []
    assert report.health_problems(well, workers=2) == ["1 of 2 workers reply"]
    assert report.health_problems(well | {"draining": True}) == ["draining: no new clients are accepted"]
    assert report.health_problems(of_worker(1, backend(state="probing"))) == ["pool default: all servers are ejected"]
