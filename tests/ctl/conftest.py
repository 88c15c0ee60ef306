"""gmproxyctl in the process of the test, without the environment variables of gmproxy."""

import importlib.util
import os
from typing import NamedTuple

import pytest

from gmproxy import ctl


class Said(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def lines(self):
        return self.out.splitlines()

    @property
    def complaint(self):
        """The one line that a command with invalid arguments prints."""
        return self._only_line(2)

    @property
    def refusal(self):
        """The one line that a command prints if the service refuses it, or does not run."""
        return self._only_line(1)

    def _only_line(self, status):
        assert (self.status, self.out) == (status, ""), self
        assert self.err.startswith("gmproxyctl: ") and self.err.count("\n") == 1, self.err
        return self.err


@pytest.fixture
def gmproxyctl(capsys, monkeypatch):
    """Call it with arguments. Returns what the command printed."""
    for name in os.environ:
        if name.startswith("GMPROXY_") and name != "GMPROXY_PURE":
            monkeypatch.delenv(name)

    def run(*arguments):
        status = ctl.main([str(argument) for argument in arguments])
        return Said(status, *capsys.readouterr())

    return run


@pytest.fixture
def route(gmproxyctl):
    return lambda *arguments: gmproxyctl("route", *arguments)


@pytest.fixture
def service(proxy, memcached, tmp_path):
    """Call it with options for a running service with a control socket and two real servers. `servers` and `control` are attributes."""
    if importlib.util.find_spec("gmproxy.monitoring.report") is None:
        pytest.skip("this gmproxy measures nothing")

    def start(*options):
        servers = [memcached(), memcached()]
        options = [word for server in servers for word in ("-s", server.address)] + list(options)
        process = proxy(*options, "--control", tmp_path / "control")
        process.control = str(tmp_path / "control")
        process.servers = servers
        return process

    return start


@pytest.fixture
def ask(gmproxyctl):
    """ask(service, word, ...): what gmproxyctl printed about the service."""
    return lambda service, *words: gmproxyctl(*words, "--control", service.control)


@pytest.fixture
def replicated(service, memcached):
    """Call it with options for a service with two primaries and two replica sets of two servers. `sets`: the servers of each set."""

    def start(*options):
        replicas = [[memcached(), memcached()] for _ in range(2)]
        words = [word for servers in replicas for word in ("--replica", ",".join(server.address for server in servers))]
        running = service(*words, *options)
        running.sets = [running.servers, *replicas]
        return running

    return start
