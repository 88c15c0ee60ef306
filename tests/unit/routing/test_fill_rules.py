"""When a primary may be filled from its backup."""

import math

import pytest
from support.routes import KeepingServer

from gmproxy.routing import fill_rules
from gmproxy.routing.fill_rules import FLUSH_MARGIN, FillRules


class Pair:
    """A primary, its backup, and the rules of their pool. `clock` is the monotonic time of the rules."""

    def __init__(self, monkeypatch, **options):
        self.primary, self.backup = KeepingServer(1), KeepingServer(2, set_index=1)
        vars(self.primary.options).update(options)
        self.rules = FillRules(self.primary.options)
        self.clock = 1000.0
        monkeypatch.setattr(fill_rules, "monotonic", lambda: self.clock)
        for server in (self.primary, self.backup):
            server.connections[0] = object()

    def may_fill(self):
        return self.rules.may_fill(self.primary, [self.backup])

    def is_excluded(self):
        return self.rules.exclude(self.primary, [self.backup])


@pytest.fixture
def alone(monkeypatch):
    return Pair(monkeypatch)


@pytest.fixture
def several(monkeypatch):
    pair = Pair(monkeypatch, proxies="several", server_retry_timeout=30.0, timeout=1.0)
    pair.rules.note_reply(pair.primary, b"EN\r\n")
    return pair


def test_one_proxy_fills_from_the_start(alone):
    assert alone.may_fill() and not alone.rules.must_verify() and not alone.rules.must_probe(alone.primary)


def test_a_delayed_flush_suspends_fills_until_all_servers_have_executed_it(alone):
    assert not alone.rules.are_suspended(alone.primary) and alone.may_fill()
    alone.rules.flush_sent(10, alone.primary)
    alone.rules.flush_sent(5, alone.primary)  # the earlier one may still be pending on a server
    for alone.clock in (1000.0, 1009.0, 1010.0 + FLUSH_MARGIN - 0.1):
        assert alone.rules.are_suspended(alone.primary) and not alone.may_fill() and alone.is_excluded()
    alone.clock = 1010.0 + FLUSH_MARGIN + 0.01
    assert not alone.rules.are_suspended(alone.primary) and alone.may_fill()


def test_a_backup_that_was_restored_fills_no_sooner_than_the_other_proxies_have_restored_it(several):
    assert several.backup.health.restored_at == -math.inf and several.may_fill()
    several.backup.health.eject_by_hand(900.0)
    several.backup.health.release(900.0)
    several.backup.health.probe_succeeded(990.0)
    for several.clock in (990.0, 1020.9):
        assert several.is_excluded() and not several.may_fill()
    several.clock = 1021.0
    assert several.may_fill()


def test_one_proxy_knows_all_that_a_restored_backup_missed(alone):
    alone.backup.health.eject_by_hand(900.0)
    alone.backup.health.release(900.0)
    alone.backup.health.probe_succeeded(1000.0)
    assert alone.may_fill()


def test_a_primary_is_probed_once_for_each_connection(several):
    rules, primary = several.rules, several.primary
    assert not rules.must_probe(primary) and several.may_fill()
    primary.connections[0] = object()
    assert rules.must_probe(primary) and not several.may_fill() and not several.is_excluded()
    rules.note_reply(primary, b"ERROR\r\n")
    assert not rules.must_probe(primary) and several.is_excluded()
    primary.connections[0] = None
    assert rules.must_probe(primary) and not several.is_excluded(), "it may be another program next time"


@pytest.mark.parametrize("reply", [b"CLIENT_ERROR bad command line format\r\n", b"SERVER_ERROR out of memory\r\n"])
def test_other_errors_prove_nothing(several, reply):
    """A key may be too long in base64."""
    several.primary.connections[0] = object()
    several.rules.note_reply(several.primary, reply)
    assert several.rules.must_probe(several.primary)


def test_primary_and_backup_may_have_the_same_address(several):
    same = KeepingServer(1, set_index=1)
    same.connections[0] = object()
    several.rules.note_reply(same, b"ERROR\r\n")
    assert several.may_fill()


@pytest.mark.parametrize(
    "options, named", [({"backend_protocol": "binary"}, "text protocol"), ({"backup_writes": "off"}, "copies"), ({}, "memcached 1.6")]
)
def test_what_several_proxies_cannot_fill_is_logged_once(monkeypatch, caplog, options, named):
    pair = Pair(monkeypatch, proxies="several", **options)
    for _ in range(3):
        if not options:
            pair.rules.note_reply(pair.backup, b"ERROR\r\n")
        assert pair.is_excluded() and not pair.may_fill()
    (line,) = [record.getMessage() for record in caplog.records]
    label = pair.primary.label if options else pair.backup.label
    assert line.startswith(f"backend not filled server={label} detail='several proxies: fills need ") and named in line


def test_the_setting_takes_effect_at_a_reload(alone):
    alone.primary.options.proxies = "several"
    assert alone.rules.must_verify() and not alone.may_fill()
