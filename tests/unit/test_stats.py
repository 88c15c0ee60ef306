"""What `stats` and `version` answer, over a service that is made up."""

import json
import re
from types import SimpleNamespace

import pytest

from gmproxy import __version__
from gmproxy.client import stats
from gmproxy.config import configuration


def backend(label, asked=0, found=0, ejected=False, connections=(None,)):
    return SimpleNamespace(
        label=label,
        health=SimpleNamespace(ejected=ejected, ejections=1),
        connections=list(connections),
        invalidations={b"k", b"l"},
        behind=True,
        half_closed=[object()],
        fetches={b"k": None},
        counters=SimpleNamespace(
            keys_asked=asked,
            values_found=found,
            replies=asked,
            failures=1,
            fills=2,
            keys_deleted=7,
            flushes=1,
            replies_by_command=lambda: {"get": asked, "set": 2, "cas": 1, "touch": 4},
        ),
    )


class Sessions(list):
    """Three, of whom two are asleep."""

    def __init__(self):
        super().__init__("abc")

    def idle(self):
        return 2

    def traffic(self):
        return 1000, 2000


@pytest.fixture
def service():
    (options,), _ = configuration.parse(["-s", "a:1", "-s", "b:2", "-b", "c:3", "-n", "77"], {})
    router = SimpleNamespace(
        backends=[backend("a:1", 10, 7, connections=(None, object())), backend("b:2", 5, 1, ejected=True)],
        backups=[backend("c:3", 100, 100, connections=(object(), object()))],
        misses_for_errors=4,
        copies=SimpleNamespace(lost=3, differed=1, undecided=lambda: 4),
        unready=5,
    )
    return SimpleNamespace(
        options=options,
        router=router,
        clients=Sessions(),
        connections=30,
        rejected=2,
        dropped=1,
        auth_errors=8,
        held=12,
        flushes=6,
        worker_context=SimpleNamespace(started_at=0.0),
        max_clients=77,
        reset_counters=lambda: None,
    )


def facts(answer):
    """{name: value}; every line must be one of memcached's STAT lines."""
    *lines, end = answer.split(b"\r\n")[:-1]
    assert end == b"END"
    assert all(re.fullmatch(rb"STAT [a-z0-9_]+ [^\r\n]+", line) for line in lines)
    names = [line.split(b" ")[1] for line in lines]
    assert len(names) == len(set(names))
    return {line.split(b" ", 2)[1].decode(): line.split(b" ", 2)[2].decode() for line in lines}


def test_general(service):
    told = facts(stats.answer(service, []))
    expected = {
        "curr_connections": "3",
        "sleeping_connections": "2",
        "total_connections": "30",
        "rejected_connections": "2",
        "auth_errors": "8",
        "max_connections": "77",
        "cmd_get": "15",
        "get_hits": "8",
        "get_misses": "7",
        "cmd_flush": "6",
        "cmd_set": "6",
        "cmd_touch": "8",
        "bytes_read": "1000",
        "bytes_written": "2000",
        "backends": "2",
        "backends_ejected": "1",
        "backend_links": "3",
        "backend_requests": "115",
        "backend_failures": "3",
        "get_errors_as_misses": "4",
        "backup_writes_lost": "3",
        "refills": "4",
        "backup_writes_differed": "1",
        "ejections": "3",
        "backends_behind": "3",
        "journal_keys": "6",
        "journal_deleted": "21",
        "journal_flushes": "3",
        "links_lingering": "3",
        "changes_undecided": "9",
        "fetches": "2",
    }
    assert {name: told[name] for name in expected} == expected


def test_what_monitoring_looks_for_is_there(service):
    told = facts(stats.answer(service, []))
    assert {"pid", "uptime", "time", "version", "pointer_size", "rusage_user", "rusage_system", "threads"} <= set(told)


def test_settings(service):
    told = facts(stats.answer(service, [b"settings"]))
    assert (told["server"], told["max_connections"], told["timeout"], told["verbose"]) == ("a:1, b:2", "77", "1000", "no")
    assert told["user"] == "-"


@pytest.mark.parametrize(
    "words, answer",
    [
        ([b"items"], b"END\r\n"),
        ([b"slabs"], b"END\r\n"),
        ([b"sizes"], b"END\r\n"),
        ([b"conns"], b"END\r\n"),
        ([b"reset"], b"RESET\r\n"),
        ([b"nonsense"], b"ERROR\r\n"),
    ],
)
def test_other_words(service, words, answer):
    assert stats.answer(service, words) == answer


