"""The documents and the code agree: what a document names exists, and what must be documented is."""

import ast
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from prometheus_client.core import CounterMetricFamily
from support.timing import PROGRAM_TIMEOUT

from gmproxy.config.configuration import parser_for
from gmproxy.config.diff import NEEDS_RESTART
from gmproxy.config.nutcracker import RENAMED, TWEMPROXY_DEFAULTS
from gmproxy.errors import REASONS
from gmproxy.monitoring import control_commands
from gmproxy.monitoring.prometheus import METRICS
from gmproxy.process import control_server, master
from gmproxy.process.supervisor import SIGNALS
from gmproxy.process.worker_group import UPGRADE_TIMEOUT
from gmproxy.protocol.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "gmproxy"
DOCUMENTS = sorted(chain(ROOT.glob("*.md"), ROOT.glob("docs/**/*.md"), ROOT.glob("bench/*.md")))
SOURCES = list(PACKAGE.rglob("*.py"))

UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def option_rows(name):
    """The table between the markers: a list of cells for each line."""
    between = re.search(r"<!-- options -->\n(.*)<!-- /options -->", read(name), re.DOTALL)
    return cells(between[1])


def cells(text):
    """The rows of the tables in `text`."""
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line.startswith("|")]


@pytest.fixture(scope="module")
def generated():
    made = subprocess.run(
        [sys.executable, ROOT / "scripts/option-table"], capture_output=True, text=True, check=True, timeout=PROGRAM_TIMEOUT
    )
    return cells(made.stdout)


# -- options


def test_options_md_has_the_table_of_settings_as_it_is_generated(generated):
    assert option_rows("docs/options.md") == generated, "run make generated"


def test_options_md_has_every_option_of_the_command_line():
    """It also lists options that are not settings, and so not in the generated table."""
    listed = {option for row in cells(read("docs/options.md")) for option in re.findall("`(-[^`]+)`", row[0])}
    options = {option for action in parser_for("gmproxy")._actions for option in action.option_strings}
    assert options - listed == {"--conf-file"}  # nutcracker's name of --pools


def test_defaults_of_pools_in_options_md_are_those_of_the_code():
    stated = {row[0].strip("`"): row[1] for row in cells(read("docs/options.md"))}
    for name, default in TWEMPROXY_DEFAULTS.items():
        assert stated[name].startswith(f"`{default}`"), name
    for ours, setting in RENAMED.items():
        assert f"`{ours}`" in read("docs/options.md") and f"`{setting}`" in read("docs/options.md")


# -- README


def test_both_readmes_have_the_same_examples():
    """Command by command. The comments beside them are in another language."""

    def commands(name):
        blocks = re.findall(r"^```\w*\n(.*?)^```", read(name), re.DOTALL | re.MULTILINE)
        return [line.split("  #")[0].rstrip() for block in blocks for line in block.splitlines()]

    assert commands("README.zh-CN.md") == commands("README.md")


# -- protocol.md


def test_every_command_is_in_the_table():
    named = {word for row in cells(read("docs/protocol.md")) for word in re.findall(r"\w+", row[0])}
    assert {name.decode() for name in COMMANDS} <= named


def test_limits_are_those_of_the_code():
    rows = [(row, re.fullmatch(r"`([\w/]+\.py)` `([A-Z_]+)`", row[-1])) for row in cells(read("docs/protocol.md"))]
    limits = [(row, *match.groups()) for row, match in rows if match]
    assert len(limits) > 5
    for row, file, name in limits:
        assert value_of(file, name) in numbers(row[1]), row


def numbers(text):
    """Every number in `text`, with its unit if it has one."""
    return [int(digits.replace(",", "")) * UNITS[unit or ""] for digits, unit in re.findall(r"(\d[\d,]*)(?: ([KMG]iB))?", text)]


