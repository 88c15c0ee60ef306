"""gmproxyctl top: the status, refreshed, with rates."""

import copy
import json
import os
import re
import subprocess
import sys

from support.reports import backend, pool, report
from support.servers import environment
from support.terminals import open_terminal
from support.timing import PATIENCE, eventually, milliseconds

from gmproxy.console import top
from gmproxy.monitoring import rates


def two_looks():
    before = report(
        {"default": pool(backend("10.0.0.1:11211"), backend("10.0.0.2:11211", state="ejected"), backend("10.0.0.9:11211", role="backup"))}
    )
    after = copy.deepcopy(before)
    after["time"] += 2
    first, second, spare = after["pools"]["default"]["backends"]
    first["requests"]["get"] += 100
    first["keys"] += 200
    first["hits"] += 50
    first["bytes_sent"] += 3000
    first["latency"]["buckets"][1] += 100
    second["errors"]["timeout"] += 8
    spare["keys"] += 200
    return before, after


def test_rates():
    pool = rates.rates_between(*two_looks())["pools"]["default"]
    first, second, _ = pool["backends"]
    assert (first["requests_per_second"], first["hit_ratio"], first["sent_per_second"]) == (50, 0.25, 1500)
    assert (second["errors_per_second"], second["hit_ratio"], second["p99"]) == (4, None, None)
    assert pool["hit_ratio"] == 0.25, "what a backup does not have is no miss"


def test_what_it_shows():
    assert top.format_rates(*two_looks())[2:] == [
        "pool default: 3 clients, 50 requests/s, hit ratio 25.0 %, 4 errors/s, p99 991 us",
        "STATE    SERVER                 REQ/S    HITS     P50     P99  ERR/S   SENT/S  RECV/S  CONNS  IN FLIGHT",
        "up       10.0.0.1:11211            50  25.0 %  550 us  991 us      0  1.50 kB     0 B      2          0",
        "ejected  10.0.0.2:11211             0       -       -       -      4      0 B     0 B      2          0",
        "up       10.0.0.9:11211 backup      0   0.0 %       -       -      0      0 B     0 B      2          0",
    ]


def test_a_server_that_is_new_and_counters_that_begin_anew():
    before, after = two_looks()
    before["pools"]["default"]["backends"].pop(0)
    after["pools"]["default"]["backends"][1]["hits"] = 0
    new, reset, _ = rates.rates_between(before, after)["pools"]["default"]["backends"]
    assert new["requests_per_second"] is None and reset["requests_per_second"] is None


def test_a_worker_that_could_not_answer_makes_no_jump():
    before, after = two_looks()
    before["workers"] = [4711, 4712]
    assert rates.rates_between(before, after)["pools"]["default"]["requests_per_second"] is None


def test_without_a_terminal_it_prints_look_after_look(service, ask):
    running = service()
    said = ask(running, "top", "--count", "2", "--interval", "0.1")
    assert (said.status, said.err) == (0, "")
    assert sum("pool default" in line for line in said.lines) == 2 and "\x1b" not in said.out


def test_json_is_an_object_a_line(service, ask):
    running = service()
    lines = ask(running, "top", "--json", "--count", "2", "--interval", "0.1").lines
    assert [len(json.loads(line)["pools"]["default"]["backends"]) for line in lines] == [2, 2]


class Terminal:
    """gmproxyctl in its own terminal."""

    def __init__(self, *words):
        self._ours, theirs = open_terminal()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gmproxy.ctl", *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm")
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self.shown = ""

    def shows(self, words, times=1):
        """Wait until it has printed `words` `times` times."""

        def there():
            try:
                self.shown += os.read(self._ours, 1 << 16).decode()
            except BlockingIOError:
                pass
            return self.shown.count(words) >= times

        eventually(there, what=words)

    def press(self, key):
        os.write(self._ours, key)

    def close(self):
        os.close(self._ours)


def test_in_a_terminal_keys_hold_and_end_it(service):
    running = service()
    terminal = Terminal("top", "--control", running.control, "--interval", "0.1")
    try:
        terminal.shows("pool default", times=3)
        assert re.search(r"\x1b\[3\dm(up|warming) *\x1b\[0m", terminal.shown), "in colour"
        terminal.press(b" ")
        terminal.shows("paused (space: continue")
        terminal.press(b" ")
        terminal.shows("pool default", times=terminal.shown.count("pool default") + 2)
        terminal.press(b"q")
        terminal.shows("\x1b[?1049l")
        assert terminal.process.wait(PATIENCE) == 0
    finally:
        terminal.close()


def test_if_the_service_ends_so_does_it_and_the_terminal_is_as_before(service):
    running = service("--grace", milliseconds(1))
    terminal = Terminal("top", "--control", running.control, "--interval", "0.1")
    try:
        terminal.shows("pool default")
        running.stop()
        terminal.shows("\x1b[?1049l")
        terminal.shows("gmproxyctl: no ")
        assert terminal.process.wait(PATIENCE) == 1
    finally:
        terminal.close()


def test_sets_have_columns_of_their_own():
    before = report(
        {"default": pool(backend("10.0.0.1:11211", zone="a"), backend("10.0.1.1:11211", role="replica1", set="far", enabled=False))}
    )
    after = copy.deepcopy(before)
    after["time"] += 2
    head, *rows = top.format_rates(before, after)[3:]
    assert head.split()[:5] == ["STATE", "SERVER", "SET", "ZONE", "REQ/S"]
    assert [row.split()[:4] for row in rows] == [["up", "10.0.0.1:11211", "main", "a"], ["off", "10.0.1.1:11211", "far", "0"]]
