"""The table of commands in docs/replicas.md."""

import subprocess
import sys
from pathlib import Path

import pytest
from replicas.cells import TABLE
from support.timing import PROGRAM_TIMEOUT

from gmproxy.protocol import commands
from gmproxy.protocol.commands import COMMANDS, Command
from gmproxy.protocol.replica_classes import CLASSES, class_of

ROOT = Path(__file__).resolve().parents[3]

#: Commands without a key, and the one that only describes an item.
OUTSIDE = {b"flush_all", b"version", b"stats", b"lru_crawler", b"verbosity", b"quit", b"mn", b"me"}

META = [one for name, one in vars(commands).items() if isinstance(one, Command) and name.startswith("META_")]


def title_of(command, *flags):
    found = class_of(command, frozenset(flags))
    return found and found.title


def test_each_command_for_a_key_belongs_to_a_class():
    assert {command.name for command in [*COMMANDS.values(), *META] if class_of(command, frozenset()) is None} == OUTSIDE


@pytest.mark.parametrize(
    "command, flags, title",
    [
        (COMMANDS[b"get"], "", "get, mg without N, R, T, c"),
        (commands.META_GET, "v", "get, mg without N, R, T, c"),
        (commands.META_GET, "vc", "gets, mg c"),
        (COMMANDS[b"gets"], "", "gets, mg c"),
        (COMMANDS[b"gats"], "", "touch, gat, mg T"),
        (commands.META_TOUCH, "Tv", "touch, gat, mg T"),
        (commands.META_WIN, "Nv", "mg N, R; W, Z, X"),
        (COMMANDS[b"ms"], "I", "ms I, md I"),
        (commands.META_DELETE_IF, "CI", "ms I, md I"),
        (commands.META_SET_IF, "C", "add, replace, cas, C, md/ma with C"),
        (COMMANDS[b"cas"], "", "add, replace, cas, C, md/ma with C"),
        (COMMANDS[b"decr"], "", "append, prepend, incr, decr, ma, MA, MP"),
        (COMMANDS[b"delete"], "", "set, ms, delete, md"),
    ],
)
def test_the_class_of_a_command(command, flags, title):
    assert title_of(command, *flags) == title


def test_each_class_is_tested_with_real_servers():
    """By tests/replicas/test_table_of_replicas.py, in each state of the sets."""
    assert {one.title for one in CLASSES} == set(TABLE) - {"q, noreply"}


def test_the_page_has_the_table():
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts/replica-table"], capture_output=True, text=True, check=True, timeout=PROGRAM_TIMEOUT
    ).stdout
    assert printed in (ROOT / "docs/replicas.md").read_text()
