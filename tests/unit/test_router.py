"""Where things go when the ring has changed while they were under way: a router over real backends whose links never open."""

import functools
import logging
from types import SimpleNamespace

import pytest

from gmproxy.backend.backend import Backend
from gmproxy.config import configuration
from gmproxy.protocol import request as message
from gmproxy.protocol.commands import COMMANDS
from gmproxy.protocol.request import Request
from gmproxy.routing.router import Router

NOW = 1000.0


class Client(message.ReplySink):
    def __init__(self):
        self.heard = []

    def on_reply(self, request):
        self.heard.append(request.reply)


class Ring:
    """Two primaries, one backup, auto_eject_hosts. `home` and `other` are the primaries, as `key` sees them."""

    key = b"k"

    def __init__(self):
        self.client = Client()
        (options,), _ = configuration.parse(["-s", "127.0.0.1:1", "-s", "127.0.0.1:2", "-b", "127.0.0.1:3", "--auto-eject-hosts"], {})
        options = SimpleNamespace(**vars(options), lanes=1)
        self.router = Router(options)
        primaries = [Backend(server, options, self.router, logging.getLogger("test"), True) for server in options.server]
        (self.backup,) = [Backend(server, options, self.router, logging.getLogger("test")) for server in options.backup]
        place = functools.partial(configuration.placement_for, options, options.server)
        self.router.serve(primaries, place, [self.backup], configuration.placement_for(options, options.backup).locator)
        self.home = self.router.primary_of(self.key)
        (self.other,) = [backend for backend in primaries if backend is not self.home]

    def eject(self, backend):
        backend.health.failed(NOW, backend.options.server_failure_limit)
        backend.ejected("timeout")

    def restore(self, backend):
        backend.health.probe_succeeded(NOW)
        backend.restored()

    def request(self, line):
        request = Request(COMMANDS[line.split()[0]], self.key, line)
        request.sink = self.client
        return request


def waiting(backend):
    return [request.line for link in backend.connections if link is not None for request in link.waiting]


@pytest.fixture
def ring():
    return Ring()


def test_while_it_is_ejected_another_has_its_keys(ring):
    ring.eject(ring.home)
    assert ring.router.primary_of(ring.key) is ring.other
    ring.router.route(ring.request(b"set k 0 0 1\r\nx\r\n"))
    assert ring.key in ring.home.invalidations and ring.key in ring.other.guests
    ring.restore(ring.home)
    assert ring.router.primary_of(ring.key) is ring.home
    assert ring.key in ring.other.invalidations and not ring.other.guests and ring.router.detour is None


@pytest.mark.parametrize("away", [False, True])
def test_who_lost_a_key_is_not_filled_with_it(ring, away):
    """The question was asked when the key was looked for there."""
    if away:
        ring.eject(ring.home)
    loser, finder = (ring.home, ring.other) if away else (ring.other, ring.home)
    for backend in (loser, finder):
        ring.router.fill(ring.request(b"add k 0 0 1\r\nx\r\n"), backend)
    assert (loser.counters.fills, finder.counters.fills, waiting(loser), waiting(finder)) == (0, 1, [], [b"add k 0 0 1\r\nx\r\n"])
    assert (ring.key in finder.guests) == away


def test_what_is_being_fetched_when_the_ring_changes_is_not_filled(ring):
    ring.eject(ring.home)
    ring.router.route(ring.request(b"incr k 1\r\n"))
    assert list(ring.other.fetches) == [ring.key] and waiting(ring.backup) == [b"mg k f t v\r\n"]
    ring.restore(ring.home)
    assert not ring.other.fetches


def test_a_change_that_waited_for_its_key_goes_to_who_has_it_then(ring):
    ring.eject(ring.home)
    change = ring.request(b"incr k 1\r\n")
    ring.router.route(change)
    assert ring.router.unready == 1 and waiting(ring.other) == []
    ring.restore(ring.home)
    question = ring.backup.connections[0].waiting[0]
    question.reply = b"EN\r\n"
    question.sink.on_reply(question)
    assert ring.router.unready == 0
    assert (waiting(ring.home), waiting(ring.other)) == ([b"incr k 1\r\n"], [])


def test_a_change_under_way_when_the_ring_changes_is_noted_when_it_is_answered(ring):
    ring.eject(ring.home)
    ring.router.route(ring.request(b"set k 0 0 1\r\nx\r\n"))
    change = ring.other.connections[0].waiting[0]
    ring.restore(ring.home)
    ring.other.invalidations.clear()  # it was told to forget the key, before it knew it
    change.reply = b"STORED\r\n"
    ring.other.request_answered(change, 0)
    assert ring.key in ring.other.invalidations
    assert ring.client.heard == [b"STORED\r\n"]


def test_what_is_noted_is_no_longer_being_fetched(ring):
    ring.router.route(ring.request(b"incr k 1\r\n"))
    assert ring.home.fetches
    ring.home.missed_key(ring.key)
    assert not ring.home.fetches
