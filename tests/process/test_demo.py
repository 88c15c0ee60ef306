"""gmproxy --demo: proxy, servers and backup with one command. After Ctrl-C nothing is left."""

import os
import re
import signal

import pytest
from support.servers import HOST, free_port
from support.talk import Talk, nobody_listens, storage, value
from support.timing import eventually

from gmproxy.compiled import BUILD

FOUND = value(b"key1", b"hello") + b"END\r\n"


def read_banner(process):
    """The ports in the banner: (proxy, servers, backup)."""
    banner = eventually(lambda: "Ctrl-C" in process.output() and process.output(), what="the banner")
    ports = {
        name: [int(port) for port in re.findall(rf"{HOST}:(\d+)", line)]
        for name, line in re.findall(r"^ +(proxy|servers|backup) +(.*)$", banner, re.MULTILINE)
    }
    return ports["proxy"][0], ports["servers"], ports["backup"][0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_demo(proxy, number):
    port = free_port()
    process = proxy("--demo", "-p", port, port=port)
    shown, servers, backup = read_banner(process)
    assert (shown, len(servers)) == (port, 2)
    assert re.search(rf"^ +build +{BUILD}$", process.output(), re.MULTILINE)
    with process.talk() as talk:
        talk.expect(storage(b"set", b"key1", b"hello"), b"STORED\r\n")
        talk.expect(b"get key1\r\n", FOUND)
        talk.in_step()
    with Talk(backup) as talk:
        eventually(lambda: talk.ask(b"get key1\r\n", b"END\r\n") == FOUND, what="the asynchronous copy on the backup")
    process.signal(number)
    assert process.wait() == 0
    assert all(map(nobody_listens, (port, *servers, backup)))


def test_what_the_banner_proposes_works(proxy):
    """A server is killed: its keys are read from the backup."""
    port = free_port()
    process = proxy("--demo", "-p", port, port=port)
    read_banner(process)
    with process.talk() as talk:
        keys = [b"key%d" % number for number in range(20)]
        for key in keys:
            talk.expect(storage(b"set", key, key), b"STORED\r\n")
        os.kill(int(re.search(r"kill (\d+)", process.output())[1]), signal.SIGTERM)
        for key in keys:
            talk.expect(b"get %b\r\n" % key, value(key, key) + b"END\r\n")
        talk.in_step()
    assert process.stop() == 0


def test_another_port_is_taken_and_said_if_ours_is_not_free(memcached, proxy):
    taken = memcached().port
    process = proxy("--demo", "-p", taken, port=taken)
    shown, _, _ = read_banner(process)
    assert shown != taken
    first = process.output().splitlines()[0]
    assert f"{HOST}:{taken}" in first and "already in use" in first and str(shown) in first
    with Talk(shown) as talk:
        talk.in_step()
    assert process.stop() == 0
