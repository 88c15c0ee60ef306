"""Every recorded placement of every program is reproduced, key by key, with the options that an operator would set.

``vectors/NAME.json`` has the placement of a program, ``options.yml`` the options with which gmproxy has the same placement.
"""

import json
from pathlib import Path

import pytest
import yaml

from gmproxy import ctl

HERE = Path(__file__).parent
OPTIONS = yaml.safe_load((HERE / "options.yml").read_text())
FILES = {path.stem: path for path in (HERE / "vectors").glob("*.json")}
FIELDS = ("keys", "keys_b64", "backup_keys", "backup_keys_b64")


def arguments(options):
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def test_every_file_has_options_and_every_entry_a_file():
    assert set(OPTIONS) == set(FILES)


def test_hardly_anything_is_skipped():
    skipped = [name for name, options in OPTIONS.items() if "skip" in options]
    assert len(skipped) * 20 < len(FILES)


@pytest.mark.parametrize("name", sorted(FILES))
def test_placement(name, capsys):
    options = OPTIONS.get(name, {})
    if "skip" in options:
        pytest.skip(options["skip"])
    facts = json.loads(FILES[name].read_text())
    count = sum(len(facts.get(field, {})) for field in FIELDS)
    status = ctl.main(["route", "--check", str(FILES[name]), *arguments(options)])
    said = capsys.readouterr()
    assert (status, said.out, said.err) == (0, f"{count} of {count} match\n", "")
    assert count
