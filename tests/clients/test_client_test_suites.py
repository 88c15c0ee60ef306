"""Test suites of other projects, run against one memcached and against the proxy over two: each test has the same outcome.

The suites come from PyPI, from the source distributions of the clients, and from npm. What has no such suite is in test_conversations.py.
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

#: Where the suites' servers listen: they take it for granted that the port is this one, so each has addresses of its own.
PORT = 11211
ADDRESSES = {
    "memcached": ("127.11.21.1", "127.11.21.3", "127.11.21.5"),
    "proxy": ("127.11.21.2", "127.11.21.4", "127.11.21.6"),
}

#: Seconds for a suite.
PATIENCE = 300


class OnPort(Memcached):
    """A memcached at PORT of `host` and of the `others`."""

    def __init__(self, host, *others):
        super().__init__("-p", str(PORT), *(word for other in others for word in ("-l", other)), host=host)
        self.port = PORT

    def talk(self):
        self.port = PORT
        return super().talk()


@pytest.fixture(scope="module")
def hosts():
    """{"memcached": its addresses, "proxy": those of the proxy}"""
    with ExitStack() as stack:
        stack.enter_context(OnPort(*ADDRESSES["memcached"]))
        servers = [stack.enter_context(Memcached()) for _ in range(2)]
        place = ["-l", ",".join(ADDRESSES["proxy"]), "-p", str(PORT)]
        first = ADDRESSES["proxy"][0]
        proxy = stack.enter_context(Proxy(*place, "-s", servers[0].address, "-s", servers[1].address, host=first, port=PORT))
        yield ADDRESSES
        assert "Traceback" not in proxy.log(), proxy.log()


def source_of(name, folder):
    """The unpacked source distribution of `name`, in its latest version on PyPI."""
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
    """{test: its outcome} of pytest with `arguments` in `folder`; `result`: a file for its report."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={result}", *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ | variables, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return outcomes_in(result)


def outcomes_in(result):
    """{test: its outcome} of a report in the XML of JUnit."""
    found = {}
    for case in ElementTree.parse(result).iter("testcase"):
        trouble = next((each.tag for each in case if each.tag in ("failure", "error", "skipped")), "passed")
        found[f"{case.get('classname')}::{case.get('name')}"] = trouble
    return found


def check_the_same(found, least_passed):
    assert sum(outcome == "passed" for outcome in found["memcached"].values()) >= least_passed
    assert found["proxy"] == found["memcached"]


def test_pymemcache(hosts, tmp_path):
    """Without cache_memlimit, which is for an administrator of one memcached, and ERROR here."""
    source = source_of("pymemcache", tmp_path)
    tests = source / "pymemcache" / "test" / "test_integration.py"
    text = tests.read_text()
    refused = "    success = client.cache_memlimit(50)\n    assert success\n"
    assert refused in text
    tests.write_text(text.replace(refused, ""))
    (source / "setup.cfg").unlink()  # its options for pytest ask for plugins
    (source / "pytest.ini").write_text("[pytest]\nmarkers =\n    unit\n    integration\n    benchmark\n")
    found = {}
    for target, (host, *_) in hosts.items():
        found[target] = outcomes(
            source,
            tmp_path / f"{target}.xml",
            *("-m", "integration", "-k", "not tls"),
            *("--server", host, "--port", str(PORT)),
            *("--ignore", "pymemcache/test/test_compression.py", "pymemcache/test"),  # that needs a package which makes names up
        )
    check_the_same(found, 30)


def test_python_binary_memcached(hosts, tmp_path):
    """Without the tests of SASL, TLS and several servers. Others talk over a unix socket at a fixed place: here over TCP."""
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
    """Replace in `file` each key of `replaced` by its value; each must be there."""
    text = file.read_text()
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)


def test_npm_memcached(hosts, tmp_path):
    """Without the tests of addresses where nobody listens, and without one that measures to a hundredth of a second.

    Three servers, for the tests with several, are here three addresses of one. The test of `touch` gives the item time until it is
    touched, and then waits longer: memcached's clock goes in steps of a second.
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
