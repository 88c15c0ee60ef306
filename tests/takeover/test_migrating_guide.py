"""docs/migrating.md: every command in it works."""

import json
import os
import re
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from shards import keys_of, store
from support.scripted import expect
from support.servers import COMMANDS, environment
from support.talk import storage
from support.timing import PROGRAM_TIMEOUT

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "migrating.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
LINES = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]

[SCRIPT] = [block for kind, block in BLOCKS if kind == "python"]
[BY_HAND] = [block for kind, block in BLOCKS if kind == "json"]
[SETTINGS] = [block for kind, block in BLOCKS if "gmproxy.conf" in block]

PROGRAMS = COMMANDS | {"gmproxyctl": (sys.executable, "-m", "gmproxy.ctl"), "python3": (sys.executable,)}

POOL = """\
alpha:
  listen: 127.0.0.1:22121
  hash: fnv1a_64
  servers:
    - 10.0.0.1:11211:1
    - 10.0.0.2:11211:1
"""


@pytest.fixture
def desk(tmp_path):
    """A directory with the files that the guide names, and a function that runs a command line there."""
    (tmp_path / "keys_of.py").write_text(SCRIPT)
    (tmp_path / "keys.json").write_text(BY_HAND)
    (tmp_path / "nutcracker.yml").write_text(POOL)
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, command in PROGRAMS.items():
        wrapper = commands / name
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)

    def enter(line):
        variables = environment(PATH=f"{commands}:{os.environ['PATH']}")
        return subprocess.run(line, shell=True, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=PROGRAM_TIMEOUT)

    enter.directory = tmp_path
    return enter


def commands(*beginnings, without=()):
    return [line for line in LINES if line.startswith(beginnings) and not any(word in line for word in without)]


# -- each line


@pytest.mark.parametrize("line", commands("gmproxy ", "magent ", without=["while", "beside.yml"]))
def test_proxies_start(line, desk):
    """As far as the check works without a network: the servers and users in the guide do not exist."""
    done = desk(f"{line} -t")
    as_there = "nutcracker: configuration file 'nutcracker.yml' syntax is ok\n"
    assert (done.returncode, done.stderr) == (0, as_there if "--compat nutcracker" in line else "")


@pytest.mark.parametrize("line", commands("gmproxyctl route ", without=["--check"]))
def test_keys_are_routed(line, desk):
    done = desk(line)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"key=user:1 hash=\d+ server=10\.0\.0\.\d:11211\nkey=user:2 ", done.stdout)


@pytest.mark.parametrize("line", commands("gmproxyctl route --check"))
def test_keys_are_checked(line, desk):
    """The keys in the guide are examples: only that they are counted can be checked."""
    done = desk(line)
    assert done.returncode in (0, 1) and done.stderr == ""
    assert re.match(r"\d of 2 match\n", done.stdout)


def test_no_line_is_forgotten():
    tested = commands("gmproxy ", "magent ", "gmproxyctl route ", "python3 keys_of.py ", "sed ")
    assert [line.strip().split()[0] for line in LINES if line not in tested] == ["echo", "done"]  # of the loop over all profiles


def test_settings_beside_the_pools(desk):
    (desk.directory / "gmproxy.conf").write_text(SETTINGS.replace("/etc/nutcracker/", f"{desk.directory}/"))
    printed = desk("gmproxy -c gmproxy.conf -t")
    assert (printed.returncode, printed.stderr) == (0, "")


def test_other_ports_beside_twemproxy(desk):
    [line] = commands("sed ")
    assert desk(line).returncode == 0
    before, after = (yaml.safe_load((desk.directory / name).read_text()) for name in ("nutcracker.yml", "beside.yml"))
    assert after["alpha"].pop("listen") == "127.0.0.1:32121"
    assert before["alpha"].pop("listen") == "127.0.0.1:22121"
    assert before == after
    assert desk("gmproxy -c beside.yml -t").returncode == 0


# -- the proof


@pytest.fixture
def old_system(memcached, proxy):
    """Servers with keys of all kinds, stored as dalli does it."""
    servers = [memcached() for _ in range(3)]
    process = proxy("--profile", "dalli", "-s", ",".join(server.address for server in servers))
    with process.talk() as talk:
        assert not store(talk, keys_of("guide", 300))
        for key in (b"caf\xc3\xa9", b"\xff\xfe", b"per%cent", b"a=b&c=d"):
            talk.expect(storage(b"set", key, b"x"), b"STORED\r\n")
    return " ".join(server.address for server in servers)


def test_a_file_is_made_from_the_servers_and_compared(old_system, desk):
    assert desk(f"python3 keys_of.py {old_system} > keys.json").stderr == ""
    assert desk("gmproxyctl route --check keys.json --profile dalli").stdout == "304 of 304 match\n"
    facts = json.loads((desk.directory / "keys.json").read_text())
    assert len(facts["keys_b64"]) == 1
    wrong = desk("gmproxyctl route --check keys.json")
    assert wrong.returncode == 1 and not wrong.stdout.startswith("304 ")


def test_the_profile_is_found(old_system, desk):
    desk(f"python3 keys_of.py {old_system} > keys.json")
    [loop] = [block for kind, block in BLOCKS if "while read" in block]
    a_few = "gmproxy --list-profiles | grep -E '^(magent|dalli|twemproxy|spymemcached-ketama) '"
    found = desk(loop.replace("gmproxy --list-profiles", a_few))
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines()[-1] == "304 of 304 match, dalli"


def test_a_server_that_cannot_tell_says_why(scripted, desk):
    old = scripted([expect(b"lru_crawler metadump all\r\n"), b"ERROR\r\n"])
    done = desk(f"python3 keys_of.py {old.address}")
    assert done.returncode == 1 and done.stderr == f"{old.address}: ERROR\n"


def test_a_list_of_a_newer_server_is_read(scripted, desk):
    """memcached 1.6.45 starts it with OK."""
    line = f"key=user%3A1 exp=-1 la={int(time.time())} cas=1 fetch=no cls=1 size=64\n".encode()
    new = scripted([expect(b"lru_crawler metadump all\r\n"), b"OK\r\n" + line + b"END\r\n"])
    done = desk(f"python3 keys_of.py {new.address}")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"servers": [new.address], "keys": {"user:1": 0}, "keys_b64": {}}
