"""Formats numbers with a unit and three significant digits. None stands for a number that is not known."""

UNKNOWN = "-"

_AGES = (("d", 86400), ("h", 3600), ("min", 60))
_THOUSANDS = (("G", 1e9), ("M", 1e6), ("k", 1e3))


def _short(value: float) -> str:
    """`value`, from 0, with three significant digits below 1000."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def number(value: float | None) -> str:
    """A number or a rate: 950, 12.4 k, 3.10 M."""
    if value is None:
        return UNKNOWN
    for unit, size in _THOUSANDS:
        if value >= 10 * size or (value >= size and unit != "k"):
            return f"{_short(value / size)} {unit}"
    return f"{value:.0f}" if value >= 100 or value == int(value) else _short(value)


def size(value: float | None) -> str:
    """A number of bytes: 900 B, 1.50 kB."""
    if value is None:
        return UNKNOWN
    for unit, factor in _THOUSANDS:
        if value >= factor:
            return f"{_short(value / factor)} {unit}B"
    return f"{value:.0f} B"


def percent(part: float | None) -> str:
    """`part`, from 0 to 1, in percent: 94.1 %."""
    return UNKNOWN if part is None else f"{part * 100:.1f} %"


def duration(seconds: float | None) -> str:
    """`seconds` with the unit us, ms or s: 850 us, 1.20 ms."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    return f"{_short(seconds * 1e3)} ms" if seconds < 1 else f"{_short(seconds)} s"


def age(seconds: float) -> str:
    """`seconds` as a whole number of the largest unit of which there are at least two: 119 s, 3 d."""
    whole = max(0, int(seconds))
    for unit, length in _AGES:
        if whole >= 2 * length:
            return f"{whole // length} {unit}"
    return f"{whole} s"


def count(number: int, word: str) -> str:
    """`number` with the noun `word`, whose plural ends with s: 1 server, 2 servers."""
    return f"{number} {word}" + ("" if number == 1 else "s")
