"""What bash completes after gmproxyctl."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.servers import HOST, environment, free_port
from support.timing import PROGRAM_TIMEOUT

ROOT = Path(__file__).parents[2]
BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")

pytestmark = pytest.mark.skipif(not BASH_COMPLETION.exists(), reason="bash-completion is not installed")


@pytest.fixture
def complete(tmp_path):
    """complete(line): what bash proposes for the last word of `line`, with the words as readline splits them."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, line in {
        "gmproxyctl": f"exec {shlex.quote(sys.executable)} -m gmproxy.ctl",
        "timeout": f"shift; exec {shutil.which('timeout')} {PROGRAM_TIMEOUT}",  # on a busy machine a second may be too short to start Python
    }.items():
        (commands / name).write_text(f'#!/bin/sh\n{line} "$@"\n')
        (commands / name).chmod(0o755)

    def ask(line):
        words = [word for part in line.split(" ") for word in re.findall(r"[^:]+|:", part) or [""]]
        script = f"""
            source {BASH_COMPLETION}; source {ROOT}/conf/bash-completion
            PATH={commands}:$PATH
            COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}
            _gmproxyctl
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        options = {"capture_output": True, "text": True, "check": True, "cwd": tmp_path, "env": environment()}
        done = subprocess.run(["bash", "-c", script], timeout=PROGRAM_TIMEOUT, **options)
        assert not done.stderr, "bash has no complaint, such as of a function that is not there"
        return done.stdout.split()

    return ask


@pytest.mark.parametrize(
    "line, offered",
    [
        ("gmproxyctl ro", ["route"]),
        ("gmproxyctl l", ["log-level"]),
        ("gmproxyctl help res", ["restore"]),
        ("gmproxyctl --control /no/such/socket --json sl", ["slow"]),
        ("gmproxyctl --v", ["--version"]),
        ("gmproxyctl status --p", ["--pool"]),
        ("gmproxyctl top --i", ["--interval"]),
        ("gmproxyctl eject --", ["--json", "--control", "--config", "--help"]),
        ("gmproxyctl --pool x log-level w", ["warning"]),
        ("gmproxyctl route --check", ["--check"]),
        ("gmproxyctl route --prof", ["--profile"]),
        ("gmproxyctl route --profile dal", ["dalli"]),
        ("gmproxyctl route --check /etc/hostn", ["/etc/hostname"]),
        ("gmproxyctl --control /etc/hostn", ["/etc/hostname"]),
        ("gmproxyctl owed --f", ["--flush"]),
        ("gmproxyctl nonsense --", []),
        ("gmproxyctl --control /no/such/socket eject ", []),
    ],
)
def test_commands_and_their_options(line, offered, complete):
    assert complete(line) == offered


def test_pools_and_servers_of_the_service(complete, proxy, memcached, tmp_path):
    servers = [memcached(), memcached()]
    control = tmp_path / "control"
    pools = tmp_path / "nutcracker.yml"
    port = free_port()
    pools.write_text(
        f"alpha:\n  listen: {HOST}:{port}\n  servers:\n    - {servers[0].address}:1 one\n    - {servers[1].address}:1 $(touch${{IFS}}x)\n"
    )
    proxy("--pools", pools, "--control", control, port=port)
    quoted = r"\$\(touch\$\{IFS\}x\)"
    assert set(complete(f"gmproxyctl --control {control} eject ")) == {"one", quoted, *(server.address for server in servers)}
    begun, rest = servers[0].address[:-1], servers[0].address.partition(":")[2]
    assert rest in complete(f"gmproxyctl eject --control {control} {begun}"), "what follows the colon"
    assert complete(f"gmproxyctl hotkeys --control {control} --pool a") == ["alpha"]
    assert not (tmp_path / "x").exists(), "a name is not run"
