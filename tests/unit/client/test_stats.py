"""The replies to `stats` and `version`, over a service made by the test."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from gmproxy import __version__
from gmproxy.client import stat_names, stats
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
            keys_touched=3,
            touches_found=1,
            replies_by_command=lambda: {"get": asked, "set": 2, "cas": 1, "touch": 4, "me": 5},
            outcomes=lambda name: {b"delete": (1, 2, 0), b"cas": (3, 4, 5), b"touch": (3, 1, 0)}.get(name, (0, 0, 0)),
        ),
    )


class Sessions(list):
    """Three clients, two of them hibernated."""

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
        sets=[SimpleNamespace(enabled=True), SimpleNamespace(enabled=False)],
        counters=SimpleNamespace(misses_for_errors=4, backup_writes_lost=3, backup_writes_differed=1),
        undecided=range(4),
        held=set("abcde"),
    )
    return SimpleNamespace(
        options=options,
        router=router,
        clients=Sessions(),
        connections=30,
        rejected=2,
        dropped=1,
        auth_cmds=9,
        auth_errors=8,
        yields=13,
        accept_failures=14,
        held=12,
        flushes=6,
        worker_context=SimpleNamespace(started_at=0.0, accepting=True, workers=2),
        max_clients=77,
        reset_counters=lambda: None,
    )


def facts(answer):
    """{name: value}. Every line must be one of memcached's STAT lines."""
    *lines, end = answer.split(b"\r\n")[:-1]
    assert end == b"END"
    assert all(re.fullmatch(rb"STAT [a-z0-9_]+ [^\r\n]+", line) for line in lines)
    names = [line.split(b" ")[1] for line in lines]
    assert len(names) == len(set(names))
    return {line.split(b" ", 2)[1].decode(): line.split(b" ", 2)[2].decode() for line in lines}


def test_general(service):
    told = facts(stats.reply(service, []))
    expected = {
        "curr_connections": "3",
        "sleeping_connections": "2",
        "total_connections": "30",
        "rejected_connections": "2",
        "auth_cmds": "9",
        "auth_errors": "8",
        "conn_yields": "13",
        "listen_disabled_num": "14",
        "time_in_listen_disabled_us": "1400000",
        "accepting_conns": "1",
        "response_obj_oom": "1",
        "read_buf_bytes": "12",
        "max_connections": "77",
        "cmd_get": "9",
        "get_hits": "6",
        "get_misses": "3",
        "cmd_meta": "10",
        "delete_hits": "2",
        "delete_misses": "4",
        "incr_hits": "0",
        "cas_hits": "6",
        "cas_misses": "8",
        "cas_badval": "10",
        "touch_hits": "8",
        "touch_misses": "6",
        "cmd_flush": "6",
        "cmd_set": "6",
        "cmd_touch": "14",
        "bytes_read": "1000",
        "bytes_written": "2000",
        "backends": "2",
        "backends_ejected": "1",
        "backend_links": "3",
        "backend_requests": "115",
        "backend_failures": "3",
        "get_errors_as_misses": "4",
        "backup_writes_lost": "3",
        "refills": "6",
        "backup_writes_differed": "1",
        "ejections": "3",
        "backends_behind": "3",
        "journal_keys": "6",
        "journal_deleted": "21",
        "journal_flushes": "3",
        "links_lingering": "3",
        "changes_undecided": "9",
        "fetches": "3",
        "sets": "2",
        "sets_off": "1",
    }
    assert {name: told[name] for name in expected} == expected


def test_where_any_set_is_read_the_reads_of_all_count(service):
    service.options = replace(service.options, read="spread")
    told = facts(stats.reply(service, []))
    assert [told[name] for name in ("cmd_get", "get_hits", "cmd_set", "cmd_touch", "delete_hits")] == ["106", "105", "6", "14", "2"]


def test_what_monitoring_looks_for_is_there(service):
    told = facts(stats.reply(service, []))
    assert {"pid", "uptime", "time", "version", "pointer_size", "rusage_user", "rusage_system", "threads"} <= set(told)


def test_all_names_of_memcached_come_first_and_in_its_order(service):
    told = list(facts(stats.reply(service, [])))
    assert told[: len(stat_names.GENERAL)] == stat_names.GENERAL
    told = list(facts(stats.reply(service, [b"settings"])))
    assert told[: len(stat_names.SETTINGS)] == stat_names.SETTINGS


def test_stats_proxy_has_what_the_proxy_itself_counts(service):
    told = facts(stats.reply(service, [b"proxy"], replies={}))
    assert told["cmd_get"] == "9" and "curr_items" not in told


def test_settings(service):
    told = facts(stats.reply(service, [b"settings"]))
    assert (told["server"], told["max_connections"], told["timeout"], told["verbose"]) == ("a:1, b:2", "77", "1000", "no")
    assert told["user"] == "-"


def test_settings_as_memcached_names_them(service):
    replies = {
        "a:1": [("maxbytes", "64"), ("growth_factor", "1.25"), ("oldest", "7"), ("item_size_max", "5"), ("evictions", "on")],
        "b:2": [("maxbytes", "32"), ("growth_factor", "2.00"), ("oldest", "9")],
    }
    told = facts(stats.reply(service, [b"settings"], replies=replies))
    expected = {
        "maxbytes": "96",
        "maxconns": "77",
        "growth_factor": "1.25",
        "oldest": "9",
        "item_size_max": "1048576",
        "evictions": "on",
        "num_threads": "2",
        "flush_enabled": "yes",
        "dump_enabled": "yes",
        "hash_algorithm": "0",
    }
    assert {name: told[name] for name in expected} == expected


