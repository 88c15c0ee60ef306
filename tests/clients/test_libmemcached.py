"""The tools of libmemcached, the library that clients of PHP, Perl, Ruby and Python (pylibmc) use."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.talk import storage
from support.timing import eventually

TIMEOUT = 60

#: memcslap may fail with this assertion of its own: with --buffer in front of memcached 1.6.18 it does so each time.
OWN_ASSERTION = "Assertion `instance->fd != INVALID_SOCKET' failed"
ATTEMPTS = 3


def run(tool, *arguments, status=0, folder=None):
    """Run `tool`, whose exit status must be `status`. Returns its stdout and stderr together."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed (libmemcached-tools)")
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            [path, *map(str, arguments)], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT
        )
        if OWN_ASSERTION not in done.stdout:
            break
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.fixture
def servers(shop):
    return f"--servers={shop.proxy.host}:{shop.proxy.port}"


@pytest.fixture
def file(tmp_path, key):
    """A file with the name `key` and binary contents."""
    path = tmp_path / key
    path.write_bytes(b"contents \0\r\nEND\r\n" * 1000)
    return path


def conformity(server, protocol):
    """{test: its result} of memccapable."""
    said = run("memccapable", "-h", server.host, "-p", server.port, protocol)
    return dict(line.rsplit(None, 1) for line in said.splitlines() if line.endswith("]"))


@pytest.mark.parametrize("protocol", ["-a", "-b"], ids=["ascii", "binary"])
def test_memccapable(shop, memcached, protocol):
    """The results are those of memcached. Both run at the same time, because memccapable sleeps for seconds."""
    with ThreadPoolExecutor(2) as both:
        ours, theirs = both.map(conformity, (shop.proxy, memcached()), (protocol, protocol))
    assert len(theirs) > 20
    assert ours == theirs


def test_memcping(servers):
    run("memcping", servers)


def test_memcstat(servers):
    said = run("memcstat", servers)
    assert "curr_connections" in said
    assert "version: 1.6." in said


@pytest.mark.parametrize("protocol", [[], ["--binary"]], ids=["ascii", "binary"])
def test_a_file_there_and_back(servers, file, protocol):
    run("memccp", servers, *protocol, file.name, folder=file.parent)
    run("memcexist", servers, *protocol, file.name)
    back = file.with_suffix(".back")
    run("memccat", servers, *protocol, f"--file={back}", file.name)
    assert back.read_bytes() == file.read_bytes()
    run("memctouch", servers, *protocol, "--expire=100", file.name)
    run("memcrm", servers, *protocol, file.name)
    run("memcexist", servers, *protocol, file.name, status=1)


def test_memcdump(shop, servers, key):
    """memcdump requests the keys of each slab class up to 255. Each key must be listed once."""
    if shop.backends == "binary":
        pytest.skip("servers of the binary protocol list no keys")
    with shop.proxy.talk() as talk:
        for number in range(20):
            talk.expect(storage(b"set", b"%b%d" % (key.encode(), number), b"x"), b"STORED\r\n")
    wanted = {f"{key}{number}" for number in range(20)}

    def listed():
        ours = [line for line in run("memcdump", servers).split() if line in wanted]
        assert len(ours) == len(set(ours)), sorted(ours)
        return len(ours) > 10  # memcached does not list the items that were used last

    eventually(listed, what="most of the keys")


def test_memcflush(servers, file):
    run("memccp", servers, file.name, folder=file.parent)
    run("memcflush", servers)
    run("memcexist", servers, file.name, status=1)


@pytest.mark.parametrize(
    "options",
    [
        ["--test=get"],
        ["--test=set"],
        ["--test=mget"],
        ["--test=set", "--noreply"],
        ["--test=set", "--buffer"],
        ["--test=get", "--non-blocking"],
        ["--test=get", "--binary"],
        ["--test=set", "--binary"],
        ["--test=mget", "--binary"],
    ],
)
def test_memcslap(shop, servers, options):
    said = run("memcslap", servers, *options, "--concurrency=8", "--execute-number=200", "--flush")
    assert "Time total" in said
    with shop.proxy.talk() as talk:
        talk.in_step()
