"""Several answers become one, in both builds the same."""

import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmproxy import accel
from gmproxy.protocol import blocks as in_python

MODULES = [in_python]
if accel.COMPILED:
    MODULES.append(importlib.import_module("gmproxy._c.blocks"))

each_build = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)


def block(key, data=b"x"):
    return b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(data), data)


def merged(module, order, answers):
    """`answers`: for each server a list with, for each of its keys, its VALUE block or None."""
    replies, notes = [], []
    for answer in answers:
        note = module.Blocks(len(answer))
        reply = b""
        for place, value in enumerate(answer):
            if value is not None:
                reply += value
                note.add(place, len(reply))
        replies.append(reply + b"END\r\n")
        notes.append(note)
    return module.merge(order, replies, notes)


@each_build
@pytest.mark.parametrize("order, answers, answer", [
    ([], [], b""),
    ([0], [[block(b"a")]], block(b"a")),
    ([0, 1], [[block(b"a")], [block(b"b")]], block(b"a") + block(b"b")),
    ([1, 0], [[block(b"a")], [block(b"b")]], block(b"b") + block(b"a")),
    ([0, 1, 0], [[block(b"a"), block(b"c")], [block(b"b")]], block(b"a") + block(b"b") + block(b"c")),
    ([0, 1, 0], [[block(b"a"), block(b"c")], [None]], block(b"a") + block(b"c")),
    ([0, 1, 0], [[None, block(b"c")], [block(b"b")]], block(b"b") + block(b"c")),
    ([0, 1, 0], [[None, None], [None]], b""),
    ([0, 0, 1], [[block(b"a", b"END\r\n"), None], [block(b"b", b"")]], block(b"a", b"END\r\n") + block(b"b", b"")),
])
def test_values_come_in_the_order_asked(module, order, answers, answer):
    assert merged(module, order, answers) == answer + b"END\r\n"


@each_build
@given(data=st.data())
def test_no_value_is_lost(module, data):
    servers = data.draw(st.integers(1, 5))
    order = data.draw(st.lists(st.integers(0, servers - 1), max_size=60))
    answers = [[] for _ in range(servers)]
    wanted = b""
    for number, server in enumerate(order):
        value = data.draw(st.none() | st.binary(max_size=9).map(lambda content: block(b"%d" % number, content)))
        answers[server].append(value)
        wanted += value or b""
    assert merged(module, order, answers) == wanted + b"END\r\n"