def value_of(file, name):
    """The value that the constant has in the file: a compiled module need not have it as an attribute."""
    for node in ast.parse((PACKAGE / file).read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return eval(compile(ast.Expression(node.value), file, "eval"), {})
    raise AssertionError(f"there is no {name} in {file}")


def test_every_line_of_stats_is_explained():
    counted = re.findall(r'^        \("(\w+)", ', (PACKAGE / "client" / "stats.py").read_text(), re.MULTILINE)
    assert len(counted) > 20
    missing = [name for name in counted if f"`{name}`" not in read("docs/protocol.md")]
    assert not missing


# -- failures.md


def test_every_reason_is_explained():
    explained = [row[0].strip("`") for row in cells(read("docs/failures.md")) if len(row) == 2]
    assert [word for word in explained if word in REASONS] == list(REASONS)


def logged_lines():
    """Each log line of the code, up to its first value."""
    call = r'(?:log\.\w+\(\s*(?:level, )?|LogRecord\("gmproxy", logging\.\w+, "", 0, )"([^"%]+)'
    lines = {line for path in SOURCES for line in re.findall(call, path.read_text())}
    assert len(lines) > 5
    return lines


def test_every_log_line_is_explained():
    missing = [line for line in logged_lines() if line.rstrip() not in read("docs/failures.md")]
    assert not missing


def test_every_log_line_of_failures_md_is_one_of_the_code():
    quoted = re.findall(r"`(?:INFO|WARNING|ERROR) ([a-z_][a-z_ -]*)(?= \w+=|:|`|,)", read("docs/failures.md"))
    assert len(quoted) > 50
    unknown = [words for words in quoted if not any(line.startswith(words) or words.startswith(line) for line in logged_lines())]
    assert not unknown


# -- signals.md


def first_words(table_head):
    """What the first cells name in the table of signals.md whose heading starts with `table_head`."""
    table = re.search(rf"^\| {table_head} \|.*?\n\n", read("docs/signals.md"), re.DOTALL | re.MULTILINE)[0]
    return [row[0] for row in cells(table)[2:]]


def test_every_signal_is_in_the_table():
    assert ", ".join(first_words("signal")).split(", ") == [number.name for number in SIGNALS]


def test_every_control_command_is_in_the_table():
    carried_out_by_supervisor = {"pids", "reload", "reopen_logs", "upgrade", "hotkeys", "tail", "verify"}
    assert {word.strip("`") for word in first_words("command")} == carried_out_by_supervisor | set(control_commands.PUBLIC)


def test_every_setting_that_needs_a_restart_is_named():
    (sentence,) = re.findall(r"^\* ([^*]*)\*\*need a restart\*\*", read("docs/signals.md"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", sentence)) == set(NEEDS_RESTART)


@pytest.mark.parametrize(
    "sentence, value",
    [
        ("At most {} operators can be connected", control_server.MAX_OPERATORS),
        ("Each may have {} commands in progress", control_server.MAX_COMMANDS),
        ("reads nothing of a reply for {} s", int(control_server.STALL_TIMEOUT)),
        ("more than {} MiB of replies waiting", control_server.MAX_UNSENT >> 20),
        ("does not report within {} s", UPGRADE_TIMEOUT),
        ("A worker that has not ended {} s after that", int(master.KILL_AFTER)),
        ("the {} slowest of the latest requests", control_commands.MAX_SLOW_REPORTED),
    ],
)
def test_limits_of_signals_md_are_those_of_the_code(sentence, value):
    assert sentence.format(value) in re.sub(r"\s+", " ", read("docs/signals.md"))


# -- architecture.md


def floor_plan():
    """{package, "" for the top: its modules} of the block in which each line starts with a package or continues the line above."""
    block = re.search(r"^## Floor plan\n.*?^```\n(.*?)^```", read("docs/architecture.md"), re.DOTALL | re.MULTILINE)[1]
    plan = {}
    package = ""
    for line in block.splitlines():
        for word in line.split():
            if word.endswith("/") and not line.startswith(" "):
                package = word.rstrip("/")
            elif word.endswith(".py") and not line.startswith(" "):
                plan.setdefault("", set()).add(word.removesuffix(".py"))
            else:
                plan.setdefault(package, set()).add(word)
    return plan


def test_every_module_is_in_the_floor_plan():
    inside = {}
    for path in SOURCES:
        if path.stem != "__init__":
            package = str(path.parent.relative_to(PACKAGE)).replace(".", "")
            inside.setdefault(package, set()).add(path.stem)
    assert floor_plan() == inside


def test_modules_that_are_written_twice_are_in_the_table():
    table = re.search(r"^\| module \|.*?\n\n", read("docs/architecture.md"), re.DOTALL | re.MULTILINE)[0]
    assert {row[0].strip("`") for row in cells(table)[2:]} == {
        str(path.relative_to(PACKAGE).with_suffix(".py")) for path in PACKAGE.rglob("*.pyx")
    }


def test_files_that_the_architecture_names_are_there():
    named = set(re.findall(r"[\w/]+\.(?:py|pyx|html)\b", read("docs/architecture.md")))
    assert not [name for name in named if not any((place / name).exists() for place in (PACKAGE, ROOT))]


# -- CONTRIBUTING.md


def test_files_that_contributing_names_are_there():
    words = set(re.findall(r"\b(?:gmproxy|tests|docs|scripts|debian|conf)/[\w./-]*\w", read("CONTRIBUTING.md")))
    named = {word for word in words if not re.search(r"[A-Z]{4}", word)}  # PACKAGE, NAME and the like are placeholders
    assert len(named) > 50
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]


def test_tests_and_tables_that_contributing_names_are_there():
    named = set(re.findall(r"`(test_\w+|_?[A-Z]{2,}(?:_[A-Z]+)*)`", read("CONTRIBUTING.md"))) - {"CLIENT_ERROR"}
    sources = "".join(path.read_text(encoding="utf-8") for path in chain(SOURCES, ROOT.glob("tests/**/*.py")))
    assert len(named) > 10
    assert not [name for name in sorted(named) if not re.search(rf"^(def {name}\(|{name}\b.* = )", sources, re.MULTILINE)]


# -- all


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, heading = target.partition("#")
        there = path.parent / file if file else path
        assert there.exists(), target
        assert not heading or heading in headings(there), target


def test_the_index_has_every_page():
    """docs/README.md has a line for each page, which starts with a link to it, and names no other page."""
    listed = re.findall(r"^\* \[[\w.-]+\]\(([^)#]+)\): \S", read("docs/README.md"), re.MULTILINE)
    pages = {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"} | {"performance/README.md"}
    assert set(listed) == pages


def test_the_readmes_are_short_and_lead_to_the_same_pages():
    """Each fits in about two screens of a terminal. Longer texts belong in docs/."""
    for name in ("README.md", "README.zh-CN.md"):
        assert len(read(name).splitlines()) <= 200, name
    links = [re.findall(r"\]\((docs/[^)\s]+)\)", read(name)) for name in ("README.md", "README.zh-CN.md")]
    assert sorted(links[0]) == sorted(links[1])
    assert "docs/README.md" in links[0]


def headings(path):
    """The anchors that are made from the headings of a page."""
    found = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in found}


# -- monitoring.md


def test_every_metric_is_explained():
    table = re.search(r"<!-- metrics -->\n(.*)<!-- /metrics -->", read("docs/monitoring.md"), re.DOTALL)[1]
    explained = {row[0].strip("`"): [row[2], row[3]] for row in cells(table)[2:]}
    assert explained == {
        f"gmproxy_{name}" + ("_total" if kind is CounterMetricFamily else ""): [", ".join(labels), sentence]
        for name, (kind, labels, sentence) in METRICS.items()
    }


def test_no_document_has_the_marks_of_a_merge():
    manuals = ROOT.glob("docs/man/*")
    assert [path.name for path in (*DOCUMENTS, *manuals) if re.search("^(<{7} |>{7} |={7}$)", path.read_text(encoding="utf-8"), re.M)] == []