def test_the_version_begins_with_digits():
    """Else libmemcached drops the connection."""
    assert re.fullmatch(rb"VERSION \d+\.\d+\.\d+ gmproxy-[^ ]+\r\n", stats.VERSION)
    assert __version__.encode() in stats.VERSION


def test_magent(service):
    assert stats.answer(service, [], as_magent=True) == (
        b"memcached agent v0.6\r\nmatrix 1 -> a:1, pool size 1\r\nmatrix 2 -> b:2, pool size 0\r\nEND\r\n"
    )
    assert stats.MAGENT_VERSION == b"VERSION memcached agent v0.6\r\n"


# -- several workers


def test_many_speak_as_one(service):
    one = stats.snapshot(service)
    other = {
        "general": {**one["general"], "pid": 1, "curr_connections": 4, "backends_ejected": 0, "uptime": 0},
        "links": [["a:1", 5], ["b:2", 2]],
    }
    whole = stats.merge([one, other], 4711)
    told = facts(stats.answer(service, [], whole=whole))
    expected = {
        "pid": "4711",
        "curr_connections": "7",
        "total_connections": "60",
        "max_connections": "77",
        "backends": "2",
        "threads": "2",
        "backends_ejected": "1",
        "backend_links": "6",
        "version": str(one["general"]["version"]),
        "uptime": str(one["general"]["uptime"]),
    }
    assert {name: told[name] for name in expected} == expected
    assert stats.answer(service, [], as_magent=True, whole=whole) == (
        b"memcached agent v0.6\r\nmatrix 1 -> a:1, pool size 6\r\nmatrix 2 -> b:2, pool size 2\r\nEND\r\n"
    )


def test_a_snapshot_can_be_sent(service):
    snapshot = stats.snapshot(service)
    assert json.loads(json.dumps(snapshot)) == snapshot


@pytest.mark.parametrize(
    "words, asked",
    [
        ([], "stats"),
        ([b"proxy"], "stats"),
        ([b"reset"], "reset"),
        ([b"pools"], "report"),
        ([b"backends"], "report"),
        ([b"settings"], None),
        ([b"reset", b"x"], None),
    ],
)
def test_what_all_workers_are_asked(words, asked):
    assert stats.question(words) == asked


# -- what the servers say of themselves

HEARD = {
    "a:1": [("items:1:number", "3"), ("items:5:number", "1"), ("1:chunk_size", "96"), ("active_slabs", "2"), ("96", "4")],
    "b:2": [("items:1:number", "7"), ("1:chunk_size", "96"), ("active_slabs", "1"), ("96", "1"), ("128", "2"), ("sizes_status", "enabled")],
}


def test_slab_classes_of_each_server_are_told_apart_and_the_rest_is_summed(service):
    told = stats.answer(service, [b"items"], replies=HEARD).decode().split("\r\n")
    assert {"STAT items:101:number 3", "STAT items:105:number 1", "STAT items:201:number 7"} <= set(told)
    told = stats.answer(service, [b"slabs"], replies=HEARD).decode().split("\r\n")
    assert {"STAT 101:chunk_size 96", "STAT 201:chunk_size 96", "STAT active_slabs 3"} <= set(told)


def test_sizes_are_summed(service):
    heard = {label: [pair for pair in pairs if pair[0].isdigit() or pair[0] == "sizes_status"] for label, pairs in HEARD.items()}
    assert stats.answer(service, [b"sizes"], replies=heard) == b"STAT 96 5\r\nSTAT 128 2\r\nSTAT sizes_status enabled\r\nEND\r\n"


def test_what_servers_hold_is_a_sum_and_missing_if_nobody_says_it(service):
    heard = {"a:1": [("bytes", "10"), ("curr_items", "1"), ("pid", "5")], "b:2": [("bytes", "5"), ("curr_items", "odd")]}
    told = facts(stats.answer(service, [], replies=heard))
    assert (told["bytes"], told["curr_items"]) == ("15", "1")
    assert "evictions" not in told
    assert "bytes" not in facts(stats.answer(service, []))


@pytest.mark.parametrize("words", [[b"items"], [b"slabs"], [b"sizes"]])
def test_servers_that_say_nothing(service, words):
    assert stats.answer(service, words, replies={}) == b"END\r\n"
