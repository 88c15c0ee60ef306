"""The table of settings: it must be complete, because all else is made from it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmproxy.config import settings, values
from gmproxy.config.settings import SETTINGS, render
from gmproxy.placement.server_spec import Server

#: The options of magent, with magent's defaults.
MAGENT = {
    "-u": "",
    "-g": "",
    "-p": "11211",
    "-s": "",
    "-b": "",
    "-l": "0.0.0.0",
    "-n": "4096",
    "-D": "no",
    "-k": "no",
    "-f": "",
    "-i": "20",
    "-v": "no",
}

each_setting = pytest.mark.parametrize("setting", list(SETTINGS.values()), ids=list(SETTINGS))


@each_setting
def test_its_sentence_says_something(setting):
    assert len(setting.description.split()) > 1
    assert not setting.description.endswith(".")


@each_setting
def test_its_default_is_a_good_value_and_written_as_it_is_rendered(setting):
    if setting.name not in settings.REPEATED:
        assert render(setting, setting.parse(setting.default)) == setting.default


@each_setting
def test_a_value_has_a_name_in_the_help_and_a_switch_has_none(setting):
    """A switch that is on by default takes a value, so that it can be disabled."""
    assert bool(setting.metavar) is (setting.parse is not values.yes_or_no or setting.default == "yes")


@each_setting
def test_its_accepted_values_are_accepted(setting):
    """As in docs/options.md: both ends of a range, every word of a list."""
    accepted = settings.accepted_values(setting)
    least_and_most = re.fullmatch("(\\w+) to (\\w+)(?:, or (auto))?", accepted)
    for value in least_and_most.groups() if least_and_most else filter(None, accepted.split(", ")):
        if value is not None:
            setting.parse(value)
    if least_and_most and least_and_most[2].isdigit():
        with pytest.raises(ValueError):
            setting.parse(str(int(least_and_most[2]) + 1))


@each_setting
def test_its_names(setting):
    assert setting.name == setting.name.lower()
    assert settings.option_name(setting) == "--" + setting.name.replace("_", "-")
    assert setting.group in settings.GROUPS


def test_no_flag_stands_for_two():
    flags = [setting.flag for setting in SETTINGS.values() if setting.flag]
    assert len(flags) == len(set(flags))


def test_the_options_of_magent_keep_meaning_and_defaults():
    table = {setting.flag: setting.default for setting in SETTINGS.values()}
    assert {flag: table[flag] for flag in MAGENT} == MAGENT


def test_times_are_written_in_milliseconds_and_kept_in_seconds():
    assert values.milliseconds("250") == 0.25
    assert render(SETTINGS["timeout"], 0.25) == "250"


@given(st.integers(1, 86_400_000))
def test_no_millisecond_is_lost(number):
    assert render(SETTINGS["timeout"], values.milliseconds(str(number))) == str(number)


hosts = st.sampled_from(["cache1", "10.0.0.1", "::1", "fe80::1%eth0"])
names = st.none() | st.sampled_from(["one", "cache-2"])
weights = st.sampled_from([1, 2, 0.5, 100])
tcp = st.builds(Server, hosts, st.integers(1, 65535), weights, names)
unix = st.builds(lambda path, weight, name: Server(path, 0, weight, name, path), st.sampled_from(["/run/m", "/run/a:b"]), weights, names)


@given(st.lists(tcp | unix, min_size=1, max_size=4))
def test_servers_are_rendered_as_they_are_parsed(servers):
    setting = SETTINGS["server"]
    assert setting.parse(render(setting, servers)) == servers
