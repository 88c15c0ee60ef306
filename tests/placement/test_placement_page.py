"""docs/placement.md: every option that it names can be chosen, and every option that can be chosen is in it."""

import re
import shlex
from pathlib import Path

import pytest

from gmproxy.config import configuration
from gmproxy.config.settings import SETTINGS as ALL_SETTINGS
from gmproxy.config.settings import option_name
from gmproxy.placement.builder import DISTRIBUTIONS, SETTINGS
from gmproxy.placement.labels import LABELS
from gmproxy.placement.profiles import PROFILES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "placement.md").read_text(encoding="utf-8")


def rows(section):
    """The cells of each row, without the header, of the table under the heading `section`."""
    [text] = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")][2:]


ROWS = rows("Programs")
CHOICES = [choice for _, options, _ in ROWS for choice in re.findall(r"`([^`]+)`", options)]

#: The values that a word in capitals represents.
PLACEHOLDERS = {"NAME": "md5", "P": "40"}


@pytest.mark.parametrize("choice", CHOICES)
def test_it_can_be_chosen(choice):
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(choice)]
    known = [] if "--hosts" in choice else ["--hosts", "cache1=10.0.0.1"]
    servers = ["-s", "10.0.0.1:11211", "-s", "cache1:11211:2", *known]
    [config], _ = configuration.parse([*servers, *words], {})
    assert len(config.server) == 2


def test_every_label_format_is_there():
    assert [label.strip(" `") for label, _ in rows("Labels")] == list(LABELS)


def test_every_profile_is_there():
    assert {choice.split()[1] for choice in CHOICES if choice.startswith("--profile")} == set(PROFILES)


def test_every_distribution_is_there_by_its_name_or_by_a_profile():
    named = {choice.split()[1] for choice in CHOICES if choice.startswith("--distribution")}
    assert named | {profile.distribution for profile in PROFILES.values()} == set(DISTRIBUTIONS)


def test_every_option_of_placement_is_there():
    for name in SETTINGS:
        assert any(option_name(ALL_SETTINGS[name]) in choice.split() for choice in CHOICES), name
