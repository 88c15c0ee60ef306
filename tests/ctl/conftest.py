"""gmproxyctl in this process, without an environment of its own."""

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
        """The one line with which a command ends that cannot do what it was asked."""
        assert (self.status, self.out) == (2, ""), self
        assert self.err.startswith("gmproxyctl: ") and self.err.count("\n") == 1, self.err
        return self.err


@pytest.fixture
def gmproxyctl(capsys, monkeypatch):
    """Call it with arguments: what the command said."""
    for name in os.environ:
        if name.startswith("GMPROXY_"):
            monkeypatch.delenv(name)

    def run(*arguments):
        status = ctl.main([str(argument) for argument in arguments])
        return Said(status, *capsys.readouterr())

    return run


@pytest.fixture
def route(gmproxyctl):
    return lambda *arguments: gmproxyctl("route", *arguments)
