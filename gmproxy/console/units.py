"""Numbers as people read them. None is what is not known."""

UNKNOWN = "-"

_AGES = (("d", 86400), ("h", 3600), ("min", 60))
_THOUSANDS = (("G", 1e9), ("M", 1e6), ("k", 1e3))


def _short(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def number(value: float | None) -> str:
    """A count or a rate."""
    if value is None:
        return UNKNOWN
    for unit, size in _THOUSANDS:
        if value >= 10 * size or (value >= size and unit != "k"):
            return f"{_short(value / size)} {unit}"
    return f"{value:.0f}" if value >= 100 or value == int(value) else _short(value)


def size(value: float | None) -> str:
    """Bytes."""
    if value is None:
        return UNKNOWN
    for unit, factor in _THOUSANDS:
        if value >= factor:
            return f"{_short(value / factor)} {unit}B"
    return f"{value:.0f} B"


def percent(part: float | None) -> str:
    """A part of 1."""
    return UNKNOWN if part is None else f"{part * 100:.1f} %"


def duration(seconds: float | None) -> str:
    """How long a reply took."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    return f"{_short(seconds * 1e3)} ms" if seconds < 1 else f"{_short(seconds)} s"


def age(seconds: float) -> str:
    """How long ago something was."""
    whole = max(0, int(seconds))
    for unit, length in _AGES:
        if whole >= 2 * length:
            return f"{whole // length} {unit}"
    return f"{whole} s"


def count(number: int, word: str) -> str:
    """`number` with `word`, in the plural if need be."""
    return f"{number} {word}" + ("" if number == 1 else "s")
