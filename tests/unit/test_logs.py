"""Where the log goes."""

import logging
from logging.handlers import SysLogHandler
from types import SimpleNamespace

import pytest

from gmproxy import logs
from gmproxy.errors import StartError

log = logging.getLogger("gmproxy")


@pytest.fixture(autouse=True)
def as_before():
    """The log of the other tests is left as it was."""
    handlers, propagate, level = log.handlers[:], log.propagate, log.level
    yield
    for handler in log.handlers:
        handler.close()
    log.handlers[:], log.propagate, log.level = handlers, propagate, level


def config(log_file="", verbose=False):
    return SimpleNamespace(log_file=log_file, verbose=verbose)


def test_a_file(tmp_path):
    path = tmp_path / "log"
    logs.set_up(config(str(path)), in_background=True)
    log.info("one event")
    log.debug("not told")
    (line,) = path.read_text().splitlines()
    assert line.endswith(" INFO one event")


def test_verbose(tmp_path):
    path = tmp_path / "log"
    logs.set_up(config(str(path), verbose=True), in_background=False)
    log.debug("told")
    assert path.read_text().endswith(" DEBUG told\n")


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(StartError, match="cannot write log file .*: No such file or directory"):
        logs.set_up(config(str(tmp_path / "no" / "log")), in_background=False)


def test_in_the_foreground_stderr(capsys):
    logs.set_up(config(), in_background=False)
    log.warning("look")
    assert capsys.readouterr().err.endswith(" WARNING look\n")


@pytest.mark.parametrize("there, handler", [(True, SysLogHandler), (False, logging.NullHandler)])
def test_in_the_background_syslog_if_there_is_one(monkeypatch, tmp_path, there, handler):
    path = tmp_path / "syslog"
    if there:
        import socket
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(str(path))
    monkeypatch.setattr(logs, "SYSLOG_SOCKET", str(path))
    logs.set_up(config(), in_background=True)
    (used,) = log.handlers
    assert isinstance(used, handler)
    if there:
        log.info("one event")
        assert listener.recv(1000).startswith(b"<30>gmproxy[")
        listener.close()


def test_set_up_again_replaces_the_handler(tmp_path):
    logs.set_up(config(str(tmp_path / "one")), in_background=True)
    logs.set_up(config(str(tmp_path / "two")), in_background=True)
    log.info("x")
    assert ((tmp_path / "one").read_text(), len(log.handlers)) == ("", 1)
