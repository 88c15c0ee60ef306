"""docs/gmproxyctl.md: its commands are those of gmproxyctl, and its examples have the format that the program prints."""

import re
from pathlib import Path

from support.reports import backend, pool, report
from support.timing import eventually

from gmproxy import ctl
from gmproxy.console import status

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "gmproxyctl.md").read_text(encoding="utf-8")
COMMAND_LINES = [line for line in PAGE.splitlines() if re.match(r"\| `[a-z-]+", line)]


def example(command):
    """The lines that the page shows below `$ command`."""
    shown = re.search(rf"^\$ {re.escape(command)}\n(.*?)^(?:```|\$ )", PAGE, re.DOTALL | re.MULTILINE)
    return shown[1].splitlines()


def test_each_command_is_in_the_table():
    assert [re.match(r"\| `([a-z-]+)", line)[1] for line in COMMAND_LINES] == list(ctl.COMMANDS)


def test_arguments_are_those_of_the_help():
    shown = [re.match(r"\| `[a-z-]+ ?([^`]*)`", line)[1].replace("\\|", "|") for line in COMMAND_LINES]
    assert shown == [command.arguments for command in ctl.COMMANDS.values()]


def test_the_table_of_status_has_its_columns():
    (heads,) = (line for line in example("gmproxyctl status") if line.startswith("STATE"))
    assert re.split(r" {2,}", heads) == [head.rstrip("<") for head in status.HEADS]


def test_the_example_of_status_ends_as_the_program_does():
    servers = backend("10.0.0.1:11211"), backend("10.0.0.2:11211", state="ejected"), backend("10.0.0.9:11211", role="backup")
    assert example("gmproxyctl status")[-1] == status.format_report(report({"default": pool(*servers)}))[-1]


def test_the_steps_of_a_key_are_those_of_a_service(service, ask, memcached):
    backup = memcached().address
    running = service("-b", backup)
    first, *steps = eventually(lambda: next((lines for lines in [ask(running, "route", "key1").lines] if "warming" in lines[0]), None))
    owner = first.split("server=")[1].split()[0]
    shown_first, *shown_steps = (
        line.replace("10.0.0.2:11211", owner).replace("10.0.0.9:11211", backup) for line in example("gmproxyctl route key1")
    )
    assert first == shown_first
    assert [line.split(maxsplit=3) for line in steps] == [line.split(maxsplit=3) for line in shown_steps]
