"""The load generator reports which replies of a server are right and which are wrong, in each protocol."""

import json
import shutil
import subprocess

import pytest
from load import SOURCE
from support.timing import PATIENCE, PROGRAM_TIMEOUT

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="the load generator is written in C")

PROTOCOLS = ("text", "meta", "binary")
ERRORS, USAGE = 1, 2  # exit statuses


@pytest.fixture(scope="module")
def loadgen(tmp_path_factory):
    """Runs the load generator to its end. Returns its exit status, the figures, and its stderr."""
    program = tmp_path_factory.mktemp("loadgen") / "loadgen"
    subprocess.run(["gcc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, SOURCE], check=True, timeout=PROGRAM_TIMEOUT)

    def run(server, options):
        command = [program, "--port", str(server.port), "--verify", *options.split()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr

    return run


@pytest.mark.parametrize("load", ["--clients 5", "--pipeline 16", "--value-size 10", "--value-size 100000 --keys 20"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_values_go_through_the_proxy_and_come_back(protocol, load, loadgen, proxy, memcached):
    through = proxy("-s", memcached().address)
    status, figures, _ = loadgen(through, f"--protocol {protocol} --preload --ops 500 {load}")
    assert status == 0
    assert (figures["ops"], figures["errors"], figures["misses"]) == (500, 0, 0)


def test_a_connection_for_each_batch(loadgen, memcached):
    server = memcached()
    before = server.stats()["total_connections"]
    status, figures, _ = loadgen(server, "--clients 5 --pipeline 2 --reconnect --ops 100")
    assert (status, figures["ops"], figures["errors"]) == (0, 100, 0)
    assert server.stats()["total_connections"] - before == 50 + 1  # the last one is that of stats()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_one_protocol_stored_the_others_read(protocol, loadgen, proxy, memcached):
    through = proxy("-s", memcached().address)
    loadgen(through, f"--protocol {protocol} --preload --ops 0 --keys 100")
    for other in PROTOCOLS:
        status, figures, _ = loadgen(through, f"--protocol {other} --get-only --ops 300 --keys 100")
        assert (status, figures["misses"]) == (0, 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_value_of_another_size_is_an_error(protocol, loadgen, memcached):
    server = memcached()
    loadgen(server, "--preload --ops 0 --keys 100 --value-size 50")
    status, figures, said = loadgen(server, f"--protocol {protocol} --get-only --ops 200 --keys 100 --value-size 51")
    assert (status, figures["errors"]) == (ERRORS, 200)
    assert "wrong head of a value" in said


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_value_of_another_key_is_an_error(protocol, loadgen, memcached):
    server = memcached()
    loadgen(server, "--preload --ops 0 --keys 1 --value-size 10")
    with server.talk() as client:
        client.expect(b"set bench-00000000 0 0 10\r\n" + b"10000000-h\r\n", b"STORED\r\n")
    status, figures, said = loadgen(server, f"--protocol {protocol} --get-only --ops 20 --keys 1 --value-size 10")
    assert (status, figures["errors"]) == (ERRORS, 20)
    assert "wrong content of" in said


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_misses_are_counted_and_no_error(protocol, loadgen, memcached):
    server = memcached()
    loadgen(server, "--preload --ops 0 --keys 100")
    status, figures, _ = loadgen(server, f"--protocol {protocol} --get-only --ops 300 --keys 100 --first-key 100")
    assert (status, figures["misses"], figures["errors"]) == (0, 300, 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_error_of_the_server_is_counted(protocol, loadgen, memcached):
    status, figures, said = loadgen(memcached(), f"--protocol {protocol} --gets-per-set 0 --ops 5 --keys 5 --value-size 2000000")
    assert (status, figures["errors"]) == (ERRORS, 5)
    assert "first error" in said


@pytest.mark.parametrize("options", ["--protocol gopher", "--protocol meta --keys-per-get 2", "--value-size 4", "--ops x"])
def test_what_cannot_be_asked_for_is_refused(options, loadgen, memcached):
    status, _, said = loadgen(memcached(), options)
    assert status == USAGE
    assert said.startswith("loadgen: ")
