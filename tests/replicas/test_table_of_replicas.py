"""Every class of commands in every state of three sets: the reply, the memory of each server, and what those that could not be reached owe."""

import re

import pytest
from support.timing import eventually

from replicas.cells import ANY, ERROR, LIFE, TABLE
from replicas.sets import SET_OF_CAS, Sets

#: {state: the sets that cannot be reached, whether they are ejected}
STATES = {
    "all up": ((), False),
    "main down": ((0,), False),
    "main ejected": ((0,), True),
    "a replica down": ((1,), False),
    "a replica ejected": ((1,), True),
    "all down": ((0, 1, 2), False),
    "all ejected": ((0, 1, 2), True),
}

CELLS = [pytest.param(cell, id=f"{row}: {cell.name}") for row, cells in TABLE.items() for cell in cells]


LONG_STATES = ("a replica ejected", "all ejected")


@pytest.fixture(scope="module", params=[pytest.param(state, marks=[pytest.mark.long] * (state in LONG_STATES)) for state in STATES])
def sets(request):
    down, ejected = STATES[request.param]
    with Sets(ejects=ejected) as sets:
        sets.refuse(down, ejected)
        yield sets


@pytest.fixture(scope="module")
def unbroken():
    with Sets() as sets:
        yield sets


@pytest.fixture(scope="module")
def ejecting():
    with Sets(ejects=True) as sets:
        yield sets


@pytest.fixture
def whole(unbroken):
    """Sets that can all be reached at first, and again after the test."""
    yield unbroken
    unbroken.pass_on()


def facts_of(sets, cell):
    """What may stand in requests, replies and values."""
    main = sets.acting_main
    facts = {b"key": cell.key, b"set": b"%d" % (main or 0), b"cas": b"1", b"other": b"1", b"foreign": b"1"}
    if main is not None and cell.before is not None and re.search(rb"%\((cas|other|foreign)\)", cell.asks):
        number = sets.cas_of(cell.key)
        assert number >> SET_OF_CAS == main
        foreign = (main + 1) % len(sets.nodes)
        bare = number & (1 << SET_OF_CAS) - 1
        facts |= {b"cas": b"%d" % number, b"other": b"%d" % (number - 1), b"foreign": b"%d" % (bare | foreign << SET_OF_CAS)}
    return facts


def agrees(reply, expected, main):
    """True if `reply` is as `expected`, and each cas number in it is one of the set `main`."""
    found = re.fullmatch(re.escape(expected).replace(b"CAS", rb"(\d+)"), reply)
    return found is not None and all(int(number) >> SET_OF_CAS == main for number in found.groups())


def is_among(value, expected):
    return expected is ANY or value in (expected if isinstance(expected, tuple) else (expected,))


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell(sets, cell):
    before = {}
    for index in range(len(sets.nodes)):
        before[index] = cell.before % {b"set": b"%d" % index} if cell.before is not None else None
        sets.put(index, b"another", b"1")  # so that no two items have neighbouring numbers
        sets.put(index, cell.key, before[index], cell.life)
    facts, main = facts_of(sets, cell), sets.acting_main

    reply = sets.ask(cell.asks % facts)

    if main is None:
        assert reply.startswith(cell.at_end) and (cell.at_end == ERROR or cell.at_end in (b"", reply)), reply
    else:
        assert agrees(reply, cell.reply % facts, main), reply
        wanted = cell.main % facts if cell.main is not None else None
        eventually(lambda: sets.held(main, cell.key) == wanted, what=f"{wanted} on the acting main, not {sets.held(main, cell.key)}")
    for index in sets.up:
        if index != main:
            eventually(lambda: is_among(sets.held(index, cell.key), cell.others), what=f"set {index} as it should be")  # noqa: B023
        if cell.touched:
            eventually(lambda: LIFE - 100 < sets.life(index, cell.key) <= LIFE, what=f"set {index} is touched")  # noqa: B023
    for index in sets.down:
        assert sets.held(index, cell.key) == before[index], "it cannot have been reached"
        if cell.owed is True and (main is not None or cell.at_end != ERROR or not cell.touched):
            eventually(lambda: cell.key in sets.owed(index), what=f"set {index} owes the key")  # noqa: B023
    if cell.owed is False:
        assert not any(cell.key in sets.owed(index) for index in range(len(sets.nodes)))


def test_rows_and_states():
    assert len(TABLE) == 9
    names = [cell.name for cells in TABLE.values() for cell in cells]
    assert len(names) == len(set(names))


# -- what is owed


