"""The servers of a key, one in each set."""

import pytest
from support.routes import KeepingServer

from gmproxy.placement.locators import Buckets
from gmproxy.routing.sets import Copies, ServerSet


def server_set(index, *ports):
    """A set whose server of a key is chosen by the last byte of the key; in each set another one."""
    servers = [KeepingServer(port, set_index=index) for port in ports]
    return ServerSet(index, f"replica{index}", "", servers, Buckets(list(range(len(servers))), lambda key: key[-1] + index))


@pytest.fixture
def sets():
    return [server_set(1, 11, 12), server_set(2, 21, 22, 23)]


@pytest.mark.parametrize("key", [b"k0", b"k1", b"k2"])
def test_a_key_has_one_server_in_each_set(sets, key):
    first, second = Copies(sets).of(key)
    assert (first, second) == (sets[0].server_of(key), sets[1].server_of(key))
    assert (first.set_index, second.set_index) == (1, 2)


@pytest.mark.parametrize("key", [b"k0", b"k1", b"k2"])
def test_with_one_set_the_lists_are_made_once(sets, key):
    copies = Copies(sets[:1])
    assert copies.of(key) == [sets[0].server_of(key)]
    assert copies.of(key) is copies.of(key)


def test_a_new_set_is_enabled(sets):
    assert sets[0].enabled and sets[0].name == "replica1"
