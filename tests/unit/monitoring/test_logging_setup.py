"""Where the log is written."""

import gc
import logging
import os
import socket
import weakref
from types import SimpleNamespace

import pytest
from support.timing import PATIENCE

from gmproxy.errors import StartError
from gmproxy.monitoring import logging_setup

log = logging.getLogger("gmproxy")


@pytest.fixture(autouse=True)
def as_before():
    """The log of the other tests is restored."""
    handlers, propagate, level = log.handlers[:], log.propagate, log.level
    yield
    for handler in log.handlers:
        handler.close()
    log.handlers[:], log.propagate, log.level = handlers, propagate, level


def config(log_file="", verbose=False):
    return SimpleNamespace(log_file=log_file, verbose=verbose, log_level="")


def test_a_file(tmp_path):
    path = tmp_path / "log"
    logging_setup.set_up(config(str(path)), in_background=True)
    log.info("one event")
    log.debug("not told")
    (line,) = path.read_text().splitlines()
    assert line.endswith(" INFO one event")


def test_verbose(tmp_path):
    path = tmp_path / "log"
    logging_setup.set_up(config(str(path), verbose=True), in_background=False)
    log.debug("told")
    assert path.read_text().endswith(" DEBUG told\n")


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(StartError, match="cannot write log file .*: No such file or directory"):
        logging_setup.set_up(config(str(tmp_path / "no" / "log")), in_background=False)


def test_in_the_foreground_stderr(capfd):
    logging_setup.set_up(config(), in_background=False)
    log.warning("look")
    assert capfd.readouterr().err.endswith(" WARNING look\n")


def test_in_the_background_syslog(monkeypatch, tmp_path):
    path = tmp_path / "syslog"
    monkeypatch.setattr(logging_setup, "SYSLOG_SOCKET", str(path))
    logging_setup.set_up(config(), in_background=True)
    log.info("nobody is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(PATIENCE)
        listener.bind(str(path))
        log.info("one event")
        assert listener.recv(1000).startswith(b"<28>gmproxy[%d]: log lines dropped count=1" % os.getpid())
        assert listener.recv(1000) == b"<30>gmproxy[%d]: one event\0" % os.getpid()


def test_lines_dropped_are_not_forgotten_when_the_log_is_opened_anew(monkeypatch, tmp_path):
    monkeypatch.setattr(logging_setup, "SYSLOG_SOCKET", str(tmp_path / "none"))
    logging_setup.set_up(config(), in_background=True)
    log.info("nobody is there")
    logging_setup.set_up(config(str(tmp_path / "log")), in_background=True)
    logging_setup.sum_up()
    logging_setup.sum_up()
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.endswith("WARNING log lines dropped count=1")
    logging_setup.set_up(config(), in_background=True)
    log.info("nobody is there")
    logging_setup.forget_dropped()  # in a child process: its parent has counted them
    logging_setup.set_up(config(str(tmp_path / "other")), in_background=True)
    logging_setup.sum_up()
    assert (tmp_path / "other").read_text() == ""


def test_set_up_again_replaces_the_handler(tmp_path):
    logging_setup.set_up(config(str(tmp_path / "one")), in_background=True)
    logging_setup.set_up(config(str(tmp_path / "two")), in_background=True)
    log.info("x")
    assert ((tmp_path / "one").read_text(), len(log.handlers)) == ("", 2)


def test_a_handler_that_was_replaced_is_gone_at_once(tmp_path):
    """A worker collects garbage after a hundred thousand objects: with two for each reload there would be megabytes of it by then."""
    logging_setup.set_up(config(str(tmp_path / "one")), in_background=True)
    replaced = weakref.ref(log.handlers[0])
    gc.disable()
    try:
        logging_setup.set_up(config(str(tmp_path / "two")), in_background=True)
        assert replaced() is None
    finally:
        gc.enable()


def test_the_number_of_the_worker(tmp_path):
    path = tmp_path / "log"
    logging_setup.set_up(config(str(path)), in_background=True, worker="3")
    log.info("one event key=%s", "value")
    assert path.read_text().endswith(" INFO one event key=value worker=3\n")


def test_a_file_that_cannot_be_opened_leaves_the_old_one(tmp_path):
    logging_setup.set_up(config(str(tmp_path / "log")), in_background=True)
    with pytest.raises(StartError):
        logging_setup.set_up(config(str(tmp_path / "no" / "log")), in_background=True)
    log.info("still here")
    assert "still here" in (tmp_path / "log").read_text()


# -- bursts


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Call it for the lines in the log, without date and time. `written.now` is the clock."""
    path = tmp_path / "log"
    logging_setup.set_up(config(str(path), verbose=True), in_background=True)
    handler, _ = log.handlers
    (bursts,) = handler.filters

    def read():
        return [line.split(" ", 2)[2] for line in path.read_text().splitlines()]

    read.now = 0.0
    monkeypatch.setattr(bursts, "_clock", lambda: read.now)
    return read


def test_a_burst_of_one_kind_is_summed_up(written):
    for number in range(logging_setup.BURST + 5):
        log.warning("failed server=%d", number)
        log.info("other")
    lines = written()
    assert len(lines) == 2 * logging_setup.BURST
    assert f"WARNING failed server={logging_setup.BURST - 1}" in lines
    logging_setup.sum_up()
    assert written() == lines  # the burst may continue
    written.now = logging_setup.WINDOW
    logging_setup.sum_up()
    assert written()[len(lines) :] == [f"WARNING failed server={logging_setup.BURST + 4} repeated=5", "INFO other repeated=5"]
    logging_setup.sum_up()
    assert len(written()) == len(lines) + 2
    log.warning("failed server=%d", 0)
    assert written()[-1] == "WARNING failed server=0"


def test_the_next_of_a_kind_has_the_burst_before_it_summed_up(written):
    for number in range(logging_setup.BURST + 1):
        log.warning("failed server=%d", number)
    written.now = logging_setup.WINDOW
    log.warning("failed server=%d", 7)
    assert written()[-2:] == [f"WARNING failed server={logging_setup.BURST} repeated=1", "WARNING failed server=7"]


def test_who_asks_for_all_gets_all(written):
    for _ in range(logging_setup.BURST + 5):
        log.debug("client connected")
    assert len(written()) == logging_setup.BURST + 5
