"""docs/performance/README.md: the tables and the plots, from what was measured."""

from statistics import median

from curves import NUTCRACKER, Curve
from report import as_markdown, syscall_table, table
from results import Results
from rows import IdleRow, MixedRow, Row

HEAD = """\
# Performance

What an operation costs in gmproxy: CPU time of the proxy process, user and system, in microseconds. What twemproxy's `nutcracker` needs for
the same was measured in the same minutes on the same machine, in turns: nutcracker, gmproxy, nutcracker, gmproxy, ... A ratio is taken
between neighbours in time; 0.5 is half of nutcracker's cost. Times belong to the machine and to what else it did; ratios carry further.

This page and its plots are made by `make bench-report` from [results.json](results.json), which has every sample.
[bench/README.md](../../bench/README.md) says how it is measured.
"""

ROWS_TEXT = """\
## Beside twemproxy

Median and range over the runs. `loadgen` is what the load generator takes of all cores; it is in no other figure, but with two workers it
is what throughput has to be seen against. The rows `watched` compare gmproxy with itself. `one-client` has everything on one core.
"""

MIXED_TEXT = """\
## Small gets beside large values

How much longer the 99th percentile of the small gets becomes. That includes what the large client and the servers take of the cores.
"""

IDLE_TEXT = """\
## Idle clients

What each client adds to the resident memory of the proxy once it has done its get and has been idle for a while. Each run has a new proxy.
"""

SYSCALLS_TEXT = """\
## System calls

Of the proxy alone, for each operation, counted by `strace` in runs of their own.
"""

CURVES_TEXT = """\
## As the work grows

Everything on one core. The line is the median of the runs, the band reaches from the cheapest to the dearest.
"""


def page(results: Results) -> str:
    """The whole page. What has not been measured is left out."""
    parts = [HEAD, machine(results.machine)]
    samples = results.samples()
    for kind, text in ((Row, ROWS_TEXT), (MixedRow, MIXED_TEXT), (IdleRow, IDLE_TEXT)):
        if of_kind := {row: of_row for row, of_row in samples.items() if type(row) is kind}:
            parts += [text, as_markdown(table(kind, of_kind, published=True)) + "\n"]
            parts.append("\n".join(f"* `{row.name}`: {row.sentence}" for row in of_kind) + "\n")
    if syscalls := results.syscalls():
        parts += [SYSCALLS_TEXT, as_markdown(syscall_table(syscalls)) + "\n"]
    if points := results.points():
        parts += [CURVES_TEXT, *(curve_part(curve, of_curve) for curve, of_curve in points.items())]
    return "\n".join(parts)


def machine(described: dict[str, str]) -> str:
    words = (f"{value} {name}" if name == "cores" else f"{name} {value}" for name, value in described.items())
    return f"Measured with {', '.join(words)}.\n"


def curve_part(curve: Curve, points: list[dict]) -> str:
    names = [series.name for series in curve.series]
    lines = [[curve.x_label, *names]]
    lines += [[f"{point['x']:,}", *(cost(point["cpu_us"][name]) for name in names)] for point in points]
    if reference := next((series.name for series in curve.series if series.proxy == NUTCRACKER), None):
        lines[0].append(f"{names[0]} / {reference}")
        for line, point in zip(lines[1:], points):
            line.append(ratio(point["cpu_us"][names[0]], point["cpu_us"][reference]))
    return "\n".join([
        f"### {curve.title}\n", f"{curve.sentence}\n",
        f"![{curve.title}: CPU time per {curve.unit}]({plot_name(curve)})\n",
        f"CPU µs per {curve.unit}, median [min-max]:\n", as_markdown(lines), "",
    ])  # fmt: skip


def cost(runs: list[float]) -> str:
    return f"{median(runs):.2f} [{min(runs):.2f}-{max(runs):.2f}]"


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Taken in each round, as in report.py."""
    return cost([one / other for one, other in zip(ours, theirs)])


def plot_name(curve: Curve) -> str:
    return f"{curve.name}.svg"
