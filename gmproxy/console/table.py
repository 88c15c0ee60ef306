"""Tables of text, with colours on a terminal."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

COLOURS = {
    "up": "\x1b[32m",
    "failing": "\x1b[33m",
    "ejected": "\x1b[31m",
    "probing": "\x1b[35m",
    "warming": "\x1b[36m",
    "head": "\x1b[2m",
    "bold": "\x1b[1m",
}
_PLAIN = "\x1b[0m"

_GAP = "  "


def wants_colour(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """True for a terminal, unless NO_COLOR is set (no-color.org) or it has no colours."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


class Cell(str):
    """Text of a table with a colour, a name in COLOURS or None."""

    colour: str | None

    def __new__(cls, text: str, colour: str | None = None) -> "Cell":
        cell = super().__new__(cls, text)
        cell.colour = colour
        return cell


def plain(text: str) -> str:
    """`text` with control characters escaped: keys and names may contain any."""
    return text if text.isprintable() else "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def paint(text: str, colour: str | None, coloured: bool) -> str:
    """`text` in `colour`, a name in COLOURS or None, if `coloured`."""
    return f"{COLOURS[colour]}{text}{_PLAIN}" if coloured and colour else text


def format_table(heads: Sequence[str], rows: Iterable[Sequence[str]], coloured: bool = False) -> list[str]:
    """The line with `heads`, and a line for each of `rows`. Columns are aligned to the right, those whose head ends with < to the left."""
    left = [head.endswith("<") for head in heads]
    shown = [[Cell(head.rstrip("<"), "head") for head in heads]]
    shown += [[Cell(plain(cell), getattr(cell, "colour", None)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown)]
    lines = []
    for row in shown:
        padded = [cell.ljust(width) if align_left else cell.rjust(width) for cell, width, align_left in zip(row, widths, left)]
        padded[-1] = padded[-1].rstrip()
        lines.append(_GAP.join(paint(text, cell.colour, coloured) for text, cell in zip(padded, row)).rstrip())
    return lines
