"""Words in columns, coloured where somebody looks at a terminal."""

import os

COLOURS = {
    "up": "\x1b[32m", "failing": "\x1b[33m", "ejected": "\x1b[31m", "probing": "\x1b[35m", "warming": "\x1b[36m",
    "head": "\x1b[2m", "bold": "\x1b[1m",
}
_PLAIN = "\x1b[0m"

_GAP = "  "


def wants_colour(stream, environment=os.environ):
    """True for a terminal, unless its user wants none (no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


class Cell(str):
    """Text, with the name of one of COLOURS."""

    def __new__(cls, text, colour=None):
        made = super().__new__(cls, text)
        made.colour = colour
        return made


def plain(text):
    """`text` without what a terminal would obey: keys and names come from outside."""
    return text if text.isprintable() else "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def paint(text, colour, coloured):
    return f"{COLOURS[colour]}{text}{_PLAIN}" if coloured and colour else text


def lines(heads, rows, coloured=False):
    """A line for the heads and for each row. A head that ends with < stands, as its column, on the left."""
    left = [head.endswith("<") for head in heads]
    shown = [[Cell(head.rstrip("<"), "head") for head in heads]]
    shown += [[Cell(plain(cell), getattr(cell, "colour", None)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown)]
    made = []
    for row in shown:
        padded = [cell.ljust(width) if to_the_left else cell.rjust(width) for cell, width, to_the_left in zip(row, widths, left)]
        padded[-1] = padded[-1].rstrip()
        made.append(_GAP.join(paint(text, cell.colour, coloured) for text, cell in zip(padded, row)).rstrip())
    return made