@pytest.mark.parametrize("down", [(0,), (1,), (0, 1), (0, 1, 2)], ids=str)
def test_what_was_missed_is_deleted_before_it_is_read(whole, down):
    requests = {b"a": b"set a 0 0 1\r\n7\r\n", b"b": b"delete b\r\n", b"c": b"incr c 1\r\n", b"d": b"append d 0 0 1\r\n7\r\n"}
    for index in range(len(whole.nodes)):
        for key in (*requests, b"untouched"):
            whole.put(index, key)
    whole.refuse(down)
    for request in requests.values():
        whole.ask(request)
    if whole.up:
        assert whole.ask(b"get a b c d\r\n") == b"VALUE a 0 1\r\n7\r\nVALUE c 0 1\r\n6\r\nVALUE d 0 2\r\n57\r\nEND\r\n"
    whole.pass_on()
    for index in down:
        assert [whole.held(index, key) for key in requests] == [None] * len(requests)
        assert whole.held(index, b"untouched") == b"5"


@pytest.mark.parametrize("ejected", [False, pytest.param(True, marks=pytest.mark.long)], ids=["not ejected", "ejected"])
@pytest.mark.parametrize("down", [(), (0,), (1,), (0, 1, 2)], ids=["all up", "main down", "a replica down", "all down"])
def test_flush_all(whole, ejecting, down, ejected):
    sets = ejecting if ejected else whole
    for index in range(len(sets.nodes)):
        sets.put(index, b"k")
    sets.refuse(down, ejected)
    reply = sets.ask(b"flush_all\r\n")
    assert reply.startswith(ERROR) if down else reply == b"OK\r\n", reply
    for index in sets.up:
        eventually(lambda: sets.held(index, b"k") is None, what=f"set {index} is flushed")  # noqa: B023
    sets.pass_on()
    assert [sets.held(index, b"k") for index in range(len(sets.nodes))] == [None] * len(sets.nodes)
    assert sets.ask(b"get k\r\n") == b"END\r\n"


# -- differences between the sets


@pytest.mark.parametrize(
    "asks, reply, main",
    [
        (b"incr %b 1\r\n", b"6\r\n", b"6"),
        (b"append %b 0 0 1\r\n7\r\n", b"STORED\r\n", b"57"),
        (b"ma %b v\r\n", b"VA 1\r\n6\r\n", b"6"),
    ],
    ids=["incr", "append", "ma"],
)
def test_replica_with_another_reply_loses_the_key(whole, asks, reply, main):
    """Replica 1 has lost the key; the reply of replica 2 is that of the main set."""
    key = b"lost-%b" % asks.split()[0]
    whole.put(0, key)
    whole.put(2, key)
    assert whole.ask(asks % key) == reply
    assert whole.held(0, key) == main
    eventually(lambda: whole.held(2, key) == main)
    assert whole.held(1, key) is None


def test_replica_that_counts_otherwise_loses_the_key(whole):
    for index, data in enumerate((b"5", b"8", b"5")):
        whole.put(index, b"count", data)
    assert whole.ask(b"incr count 1\r\n") == b"6\r\n"
    eventually(lambda: on_all(whole, b"count") == [b"6", None, b"6"])


def on_all(sets, key):
    """The values of `key` on all sets."""
    return [sets.held(index, key) for index in range(len(sets.nodes))]


# -- tokens of the meta protocol


def test_one_client_recaches_a_stale_item(whole):
    """The tokens W, Z and X are those of the main set, and the new value reaches all."""
    assert whole.ask(b"set stale 0 0 1\r\n5\r\n") == b"STORED\r\n"
    assert whole.ask(b"md stale I T30\r\n") == b"HD\r\n"
    assert sorted(whole.ask(b"mg stale v N30\r\n").split()[2:4]) == [b"W", b"X"]
    assert sorted(whole.ask(b"mg stale v N30\r\n").split()[2:4]) == [b"X", b"Z"]
    assert whole.ask(b"ms stale 1\r\n7\r\n") == b"HD\r\n"
    eventually(lambda: on_all(whole, b"stale") == [b"7"] * 3)


def test_vivified_item_is_not_copied_and_its_value_is(whole):
    assert whole.ask(b"mg vivified v N30\r\n") == b"VA 0 W\r\n\r\n"
    assert on_all(whole, b"vivified") == [b"", None, None]
    assert whole.ask(b"ms vivified 1\r\n7\r\n") == b"HD\r\n"
    eventually(lambda: on_all(whole, b"vivified") == [b"7"] * 3)


def test_number_of_a_replica_is_refused_when_the_main_set_is_back(whole):
    whole.ask(b"set number 0 0 1\r\n5\r\n")
    eventually(lambda: on_all(whole, b"number") == [b"5"] * 3)
    whole.refuse([0])
    number = whole.cas_of(b"number")
    assert number >> SET_OF_CAS == 1
    whole.pass_on()
    assert whole.ask(b"cas number 0 0 1 %d\r\n7\r\n" % number) == b"EXISTS\r\n"
    assert whole.ask(b"get number\r\n") == b"VALUE number 0 1\r\n5\r\nEND\r\n"
