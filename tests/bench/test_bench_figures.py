"""The figures that `make bench` prints and docs/performance shows are computed correctly from the samples."""

from pathlib import Path

import pytest
from contenders import Contender, Nutcracker
from page import page
from processes import ROOT
from report import Spread, as_markdown, summary, syscall_table, table
from results import Results
from rows import ROWS, Row, Target
from syscalls import read_counts

SAMPLES = {
    "nutcracker": [{"cpu_us_per_op": 10.0, "misses": 0}, {"cpu_us_per_op": 40.0, "misses": 0}, {"cpu_us_per_op": 20.0, "misses": 0}],
    "gmproxy": [{"cpu_us_per_op": 8.0, "misses": 0}, {"cpu_us_per_op": 20.0, "misses": 0}, {"cpu_us_per_op": 18.0, "misses": 0}],
}

WITH_ERRORS = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           3       200           sendto
 40.00    0.000400           4       100        25 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           3       300        25 total
"""


def test_ratio_is_taken_between_runs_of_the_same_round():
    figures = summary(SAMPLES)["gmproxy"]
    assert figures["cpu_us_per_op"] == Spread(18.0, 8.0, 20.0)
    assert figures["cpu_us_per_op_ratio"] == Spread(0.8, 0.5, 0.9)


def test_reference_and_figures_of_zero_have_no_ratio():
    of_all = summary(SAMPLES)
    assert "cpu_us_per_op_ratio" not in of_all["nutcracker"]
    assert "misses_ratio" not in of_all["gmproxy"]


@pytest.mark.parametrize("bound, word", [(0.8, "met"), (0.79, "NOT MET")])
def test_table_says_whether_the_median_met_the_target(bound, word):
    row = Row("r", "a row", 1, "", (Target("cpu_us_per_op_ratio", "<=", bound),))
    nutcracker, gmproxy = table(Row, {row: SAMPLES})[1:]
    assert gmproxy[-1] == f"CPU ratio <= {bound}: {word}"
    assert nutcracker[-1] == ""


def test_targets_are_not_printed_if_ratios_refer_to_another_proxy():
    row = Row("r", "a row", 1, "", (Target("cpu_us_per_op_ratio", "<=", 0.8),))
    assert [line[-1] for line in table(Row, {row: SAMPLES}, with_targets=False)[1:]] == ["", ""]


def test_backups_and_journal_are_of_gmproxy_alone():
    servers, backups = ["a:1", "b:1"], ["c:1", "d:1"]
    gmproxy = Contender("gmproxy", "gmproxy {arguments}").with_workers(2).with_backups().with_journal()
    command = " ".join(gmproxy.command(11211, servers, backups, Path("/tmp/bench")))
    assert " -s a:1 -s b:1 " in command
    assert command.endswith(" --workers 2 -b c:1 -b d:1 --journal-dir /tmp/bench/journal")
    assert Nutcracker().with_backups() == Nutcracker()


def test_every_row_of_gmproxy_is_held_to_figures_that_are_measured():
    """The stored results show which figures a row measures."""
    samples = Results.read(ROOT / "docs/performance/results.json").samples()
    assert list(samples) == list(ROWS.values())
    for row, of_row in samples.items():
        *_, figures = summary(of_row).values()
        assert all(target.figure in figures for target in row.targets), row.name


def test_system_calls_are_read_with_and_without_errors():
    assert read_counts(WITH_ERRORS) == {"sendto": 200, "recvfrom": 100}


def test_system_calls_that_move_no_data_are_named():
    calls = {"nutcracker": {"read": 1.0, "readv": 0.5, "writev": 1.0, "getpeername": 1.0, "close": 0.001}}
    _, line = syscall_table({ROWS["get-set"]: calls})
    assert line == ["get-set", "nutcracker", "3.50", "1.50", "1.00", "0.00", "0.00", "getpeername 1.00"]


def test_published_page_is_made_from_the_stored_samples():
    directory = ROOT / "docs/performance"
    results = Results.read(directory / "results.json")
    assert (directory / "README.md").read_text() == page(results), "run: make bench-report BENCH_ARGUMENTS=--stored"
    for curve in results.points():
        assert (directory / f"{curve.name}.svg").exists()


def test_markdown_has_numbers_to_the_right():
    assert as_markdown([["row", "ops/s"], ["get-set", "7"]]).splitlines()[1] == "| --- | ---: |"