@pytest.mark.parametrize(
    "words, answer",
    [
        ([b"items"], b"END\r\n"),
        ([b"slabs"], b"END\r\n"),
        ([b"sizes"], b"END\r\n"),
        ([b"conns"], b"END\r\n"),
        ([b"reset"], b"RESET\r\n"),
        ([b"extstore"], b"END\r\n"),
        ([b"reset", b"further", b"words"], b"RESET\r\n"),
        ([b"nonsense"], b"ERROR\r\n"),
    ],
)
def test_other_words(service, words, answer):
    assert stats.reply(service, words) == answer


def test_the_version_is_one_word_that_begins_and_ends_with_numbers():
    """Otherwise libmemcached closes the connection, emcache and an exporter cannot parse it, and npm's memcached raises."""
    assert re.fullmatch(rb"VERSION \d+\.\d+\.\d+-gmproxy-\d+\.\d+\.\d+\r\n", stats.VERSION)
    assert __version__.encode() in stats.VERSION


def test_magent(service):
    assert stats.reply(service, [], as_magent=True) == (
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
    told = facts(stats.reply(service, [], whole=whole))
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
    assert stats.reply(service, [], as_magent=True, whole=whole) == (
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
        ([b"reset", b"x"], "reset"),
        ([b"noreply"], None),
    ],
)
def test_what_all_workers_are_asked(words, asked):
    assert stats.worker_command(words) == asked


# -- the stats of the servers

HEARD = {
    "a:1": [("items:1:number", "3"), ("items:5:number", "1"), ("1:chunk_size", "96"), ("active_slabs", "2"), ("96", "4")],
    "b:2": [("items:1:number", "7"), ("1:chunk_size", "96"), ("active_slabs", "1"), ("96", "1"), ("128", "2"), ("sizes_status", "enabled")],
}


def test_slab_classes_of_each_server_are_told_apart_and_the_rest_is_summed(service):
    told = stats.reply(service, [b"items"], replies=HEARD).decode().split("\r\n")
    assert {"STAT items:1001:number 3", "STAT items:1005:number 1", "STAT items:2001:number 7"} <= set(told)
    told = stats.reply(service, [b"slabs"], replies=HEARD).decode().split("\r\n")
    assert {"STAT 1001:chunk_size 96", "STAT 2001:chunk_size 96", "STAT active_slabs 3"} <= set(told)


def test_a_server_keeps_its_number_while_others_are_silent(service):
    told = stats.reply(service, [b"items"], replies={"b:2": HEARD["b:2"]}).decode().split("\r\n")
    assert "STAT items:2001:number 7" in told


def test_sizes_are_summed(service):
    heard = {label: [pair for pair in pairs if pair[0].isdigit() or pair[0] == "sizes_status"] for label, pairs in HEARD.items()}
    assert stats.reply(service, [b"sizes"], replies=heard) == b"STAT 96 5\r\nSTAT 128 2\r\nSTAT sizes_status enabled\r\nEND\r\n"


def test_what_servers_hold_is_a_sum_and_0_if_nobody_says_it(service):
    heard = {"a:1": [("bytes", "10"), ("curr_items", "1"), ("pid", "5")], "b:2": [("bytes", "5"), ("curr_items", "odd")]}
    told = facts(stats.reply(service, [], replies=heard))
    assert (told["bytes"], told["curr_items"]) == ("15", "1")
    assert told["evictions"] == "0"
    assert facts(stats.reply(service, []))["bytes"] == "0"


def test_how_the_answers_of_servers_become_one(service):
    heard = {
        "a:1": [("hash_power_level", "16"), ("slab_reassign_last_busy_status", "none"), ("extstore_io_queue", "2"), ("word", "x")],
        "b:2": [("hash_power_level", "20"), ("slab_reassign_last_busy_status", "busy"), ("extstore_io_queue", "3"), ("cmd_get", "99")],
    }
    told = facts(stats.reply(service, [], replies=heard))
    assert (told["hash_power_level"], told["slab_reassign_last_busy_status"], told["extstore_io_queue"]) == ("20", "busy", "5")
    assert "word" not in told
    assert told["cmd_get"] == "9", "the proxy counts this itself"


def test_counters_of_a_server_that_does_not_answer_stay_and_what_it_holds_does_not(service):
    former = {"a:1": [("evictions", "100"), ("curr_items", "50"), ("limit_maxbytes", "64")], "b:2": [("evictions", "7")]}
    now = {"b:2": [("evictions", "8"), ("curr_items", "5"), ("limit_maxbytes", "64")]}
    told = facts(stats.reply(service, [], replies=now, former=former))
    assert (told["evictions"], told["curr_items"], told["limit_maxbytes"]) == ("108", "5", "128")


@pytest.mark.parametrize("words", [[b"items"], [b"slabs"], [b"sizes"]])
def test_servers_that_say_nothing(service, words):
    assert stats.reply(service, words, replies={}) == b"END\r\n"
