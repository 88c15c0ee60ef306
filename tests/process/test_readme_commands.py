"""The commands in README.md, pasted as blocks into a shell, do what it states."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.servers import HOST, environment, free_port
from support.talk import nobody_listens
from support.timing import PATIENCE, eventually

ROOT = Path(__file__).resolve().parents[2]

ANSWER = b"STORED\r\nVALUE key1 0 5\r\nhello\r\nEND\r\n"

pytestmark = [
    pytest.mark.skipif(not shutil.which("nc"), reason="nc is not installed"),
    pytest.mark.skipif(not shutil.which("memcached"), reason="memcached is not installed"),
]


def block_with(text, start):
    """The block of commands that starts with `start`."""
    (block,) = (block for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if block.startswith(start))
    return block


@pytest.fixture
def commands(tmp_path):
    """A directory with the commands of this gmproxy, as an installation has them."""
    for name, module in (("gmproxy", "gmproxy.cli"), ("gmproxyctl", "gmproxy.ctl")):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        path.chmod(0o755)
    return tmp_path / "bin"


def paste(shell, block, commands):
    """What a shell prints that reads `block` from its standard input, as bytes. Each of its commands must succeed and print nothing to stderr."""
    done = subprocess.run(
        [shell, "-e"],
        input=block.encode(),
        capture_output=True,
        timeout=PATIENCE,
        env=environment(PATH=f"{commands}:{os.environ['PATH']}"),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.parametrize("name, shell", [("README.md", "sh"), ("README.zh-CN.md", "bash")])
def test_the_five_lines_of_the_readme(name, shell, commands, shared_directory):
    """They run with free ports, and with files in a separate directory. All else is unchanged."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("/tmp/", f"{shared_directory}/")
    ports = {port: str(free_port()) for port in ("11221", "11222", "12000")}
    start = block_with(text, "memcached -d")
    stop = block_with(text, "kill ")
    assert len(start.splitlines()) == 5
    for port, free in ports.items():
        start = re.sub(rf"\b{port}\b", free, start)
    try:
        said = paste(shell, start, commands)
        assert said.startswith(ANSWER)
        placed = said.removeprefix(ANSWER).decode().split()
        assert [word for word in placed if word.startswith("key=")] == ["key=key1", "key=key2"]
        assert {word for word in placed if word.startswith("server=")} == {f"server={HOST}:{ports[port]}" for port in ("11221", "11222")}
    finally:
        paste(shell, stop, commands)
    for port in ports.values():
        eventually(lambda port=int(port): nobody_listens(port), what="the end of what was started")
