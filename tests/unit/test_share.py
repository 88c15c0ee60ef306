"""A worker's part of the service, and the board on which workers note their clients."""

import os

import pytest

from gmproxy.errors import StartError
from gmproxy.share import MAX_POOLS, Board, Share


@pytest.mark.parametrize("total, workers, parts", [
    (20, 1, [20]), (20, 2, [10, 10]), (20, 3, [7, 7, 6]), (1, 3, [1, 1, 1]), (2, 3, [1, 1, 1]), (4, 3, [2, 1, 1]),
])
def test_a_part(total, workers, parts):
    assert [Share(number, workers).part_of(total) for number in range(workers)] == parts


def test_the_sum_of_all_workers():
    board = Board(3)
    board.assign(["one", "two"])
    for number in range(3):
        board.note(number, "one", 10 + number)
        board.note(number, "two", 1)
    assert (board.clients("one"), board.clients("two")) == (33, 3)
    board.wipe(1)
    assert (board.clients("one"), board.clients("two")) == (22, 2)


def test_pools_come_and_go():
    board = Board(2)
    board.assign(["one", "two"])
    board.note(0, "one", 5)
    board.note(0, "two", 7)
    board.assign(["two", "three"])
    assert (board.clients("one"), board.clients("two"), board.clients("three")) == (0, 7, 0)
    board.note(1, "one", 3)  # its last clients
    assert (board.clients("two"), board.clients("three")) == (7, 0)


def test_who_is_ahead_of_the_others():
    board = Board(2)
    board.assign(["one", "two"])
    assert not board.is_ahead(0)
    board.note(0, "one", 2)
    assert not board.is_ahead(0)
    board.note(0, "two", 1)
    assert board.is_ahead(0) and not board.is_ahead(1)
    board.note(1, "one", 1)
    assert not board.is_ahead(0)


def test_children_share_it():
    board = Board(2)
    board.assign([""])
    pid = os.fork()
    if not pid:
        board.note(1, "", 9)
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.clients("") == 9


def test_as_many_pools_as_there_are_rows():
    names = [str(number) for number in range(MAX_POOLS)]
    Board(2).assign(names)
    with pytest.raises(StartError, match="at most 4096"):
        Board(2).assign([*names, "one more"])
