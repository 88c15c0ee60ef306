"""Conversations of client libraries: with gmproxy over two servers a client prints the same as with one memcached.

The libraries are installed from npm and PyPI: memjs, whose own tests use no server, npm's memcached, and emcache, which has no tests on PyPI.
"""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import npm
from support.servers import Memcached, Proxy

pytestmark = pytest.mark.long

CONVERSATIONS = Path(__file__).parent / "conversations"

#: Timeout of a conversation or an installation, seconds.
PATIENCE = 120


@pytest.fixture(params=["text", "binary"])
def targets(request):
    """A memcached, and a proxy over two primaries and a backup with the text or the binary protocol. All servers are empty."""
    with ExitStack() as stack:
        alone, one, other, backup = (stack.enter_context(Memcached()) for _ in range(4))
        servers = ("-s", one.address, "-s", other.address, "-b", backup.address)
        proxy = stack.enter_context(Proxy(*servers, "--backend-protocol", request.param))
        yield alone, proxy
        proxy.check_log()


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory):
    return npm.install(tmp_path_factory.mktemp("npm") / "clients", "memjs", "memcached")


@pytest.fixture(scope="module")
def site_packages(tmp_path_factory):
    """A folder in which emcache is installed."""
    folder = tmp_path_factory.mktemp("pip")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", folder]
    done = subprocess.run([*pip, "emcache"], capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        pytest.skip(f"pip did not install emcache: {done.stderr.strip().splitlines()[-1:]}")
    return folder


def conversation(target, *command, **variables):
    """The lines that `command` prints with the address and port of `target` as arguments."""
    address = (target.host, str(target.port))
    done = subprocess.run([*command, *address], env=os.environ | variables, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return done.stdout.splitlines()


def check_the_same(targets, least_answers, *command, **variables):
    alone, proxy = targets
    expected = conversation(alone, *command, **variables)
    assert len(expected) >= least_answers
    assert conversation(proxy, *command, **variables) == expected


def test_memjs(targets, node_modules):
    check_the_same(targets, 60, "node", CONVERSATIONS / "memjs.js", NODE_PATH=str(node_modules))


def test_npm_memcached(targets, node_modules):
    check_the_same(targets, 50, "node", "--no-deprecation", CONVERSATIONS / "memcached.js", NODE_PATH=str(node_modules))


def test_emcache(targets, site_packages):
    check_the_same(targets, 50, sys.executable, CONVERSATIONS / "emcache_client.py", PYTHONPATH=str(site_packages))
