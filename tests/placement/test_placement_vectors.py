"""Every recorded placement of every program is reproduced, key by key.

``vectors/NAME.json`` says what a program did, ``options.yml`` under which options gmproxy does the same.
"""

import json
from base64 import b64decode
from pathlib import Path

import pytest
import yaml

from gmproxy.address import parse_servers
from gmproxy.placement import build

HERE = Path(__file__).parent
OPTIONS = yaml.safe_load((HERE / "options.yml").read_text())
FILES = sorted(path.stem for path in (HERE / "vectors").glob("*.json"))


def servers_of(vector):
    """The servers as an operator would write them for gmproxy: ``host:port:weight name``."""
    names = vector.get("names") or [""] * len(vector["servers"])
    items = zip(vector["servers"], vector["weights"], names)
    return parse_servers(",".join(f"{server}:{weight} {name}" for server, weight, name in items))


def expected(vector, field):
    """Wire key -> index, of ``field`` and its base64 twin."""
    keys = {key.encode(): index for key, index in vector.get(field, {}).items()}
    return keys | {b64decode(key): index for key, index in vector.get(field + "_b64", {}).items()}


def keyword_arguments(options):
    return {name.replace("-", "_"): value for name, value in options.items()}


def test_every_file_has_options_and_every_entry_a_file():
    assert sorted(OPTIONS) == FILES


def test_hardly_anything_is_skipped():
    skipped = [name for name, options in OPTIONS.items() if "skip" in options]
    assert len(skipped) * 20 < len(FILES)


@pytest.mark.parametrize("name", FILES)
def test_placement(name):
    options = OPTIONS[name]
    if "skip" in options:
        pytest.skip(options["skip"])
    vector = json.loads((HERE / "vectors" / f"{name}.json").read_text())
    clusters = {"keys": servers_of(vector)}
    if vector.get("backups"):
        clusters["backup_keys"] = parse_servers(",".join(vector["backups"]))
    for field, servers in clusters.items():
        placement = build(servers, **keyword_arguments(options))
        keys = expected(vector, field)
        assert keys
        assert {key: placement.locate(key) for key in keys} == keys
