"""The command line of gmproxyctl: options before and after the command, the help of each command, and the version."""

import json

import pytest

import gmproxy
from gmproxy import ctl

TWO = ("-s", "10.0.0.1:11211", "-s", "10.0.0.2:11211")


@pytest.mark.parametrize("name", ctl.COMMANDS)
def test_each_command_has_help(name, gmproxyctl):
    said = gmproxyctl("help", name)
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith(f"usage: gmproxyctl {name}") and "--control" in said.out
    for words in ((name, "--help"), (name, "-h"), ("--help", name), ("--control", "/no/such/socket", name, "--help")):
        assert gmproxyctl(*words) == said


def test_each_command_is_in_the_list(gmproxyctl):
    assert [line.split()[1] for line in gmproxyctl("help").lines if line.startswith("  gmproxyctl ")][: len(ctl.COMMANDS)] == list(
        ctl.COMMANDS
    )


def test_no_help_of_what_is_no_command(gmproxyctl):
    assert "there is no command 'stattus': did you mean status? see gmproxyctl --help" in gmproxyctl("help", "stattus").complaint


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version(option, gmproxyctl):
    said = gmproxyctl(option)
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith(f"gmproxyctl {gmproxy.__version__} (")


def test_options_may_stand_before_the_command(service, ask, gmproxyctl):
    running = service()
    after = json.loads(gmproxyctl("log-level", "warning", "--json", "--control", running.control).out)
    assert json.loads(gmproxyctl("--json", "--control", running.control, "log-level", "warning").out) == after
    assert json.loads(gmproxyctl(f"--control={running.control}", "log-level", "--json").out) == after
    assert [*json.loads(gmproxyctl("--control", running.control, "--pool", "default", "status", "--json").out)["pools"]] == ["default"]
    assert gmproxyctl("--pool", "default", "--control", running.control, "--count", "1", "--interval", "0.1", "top").status == 0


def test_options_of_gmproxy_too(gmproxyctl):
    assert gmproxyctl(*TWO, "route", "key") == gmproxyctl("route", *TWO, "key")


def test_the_last_one_wins(service, gmproxyctl):
    running = service()
    assert gmproxyctl("--control", "/no/such/socket", "log-level", "--control", running.control).out == "info\n"


def test_options_without_a_command(gmproxyctl):
    assert "no command given with --json" in gmproxyctl("--json").complaint
    assert "no command given with --control" in gmproxyctl("--control", "/no/such/socket").complaint


def test_what_looks_like_help_may_be_a_key(gmproxyctl):
    assert gmproxyctl("route", *TWO, "--", "-h").lines[0].startswith("key=-h ")
