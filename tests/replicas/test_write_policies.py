"""`write`: for how many servers a client waits, and what it is replied when they are too few."""

import re
import threading

import pytest
from support.columns import Stage
from support.scripted import expect, wait_for
from support.talk import storage, value

from replicas.cells import ERROR
from replicas.sets import REPLICAS, Sets

SET = storage(b"set", b"k", b"hello")
ADD = storage(b"add", b"k", b"hello")
STORED = b"STORED\r\n"

#: {write: (the number of sets that may be down, one less than too many)}
POLICIES = {"main": 2, "majority": 1, "all": 0}


# -- how long a client waits


#: The two in which a client waits for copies are the most important ones.
PARAMETERS = ["majority", "all", pytest.param("main", marks=pytest.mark.long)]


@pytest.fixture(scope="module", params=["majority", *(pytest.param(write, marks=pytest.mark.long) for write in ("main", "all"))])
def stage(request):
    with Stage("--write", request.param, "--on-miss", "never", replicas=REPLICAS) as stage:
        stage.write = request.param
        yield stage


#: The order in which the servers reply, main is 0; {write: how many of these replies the client waits for}.
ORDERS = {
    (0, 1, 2): {"main": 1, "majority": 2, "all": 3},
    (0, 2, 1): {"main": 1, "majority": 2, "all": 3},
    (1, 0, 2): {"main": 2, "majority": 2, "all": 3},
    (2, 1, 0): {"main": 3, "majority": 3, "all": 3},
}

#: An add is sent to the others once the main set has stored it.
ORDERED = [("set", (0, 1, 2)), ("set", (2, 1, 0)), ("add", (0, 1, 2))]
ORDERED += [
    pytest.param(verb, order, marks=pytest.mark.long) for verb, order in [("set", (0, 2, 1)), ("set", (1, 0, 2)), ("add", (0, 2, 1))]
]


@pytest.mark.parametrize("verb, order", ORDERED, ids=lambda value: "".join(map(str, value)))
def test_a_client_waits_for_the_main_set_and_for_the_others_that_it_needs(stage, talk, verb, order):
    asks, waits = (SET if verb == "set" else ADD), ORDERS[order][stage.write]
    may_reply = [threading.Event() for _ in range(1 + REPLICAS)]
    requests = [asks] + [SET] * REPLICAS
    stage.set(*([[expect(request), wait_for(event), STORED]] for request, event in zip(requests, may_reply)))
    talk.send(asks)
    for number, server in enumerate(order, 1):
        assert number > waits or talk.silent(), f"a reply before reply {waits}"
        may_reply[server].set()
        if number == waits:
            talk.expect_answer(STORED)


@pytest.fixture
def talk(stage):
    with stage.proxy.talk() as talk:
        yield talk
        talk.in_step()
    stage.check()


def test_a_read_behind_a_write_in_the_same_packet_is_sent_to_the_main_set(stage, talk):
    """The replicas may not have made the write."""
    go_on = threading.Event()
    found = value(b"k", b"hello") + b"END\r\n"
    slow = [[expect(SET), wait_for(go_on), STORED]]
    stage.set([[expect(SET), STORED, expect(b"get k\r\n"), found]], slow, slow)
    talk.send(SET + b"get k\r\n")
    stage.backends[0].wait_until_seen(SET)
    go_on.set()
    talk.expect_answer(STORED + found)


# -- too few servers


@pytest.fixture(scope="module", params=PARAMETERS)
def sets(request):
    with Sets("--write", request.param) as sets:
        sets.write = request.param
        yield sets


@pytest.fixture(scope="module", params=POLICIES)
def ejecting_sets(request):
    with Sets("--write", request.param, ejects=True) as sets:
        sets.write = request.param
        yield sets


WRITES = {
    "set": (b"set %b 0 0 1\r\n7\r\n", STORED, b"7"),
    "ms": (b"ms %b 1\r\n7\r\n", b"HD\r\n", b"7"),
    "replace": (b"replace %b 0 0 1\r\n7\r\n", STORED, b"7"),
    "incr": (b"incr %b 1\r\n", b"6\r\n", b"6"),
    "append": (b"append %b 0 0 1\r\n7\r\n", STORED, b"57"),
    "delete": (b"delete %b\r\n", b"DELETED\r\n", None),
}

DOWN = [(), (0,), (1,), pytest.param((2,), marks=pytest.mark.long), (0, 1), pytest.param((1, 2), marks=pytest.mark.long), (0, 1, 2)]


def check_acknowledgements(sets, down, ejected):
    tolerated = POLICIES[sets.write]
    for name in WRITES:
        for index in range(len(sets.nodes)):
            sets.put(index, name.encode())
    sets.refuse(down, ejected)
    for name, (request, reply, data) in WRITES.items():
        key = name.encode()
        replied = sets.ask(request % key)
        if len(down) <= tolerated:
            assert replied == reply, name
        else:
            found = re.fullmatch(rb"SERVER_ERROR (connecting|closed|reset|ejected) (\S+)\r\n", replied)
            assert found and found[2].decode() in [sets.nodes[index].address for index in down], (name, replied)
        if sets.up:
            assert sets.held(sets.acting_main, key) == data, f"{name} is not undone"
            assert sets.ask(b"mg %b v\r\n" % key) == (b"VA %d\r\n%b\r\n" % (len(data), data) if data else b"EN\r\n")
    sets.pass_on()
    for index in down:
        assert [sets.held(index, name.encode()) for name in WRITES] == [None] * len(WRITES)


@pytest.mark.parametrize("down", DOWN, ids=str)
def test_too_few_servers(sets, down):
    check_acknowledgements(sets, down, False)


@pytest.mark.long  # many ejections
@pytest.mark.parametrize("down", DOWN[1:], ids=str)
def test_too_few_servers_that_are_ejected(ejecting_sets, down):
    check_acknowledgements(ejecting_sets, down, True)


def test_write_without_a_reply_is_made_where_it_can_be(sets):
    """No error is sent to a client that wants no reply; to one that sent q, errors are."""
    for index in range(len(sets.nodes)):
        sets.put(index, b"quiet", None)
    sets.refuse((1, 2))
    assert sets.ask(b"set quiet 0 0 1 noreply\r\n7\r\n") == b""
    assert sets.held(0, b"quiet") == b"7"
    replied = sets.ask(b"ms quiet 1 q\r\n8\r\n")
    assert replied.startswith(ERROR) if POLICIES[sets.write] < 2 else replied == b"", replied
    assert sets.held(0, b"quiet") == b"8"
    sets.pass_on()
