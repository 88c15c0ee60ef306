"""Test suites of other projects, run with one memcached and with the proxy over two servers: each test has the same outcome.

The suites are part of the clients' source distributions on PyPI, or come from npm. Clients without a suite are in test_conversations.py.
"""

import os
import subprocess
import sys
import tarfile
from contextlib import ExitStack
from xml.etree import ElementTree

import pytest
from support import npm
from support.servers import Memcached, Proxy

pytestmark = pytest.mark.long

#: The suites require this port, so memcached and the proxy listen on different addresses.
PORT = 11211
ADDRESSES = {
    "memcached": ("127.11.21.1", "127.11.21.3", "127.11.21.5"),
    "proxy": ("127.11.21.2", "127.11.21.4", "127.11.21.6"),
}

#: Timeout of a suite, seconds.
PATIENCE = 300


class OnPort(Memcached):
    """A memcached that listens on PORT of `host` and `others`."""

    def __init__(self, host, *others):
        super().__init__("-p", str(PORT), *(word for other in others for word in ("-l", other)), host=host)
        self.port = PORT

    def talk(self):
        self.port = PORT
        return super().talk()


@pytest.fixture(scope="module")
def hosts():
    """{"memcached": its addresses, "proxy": its addresses}"""
    with ExitStack() as stack:
        stack.enter_context(OnPort(*ADDRESSES["memcached"]))
        servers = [stack.enter_context(Memcached()) for _ in range(2)]
        place = ["-l", ",".join(ADDRESSES["proxy"]), "-p", str(PORT)]
        first = ADDRESSES["proxy"][0]
        proxy = stack.enter_context(Proxy(*place, "-s", servers[0].address, "-s", servers[1].address, host=first, port=PORT))
        yield ADDRESSES
        assert "Traceback" not in proxy.log(), proxy.log()


def source_of(name, folder):
    """The folder of the unpacked source distribution of `name`, in its latest version on PyPI."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
    got = subprocess.run([*pip, "--dest", folder, name], capture_output=True, text=True, timeout=PATIENCE)
    if got.returncode:
        pytest.skip(f"the source distribution of {name} cannot be had: {got.stderr.strip().splitlines()[-1:]}")
    (archive,) = folder.glob("*.tar.gz")
    return unpacked(archive, folder)


def unpacked(archive, folder):
    with tarfile.open(archive) as tar:
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (inner,) = (path for path in folder.iterdir() if path.is_dir())
    return inner


def outcomes(folder, result, *arguments, **variables):
    """Run pytest with `arguments` in `folder`. Returns {test: its outcome}; `result` is the file for its report."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={result}", *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ | variables, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return outcomes_in(result)


def outcomes_in(result):
    """{test: its outcome} of a JUnit XML report."""
    found = {}
    for case in ElementTree.parse(result).iter("testcase"):
        trouble = next((each.tag for each in case if each.tag in ("failure", "error", "skipped")), "passed")
        found[f"{case.get('classname')}::{case.get('name')}"] = trouble
    return found


def check_the_same(found, least_passed):
    assert sum(outcome == "passed" for outcome in found["memcached"].values()) >= least_passed
    assert found["proxy"] == found["memcached"]


def test_pymemcache(hosts, tmp_path):
    """Without cache_memlimit, which administers one memcached: gmproxy replies ERROR."""
    source = source_of("pymemcache", tmp_path)
    tests = source / "pymemcache" / "test" / "test_integration.py"
    text = tests.read_text()
    refused = "    success = client.cache_memlimit(50)\n    assert success\n"
    assert refused in text
    tests.write_text(text.replace(refused, ""))
    (source / "setup.cfg").unlink()  # its pytest options need plugins
    (source / "pytest.ini").write_text("[pytest]\nmarkers =\n    unit\n    integration\n    benchmark\n")
    found = {}
    for target, (host, *_) in hosts.items():
        found[target] = outcomes(
            source,
            tmp_path / f"{target}.xml",
            *("-m", "integration", "-k", "not tls"),
            *("--server", host, "--port", str(PORT)),
            *("--ignore", "pymemcache/test/test_compression.py", "pymemcache/test"),  # needs another package
        )
    check_the_same(found, 30)


def test_python_binary_memcached(hosts, tmp_path):
    """Without the tests of SASL, TLS and several servers. Tests that use a unix socket with a fixed path use TCP instead."""
    source = source_of("python-binary-memcached", tmp_path)
    left_out = ("sasl_integration", "tls", "socket", "ipv6", "distributed_client_hashing")
    found = {}
    for target, (host, *_) in hosts.items():
        tests = tmp_path / target
        tests.mkdir()
        for file in source.glob("test/test_*.py"):
            if file.stem.removeprefix("test_") not in left_out:
                (tests / file.name).write_text(file.read_text().replace("/tmp/memcached.sock", f"{host}:{PORT}"))
        found[target] = outcomes(tests, tmp_path / f"{target}.xml", str(tests), MEMCACHED_HOST=host)
    check_the_same(found, 30)


def replace(file, replaced):
    """Replace each key of `replaced` in `file` by its value. The file must contain each key."""
    text = file.read_text()
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)


def test_npm_memcached(hosts, tmp_path):
    """Without the tests of addresses without a server, and without one that measures hundredths of a second.

    For the tests with three servers, each target has three addresses. The test of `touch` is changed: the item lives longer before the touch, and the
    test waits longer after it, because memcached's clock has steps of one second.
    """
    modules = npm.install(tmp_path / "npm", "memcached", "mocha@10", "should@13")
    tests = modules / "memcached" / "test"
    second, third = "process.env.SECOND_HOST + ':11211'", "process.env.THIRD_HOST + ':11211'"
    replace(tests / "common.js", {"testMemcachedHost + ':11212'": second, "testMemcachedHost + ':11213'": third})
    first = {"'127.0.0.1'": "process.env.MEMCACHED__HOST", "'127.0.0.1:11211'": "process.env.MEMCACHED__HOST + ':11211'"}
    replace(tests / "memcached-connections.test.js", first)
    replace(tests / "memcached-touch.test.js", {"message, 1, function": "message, 100, function", "1100)": "3000)"})
    left_out = "callback only once|remove a failed server|properly schedule|reset failures|connection timeout|when idle"
    mocha = [modules / ".bin" / "mocha", "--exit", "--require", "should", "--timeout", "30000", "--grep", left_out, "--invert"]
    found = {}
    for target, addresses in hosts.items():
        result = tmp_path / f"{target}.xml"
        report = ["--reporter", "xunit", "--reporter-option", f"output={result}"]
        variables = dict(zip(("MEMCACHED__HOST", "SECOND_HOST", "THIRD_HOST"), addresses, strict=True))
        command = [*mocha, *report, *sorted(tests.glob("*.test.js"))]
        done = subprocess.run(
            command, cwd=modules / "memcached", env=os.environ | variables, capture_output=True, text=True, timeout=PATIENCE
        )
        assert result.exists(), done.stdout + done.stderr
        found[target] = outcomes_in(result)
    check_the_same(found, 30)
