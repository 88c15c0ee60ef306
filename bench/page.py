"""docs/performance/README.md: the tables and the plots, made from the results."""

from statistics import median

from curves import NUTCRACKER, Curve
from report import as_markdown, syscall_table, table
from results import Results
from rows import IdleRow, MixedRow, Row

HEAD = """\
# Performance

The cost of an operation in gmproxy: CPU time of the proxy process, user and system, in microseconds. The cost of the same operation in
twemproxy's `nutcracker` was measured on the same machine, in turns: nutcracker, gmproxy, nutcracker, gmproxy, ... A ratio is that of
two neighbouring runs; 0.5 is half of nutcracker's cost. Times depend on the machine and its other load; ratios depend on them much less.

This page and its plots are made by `make bench-report` from [results.json](results.json), which has every sample.
[bench/README.md](../../bench/README.md) describes the measurement.
"""

ROWS_TEXT = """\
## Beside twemproxy

Median and range over the runs. `loadgen` is the part of the CPU time of all cores that the load generator takes; no other figure includes
it, but with two workers it limits the throughput. The rows `watched` compare gmproxy with itself. In `one-client` all processes run on one core.
"""

MIXED_TEXT = """\
## Small gets beside large values

The growth of the 99th percentile of the latency of small gets. It includes the CPU time that the client of large values and the servers take.
"""

IDLE_TEXT = """\
## Idle clients

The growth of the proxy's resident memory per client, after each client has done one get and has been idle for a while. Each run has a new proxy.
"""

SYSCALLS_TEXT = """\
## System calls

System calls of the proxy alone, per operation, counted by `strace` in separate runs.
"""

CURVES_TEXT = """\
## As the work grows

All processes run on one core. The line is the median of the runs; the band reaches from the lowest to the highest run.
"""


def page(results: Results) -> str:
    """The whole page. What has not been measured is omitted."""
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
    """The ratio is taken in each round, as in report.py."""
    return cost([one / other for one, other in zip(ours, theirs)])


def plot_name(curve: Curve) -> str:
    return f"{curve.name}.svg"
