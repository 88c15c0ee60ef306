"""From samples to tables. The first contender is the reference of every ratio."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from rows import AnyRow, IdleRow, MixedRow, Row, Target


@dataclass(frozen=True)
class Spread:
    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


Samples = dict[str, list[dict]]  # of one row: contender -> the figures of each run
Figures = dict[str, Spread]


def summary(samples: Samples) -> dict[str, Figures]:
    """Of one row: contender -> figure -> median, min and max over the runs. FIGURE_ratio is the ratio to the reference.

    A ratio is taken inside each round, between runs that followed each other. Other load on the machine for some time
    then affects both sides of it.
    """
    reference = next(iter(samples.values()))

    def of_contender(runs: list[dict]) -> Figures:
        figures = {figure: Spread.of([run[figure] for run in runs]) for figure in runs[0]}
        for figure in runs[0]:
            if runs is not reference and all(run[figure] for run in reference):
                ratios = [ours[figure] / theirs[figure] for ours, theirs in zip(runs, reference)]
                figures[f"{figure}_ratio"] = Spread.of(ratios)
        return figures

    return {name: of_contender(runs) for name, runs in samples.items()}


#: What is printed during a run: the most important figure of each kind of row.
HEADLINES = {
    Row: ("cpu_us_per_op", "{:.2f} µs/op"),
    MixedRow: ("p99_us_growth", "p99 {:.2f} times as long"),
    IdleRow: ("resident_kib_per_client", "{:.2f} KiB/client"),
}

# -- the tables: one for each kind of row


class Column(NamedTuple):
    heading: str
    text: Callable[[Figures], str]
    published: bool = True  # in docs/performance too; a figure that is misleading without its neighbours is omitted there


def number(figure: str, form: str) -> Callable[[Figures], str]:
    """The median. Empty where there is none, as for the ratio of the reference."""
    return lambda figures: form.format(figures[figure].median) if figure in figures else ""


def spread(figure: str, form: str) -> Callable[[Figures], str]:
    return lambda figures: form.format(figures[figure].min) + "-" + form.format(figures[figure].max) if figure in figures else ""


def with_spread(heading: str, figure: str, form: str) -> tuple[Column, Column]:
    return Column(heading, number(figure, form)), Column("[min-max]", spread(figure, form))


COLUMNS = {
    Row: (
        Column("ops/s", number("ops_per_sec", "{:,.0f}"), published=False),
        *with_spread("CPU µs/op", "cpu_us_per_op", "{:.2f}"),
        *with_spread("CPU ratio", "cpu_us_per_op_ratio", "{:.2f}"),
        Column("p50 µs", number("p50_us", "{:,.0f}"), published=False),
        Column("p99 µs", number("p99_us", "{:,.0f}"), published=False),
        Column("p50 ratio", number("p50_us_ratio", "{:.2f}")),
        Column("ops/s ratio", number("ops_per_sec_ratio", "{:.2f}")),
        Column("loadgen", number("loadgen_share", "{:.0%}")),
    ),
    MixedRow: (
        *with_spread("p99 µs alone", "p99_us_alone", "{:,.0f}"),
        *with_spread("p99 µs beside", "p99_us_beside", "{:,.0f}"),
        *with_spread("growth", "p99_us_growth", "{:.2f}"),
        Column("ops/s alone", number("ops_per_sec_alone", "{:,.0f}"), published=False),
        Column("ops/s beside", number("ops_per_sec_beside", "{:,.0f}"), published=False),
        Column("large gets/s", number("large_per_sec", "{:,.0f}"), published=False),
    ),
    IdleRow: (
        *with_spread("KiB/client", "resident_kib_per_client", "{:.2f}"),
        *with_spread("ratio", "resident_kib_per_client_ratio", "{:.2f}"),
        Column("MiB in all", number("resident_mib", "{:.1f}"), published=False),
    ),
}

#: The name of its figure in a target.
FIGURE_NAMES = {
    "cpu_us_per_op_ratio": "CPU ratio",
    "p50_us_ratio": "p50 ratio",
    "ops_per_sec_ratio": "ops/s ratio",
    "p99_us_growth": "growth",
    "resident_kib_per_client": "KiB/client",
    "resident_kib_per_client_ratio": "ratio",
}

TEXT_COLUMNS = ("row", "proxy", "target", "others")  # all others have numbers and are aligned to the right


def tables(results: dict[AnyRow, Samples], with_targets: bool = True) -> list[list[list[str]]]:
    """For each kind of row that was measured: the headings, then a line for each row and contender."""
    return [
        table(kind, ofkind, with_targets=with_targets)
        for kind in COLUMNS
        if (ofkind := {row: results[row] for row in results if type(row) is kind})
    ]


def table(kind: type, results: dict[AnyRow, Samples], published: bool = False, with_targets: bool = True) -> list[list[str]]:
    """`published`: only the columns of docs/performance."""
    columns = [column for column in COLUMNS[kind] if column.published or not published]
    lines = [["row", "proxy", *(column.heading for column in columns), "target"]]
    for row, samples in results.items():
        reference = next(iter(samples))
        for name, figures in summary(samples).items():
            verdicts = "" if name == reference or not with_targets else "; ".join(verdict(target, figures) for target in row.targets)
            lines.append([row.name, name, *(column.text(figures) for column in columns), verdicts])
    return lines


def verdict(target: Target, figures: Figures) -> str:
    word = "met" if target.met_by(figures[target.figure].median) else "NOT MET"
    return f"{FIGURE_NAMES[target.figure]} {target.sign} {target.bound:g}: {word}"


#: The calls that transfer data and wait for it, by their purpose; all others are listed by name.
SYSCALL_COLUMNS = {
    "receive": ("recvfrom", "recvmsg", "read", "readv"),
    "send": ("sendto", "sendmsg", "write", "writev"),
    "epoll_wait": ("epoll_wait", "epoll_pwait"),
    "epoll_ctl": ("epoll_ctl",),
}
LEAST_SHOWN = 0.01  # per operation; less frequent calls are only in the sum


def syscall_table(syscalls: dict[Row, dict[str, dict[str, float]]]) -> list[list[str]]:
    """`syscalls`: row -> contender -> name -> calls per operation."""
    named = {name for names in SYSCALL_COLUMNS.values() for name in names}
    lines = [["row", "proxy", "calls/op", *SYSCALL_COLUMNS, "others"]]
    for row, by_contender in syscalls.items():
        for contender, calls in by_contender.items():
            sums = [sum(calls.get(name, 0) for name in names) for names in SYSCALL_COLUMNS.values()]
            others = sorted((name for name in calls if name not in named and calls[name] >= LEAST_SHOWN), key=calls.get, reverse=True)
            lines.append([
                row.name, contender, f"{sum(calls.values()):.2f}", *(f"{calls_per_op:.2f}" for calls_per_op in sums),
                ", ".join(f"{name} {calls[name]:.2f}" for name in others),
            ])  # fmt: skip
    return lines


def as_text(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if heading in TEXT_COLUMNS else cell.rjust(width) for heading, cell, width in zip(lines[0], line, widths)
        ).rstrip()
        for line in lines
    )


def as_markdown(lines: list[list[str]]) -> str:
    rule = ["---" if heading in TEXT_COLUMNS else "---:" for heading in lines[0]]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])
