"""The shared memory in which each worker publishes its number of clients and the bytes that it holds for them."""

import os

import pytest
from support.timing import wait_for_child

from gmproxy.errors import StartError
from gmproxy.process.client_counts import MAX_POOLS, ClientCounts


def test_the_sum_of_all_workers():
    counts = ClientCounts(3)
    counts.assign_rows(["one", "two"])
    for number in range(3):
        counts.set_clients(number, "one", 10 + number)
        counts.set_clients(number, "two", 1)
    assert (counts.clients_of_pool("one"), counts.clients_of_pool("two")) == (33, 3)
    counts.clear_worker(1)
    assert (counts.clients_of_pool("one"), counts.clients_of_pool("two")) == (22, 2)


def test_pools_come_and_go():
    counts = ClientCounts(2)
    counts.assign_rows(["one", "two"])
    counts.set_clients(0, "one", 5)
    counts.set_clients(0, "two", 7)
    counts.assign_rows(["two", "three"])
    assert (counts.clients_of_pool("one"), counts.clients_of_pool("two"), counts.clients_of_pool("three")) == (0, 7, 0)
    counts.set_clients(1, "one", 3)  # its last clients
    assert (counts.clients_of_pool("two"), counts.clients_of_pool("three")) == (7, 0)


def test_who_is_ahead_of_the_others():
    counts = ClientCounts(2)
    counts.assign_rows(["one", "two"])
    assert not counts.has_most_clients(0)
    counts.set_clients(0, "one", 2)
    assert not counts.has_most_clients(0)
    counts.set_clients(0, "two", 1)
    assert counts.has_most_clients(0) and not counts.has_most_clients(1)
    counts.set_clients(1, "one", 1)
    assert not counts.has_most_clients(0)


def test_children_share_it():
    counts = ClientCounts(2)
    counts.assign_rows([""])
    pid = os.fork()
    if not pid:
        counts.set_clients(1, "", 9)
        os._exit(0)
    wait_for_child(pid)
    assert counts.clients_of_pool("") == 9


def test_as_many_pools_as_there_are_rows():
    names = [str(number) for number in range(MAX_POOLS)]
    ClientCounts(2).assign_rows(names)
    with pytest.raises(StartError, match="at most 4096"):
        ClientCounts(2).assign_rows([*names, "one more"])
