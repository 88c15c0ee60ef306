"""Clients that log in with SASL: the right password is accepted, a wrong one is refused."""

import shutil
import subprocess
import sys

import pytest

TIMEOUT = 30

#: {name: (command that succeeds if the client is installed, command that succeeds after a login)}. Arguments of both: host, port, user, password.
CLIENTS = {
    "python-binary-memcached": (
        [sys.executable, "-c", "import bmemcached"],
        [
            sys.executable,
            "-c",
            """
import sys, bmemcached
host, port, user, password = sys.argv[1:]
m = bmemcached.Client((f"{host}:{port}",), user, password)
assert m.set("login", "x") and m.get("login") == "x"
""",
        ],
    ),
    "pylibmc": (
        ["/usr/bin/python3", "-c", "import pylibmc"],
        [
            "/usr/bin/python3",
            "-c",
            """
import sys, pylibmc
host, port, user, password = sys.argv[1:]
m = pylibmc.Client([f"{host}:{port}"], binary=True, username=user, password=password)
assert m.set("login", "x") and m.get("login") == "x"
""",
        ],
    ),
    "php-memcached": (
        ["php", "-r", "exit(Memcached::HAVE_SASL ? 0 : 1);"],
        [
            "php",
            "-r",
            """
$m = new Memcached();
$m->setOption(Memcached::OPT_BINARY_PROTOCOL, true);
$m->addServer($argv[1], (int)$argv[2]);
$m->setSaslAuthData($argv[3], $argv[4]);
exit($m->set('login', 'x') && $m->get('login') === 'x' ? 0 : 1);
""",
            "--",
        ],
    ),
    "dalli": (
        ["ruby", "-e", "require 'dalli'"],
        [
            "ruby",
            "-e",
            """
require 'dalli'
m = Dalli::Client.new("#{ARGV[0]}:#{ARGV[1]}", protocol: :binary, username: ARGV[2], password: ARGV[3])
exit(m.set('login', 'x') && m.get('login') == 'x' ? 0 : 1)
""",
        ],
    ),
    "memjs": (
        ["node", "-e", "require('memjs')"],
        [
            "node",
            "-e",
            """
const memjs = require('memjs');
const [host, port, username, password] = process.argv.slice(1);
const m = memjs.Client.create(`${host}:${port}`, { username, password, retries: 1 });
(async () => {
    const there = await m.set('login', 'x', {}) && String((await m.get('login')).value) === 'x';
    m.close();
    process.exit(there ? 0 : 1);
})().catch(() => process.exit(1));
""",
        ],
    ),
}


def runs(command, *arguments):
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, timeout=TIMEOUT).returncode == 0


@pytest.fixture
def closed(memcached, proxy, tmp_path):
    users = tmp_path / "users"
    users.write_text("someone:s3cret word\n")
    users.chmod(0o600)
    return proxy("-s", memcached().address, "--auth-file", users)


@pytest.mark.parametrize("name", CLIENTS)
def test_sasl(closed, name):
    present, command = CLIENTS[name]
    if not runs(present):
        pytest.skip(f"{name} is not installed")
    assert runs(command, closed.host, closed.port, "someone", "s3cret word")
    assert not runs(command, closed.host, closed.port, "someone", "wrong")
    assert "s3cret" not in closed.log()
