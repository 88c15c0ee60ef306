"""From samples to a table. The first contender is the reference of every ratio."""

from dataclasses import dataclass
from statistics import median

HEADERS = [
    "row", "proxy", "ops/s", "CPU µs/op", "[min-max]", "CPU ratio", "[min-max]",
    "p50 µs", "p99 µs", "p50 ratio", "loadgen µs/op",
]  # fmt: skip
TEXT_COLUMNS = 2  # the first ones; all others hold numbers and are set to the right


@dataclass(frozen=True)
class Spread:
    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


def summary(samples: dict[str, list[dict]]) -> dict[str, dict]:
    """Of one row: contender -> figure -> median, min and max over the runs.

    A ratio is taken inside each round, between runs that stood next to each other, so that what slows the machine for a
    while slows both sides of it.
    """
    reference = next(iter(samples))

    def ratios(name: str, figure: str) -> Spread:
        return Spread.of([ours[figure] / theirs[figure] for ours, theirs in zip(samples[name], samples[reference])])

    figures = ("ops_per_sec", "keys_per_sec", "cpu_us_per_op", "p50_us", "p99_us", "max_us", "loadgen_cpu_us_per_op")
    return {
        name: {figure: Spread.of([run[figure] for run in runs]) for figure in figures}
        | {"cpu_ratio": ratios(name, "cpu_us_per_op"), "p50_ratio": ratios(name, "p50_us")}
        for name, runs in samples.items()
    }


def table(results: dict[str, dict[str, list[dict]]]) -> list[list[str]]:
    lines = [HEADERS]
    for row, samples in results.items():
        reference = next(iter(samples))
        for name, figures in summary(samples).items():
            cpu, ratio = figures["cpu_us_per_op"], figures["cpu_ratio"]
            compared = name != reference
            lines.append([
                row, name,
                f"{figures['ops_per_sec'].median:,.0f}",
                f"{cpu.median:.2f}", f"{cpu.min:.2f}-{cpu.max:.2f}",
                f"{ratio.median:.2f}" if compared else "", f"{ratio.min:.2f}-{ratio.max:.2f}" if compared else "",
                f"{figures['p50_us'].median:,.0f}", f"{figures['p99_us'].median:,.0f}",
                f"{figures['p50_ratio'].median:.2f}" if compared else "",
                f"{figures['loadgen_cpu_us_per_op'].median:.2f}",
            ])  # fmt: skip
    return lines


def as_text(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < TEXT_COLUMNS else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )


def as_markdown(lines: list[list[str]]) -> str:
    rule = ["---" if place < TEXT_COLUMNS else "---:" for place in range(len(HEADERS))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])
