"""Columns, colours and figures."""

import io

import pytest

from gmproxy.console import table, units


def test_columns():
    assert table.format_table(("NAME<", "COUNT", "LAST<"), [("one", "12", "x"), ("two and a half", "3", "")]) == [
        "NAME            COUNT  LAST",
        "one                12  x",
        "two and a half      3",
    ]


def test_colours_do_not_move_columns():
    rows = [(table.Cell("up", "up"), "1"), (table.Cell("ejected", "ejected"), "2")]
    lines = table.format_table(("STATE<", "N"), rows, coloured=True)
    assert lines[2] == "\x1b[31mejected\x1b[0m  2"
    for colour in table.COLOURS.values():
        lines = [line.replace(colour, "") for line in lines]
    assert [line.replace("\x1b[0m", "") for line in lines] == table.format_table(("STATE<", "N"), rows)


def test_what_a_terminal_would_obey_is_shown_instead():
    assert table.format_table(("KEY<",), [("a\x1b[2Jb\n",)])[1] == r"a\x1b[2Jb\n"


@pytest.mark.parametrize(
    "terminal, environment, wanted",
    [
        (True, {"TERM": "xterm"}, True),
        (True, {}, True),
        (False, {"TERM": "xterm"}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals(terminal, environment, wanted):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    assert table.wants_colour(stream, environment) == wanted


@pytest.mark.parametrize(
    "written, expected",
    [
        (units.number(None), "-"),
        (units.number(7), "7"),
        (units.number(7.25), "7.25"),
        (units.number(9999), "9999"),
        (units.number(123456), "123 k"),
        (units.number(5e6), "5.00 M"),
        (units.size(17), "17 B"),
        (units.size(1500), "1.50 kB"),
        (units.percent(0.9734), "97.3 %"),
        (units.duration(0.00021), "210 us"),
        (units.duration(0.0123), "12.3 ms"),
        (units.duration(2), "2.00 s"),
        (units.age(119), "119 s"),
        (units.age(7199), "119 min"),
        (units.age(86400 * 3), "3 d"),
        (units.age(-1), "0 s"),
        (units.count(1, "worker"), "1 worker"),
        (units.count(2, "worker"), "2 workers"),
    ],
)
def test_figures(written, expected):
    assert written == expected
