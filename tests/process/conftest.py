"""Fixtures of the tests of the program as an operator runs it."""

import pytest


@pytest.fixture
def service(memcached, proxy, tmp_path):
    """service(workers): a proxy over one server, with a control socket."""

    def start(workers):
        process = proxy("-s", memcached().address, "--workers", workers, "--control", tmp_path / "control")
        process.control = str(tmp_path / "control")
        return process

    return start
