"""The open files limit, and how many descriptors are left for clients."""

import resource

import pytest

from gmproxy.config import configuration
from gmproxy.system import descriptors


class Limits:
    """Replaces the open files limit."""

    def __init__(self, monkeypatch, soft, hard, root):
        self.now = (soft, hard)
        self.root = root
        monkeypatch.setattr(resource, "getrlimit", lambda what: self.now)
        monkeypatch.setattr(resource, "setrlimit", self.set)

    def set(self, what, limits):
        if limits[1] > self.now[1] and not self.root:
            raise ValueError("not allowed to raise maximum limit")
        assert limits[0] <= limits[1]
        self.now = limits


@pytest.mark.parametrize(
    "soft, hard, root, wanted, result",
    [
        (1024, 4096, False, 500, (1024, 4096)),
        (1024, 4096, False, 2000, (2000, 4096)),
        (1024, 4096, False, 9000, (4096, 4096)),
        (1024, 4096, True, 9000, (9000, 9000)),
    ],
)
def test_as_many_open_files_as_may_be(monkeypatch, soft, hard, root, wanted, result):
    limits = Limits(monkeypatch, soft, hard, root)
    assert descriptors.raise_limit(wanted) == result[0]
    assert limits.now == result


def configs(*arguments, servers=2):
    found, _ = configuration.parse([*arguments, *(word for number in range(servers) for word in ("-s", f"10.0.0.{number + 1}:11211"))], {})
    return found


def room(monkeypatch, limit, *arguments, servers=2, workers=1):
    Limits(monkeypatch, limit, limit, False)
    return descriptors.reserve(configs(*arguments, servers=servers), workers)


def test_links_listeners_and_the_rest_come_first(monkeypatch):
    fixed = (
        descriptors.OWN + descriptors.MAX_REJECTIONS + descriptors.ACCEPTED_AT_ONCE + descriptors.FOR_LISTENER + 2 * descriptors.FOR_SERVER
    )
    assert room(monkeypatch, 1024, "-i", "2") == (1024, fixed + 4 + 4096, 1024 - fixed - 4)
    assert room(monkeypatch, 1024, "-i", "20") == (1024, fixed + 40 + 4096, 1024 - fixed - 6), "three links are enough for so few"
    assert room(monkeypatch, 4096, "-i", "4").clients == 4096 - fixed - 8
    assert room(monkeypatch, 1024, "-i", "20", "-b", "10.0.0.9:11211").clients == 1024 - fixed - 3 - descriptors.FOR_SERVER
    assert room(monkeypatch, 1024, "-i", "20", "--replica", "10.0.1.1,10.0.1.2").clients == 1024 - fixed - 4 - 2 * descriptors.FOR_SERVER
    assert room(monkeypatch, 1024, "-i", "2", "--admin", "8211").clients < 1024 - fixed - 4 - descriptors.ADMIN_CONNECTIONS


def test_a_worker_has_its_part_of_the_links(monkeypatch):
    alone = room(monkeypatch, 4096, "-i", "6").clients
    assert room(monkeypatch, 4096, "-i", "6", workers=3).clients == alone + 2 * 4


def test_where_there_are_many_servers_a_few_clients_leave_most_links_closed(monkeypatch):
    """60 servers, 20 connections to each: all together would exceed the limit, but 700 clients use three of them."""
    found = room(monkeypatch, 1024, "-i", "20", servers=60)
    assert 2 * descriptors.CLIENTS_PER_CONNECTION > found.clients > 512
    assert found.clients + 3 * 60 < 1024 < found.wanted


@pytest.mark.parametrize("limit", [1, 64, 200])
def test_there_is_room_for_one(monkeypatch, limit):
    assert room(monkeypatch, limit, servers=100).clients == 1
