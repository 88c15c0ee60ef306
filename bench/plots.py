"""One SVG for each curve: the median of the runs, and behind it the band from the lowest to the highest run."""

from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("svg")
from curves import NUTCRACKER, Curve  # noqa: E402
from matplotlib import pyplot  # noqa: E402  (after the choice of what it draws on)
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: E402

SIZE = (7.6, 4.2)  # inches
COLOURS = ("#0072b2", "#d55e00", "#009e73")  # distinguishable by colour-blind readers too
MARKERS = ("o", "s", "^")
NUTCRACKER_STYLE = {"color": "#6b6b6b", "marker": "D", "linestyle": "--"}

STYLE = {
    "svg.fonttype": "none",  # text is stored as text
    "svg.hashsalt": "gmproxy",  # the same samples give the same file
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    # a background of its own, so that it can be read on a light page and on a dark one
    "figure.facecolor": "#ffffff",
    "savefig.facecolor": "#ffffff",
}


def draw(curve: Curve, points: list[dict], path: Path) -> None:
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=SIZE, layout="constrained")
        xs = [point["x"] for point in points]
        styles = iter({"color": colour, "marker": marker} for colour, marker in zip(COLOURS, MARKERS))
        for series in curve.series:
            style = NUTCRACKER_STYLE if series.proxy == NUTCRACKER else next(styles)
            runs = [point["cpu_us"][series.name] for point in points]
            cheapest, dearest = [min(costs) for costs in runs], [max(costs) for costs in runs]
            axes.fill_between(xs, cheapest, dearest, color=style["color"], alpha=0.18, linewidth=0)
            axes.plot(xs, [median(costs) for costs in runs], label=series.name, linewidth=1.8, markersize=5, **style)
        set_scales(curve, axes, xs)
        axes.set_title(curve.title, loc="left")
        axes.set_xlabel(curve.x_label)
        axes.set_ylabel(f"CPU of the proxy, µs per {curve.unit}")
        axes.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def set_scales(curve: Curve, axes, xs: list[int]) -> None:
    """A percentage has a linear axis, an x that grows by factors a logarithmic one. Each point has its tick."""
    if curve.percent:
        axes.set_ylim(bottom=0)
        axes.set_xticks(xs)
        return
    axes.set_xscale("log")
    axes.set_xticks(xs, labels=[short(x) for x in xs])
    axes.xaxis.set_minor_locator(NullLocator())
    if curve.log_cost:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:g}"))
    else:
        axes.set_ylim(bottom=0)


def short(number: int) -> str:
    """10000 as 10k, 1000000 as 1M."""
    for factor, letter in ((1_000_000, "M"), (1000, "k")):
        if number >= factor and number % factor == 0:
            return f"{number // factor}{letter}"
    return str(number)
