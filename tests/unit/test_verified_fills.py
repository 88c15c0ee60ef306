"""All orders in which two servers can execute the commands of two fills, a set and a delete through three proxies: what becomes of a deleted value?

The model has the commands of gmproxy/routing/fill_sink.py and backup_first.py. At first only the backup has the key, with the old value: the primary
is warming. Each proxy has one connection to each server. A server executes the commands of one connection in order, those of several in any order.
"""

from typing import NamedTuple

import pytest

OLD, NEW = "old", "new"


class Item(NamedTuple):
    """`number`: in place of the cas number, which writer made it: each makes one."""

    value: str
    number: str


class Fill(NamedTuple):
    """A fill by one proxy: `step` is the next command, `read` what the backup had."""

    proxy: str
    step: str = "miss"
    read: str | None = None


class State(NamedTuple):
    """
    primary, backup        the items on the two servers
    fills                  one for each of the other proxies
    to_primary, to_backup  commands of the proxy that writes which the servers have not executed
    waiting                changes of its clients that are sent when the first one is acknowledged
    """

    primary: Item | None
    backup: Item | None
    fills: tuple[Fill, ...]
    to_primary: tuple[str, ...] = ()
    to_backup: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


class Rules(NamedTuple):
    """`verifies`: fills are verified. `backup_first`: the primary is sent a delete when the backup has replied to one."""

    verifies: bool
    backup_first: bool


def sent(state, change, rules):
    """The state after the proxy has sent `change`."""
    if change == "delete" and rules.backup_first:
        return state._replace(to_backup=(*state.to_backup, "delete first"))
    return state._replace(to_primary=(*state.to_primary, change), to_backup=(*state.to_backup, change))


def executed(command, item):
    """The item after a command of the proxy that writes."""
    return Item(NEW, "writer") if command == "set" else None


def successors(state, rules):
    """The states after the next command on one of the servers, whichever that is."""
    for number, fill in enumerate(state.fills):
        if fill.step != "done":
            primary, after = next_of_fill(state, fill, rules)
            fills = (*state.fills[:number], after, *state.fills[number + 1 :])
            yield state._replace(primary=primary, fills=fills)
    if state.to_primary:
        command, *others = state.to_primary
        after = state._replace(primary=executed(command, state.primary), to_primary=tuple(others))
        for change in after.waiting:  # the primary's reply acknowledges the change
            after = sent(after._replace(waiting=()), change, rules)
        yield after
    if state.to_backup:
        command, *others = state.to_backup
        after = state._replace(backup=executed(command, state.backup), to_backup=tuple(others))
        if command == "delete first":
            after = after._replace(to_primary=(*after.to_primary, "delete"), to_backup=(*after.to_backup, "delete"))
        yield after


def next_of_fill(state, fill, rules):
    """(the item of the primary, the fill) after the next command of the fill."""
    primary, backup = state.primary, state.backup
    done = fill._replace(step="done")
    if fill.step == "miss":
        return primary, done if primary else fill._replace(step="read")
    if fill.step == "read":
        return primary, fill._replace(step="add", read=backup.value) if backup else done
    if fill.step == "add":
        if primary:
            return primary, done
        return Item(fill.read, fill.proxy), fill._replace(step="read again") if rules.verifies else done
    if fill.step == "read again":
        return primary, done if backup and backup.value == fill.read else fill._replace(step="delete")
    return None if primary and primary.number == fill.proxy else primary, done


def final_states(first, rules):
    """Every state in which all commands have been executed, and the number of states on the way."""
    seen, left, final = {first}, [first], set()
    while left:
        state = left.pop()
        following = list(successors(state, rules))
        if not following:
            final.add(state)
        left += set(following) - seen
        seen |= set(following)
    return final, len(seen)


def first_state(changes, at_once, rules):
    """The old value is on the backup. `at_once`: the clients of the proxy send the two changes without waiting for each other."""
    state = State(None, Item(OLD, "earlier"), (Fill("a"), Fill("b")))
    if not at_once:
        return sent(state._replace(waiting=changes[1:]), changes[0], rules)
    for change in changes:
        state = sent(state, change, rules)
    return state


#: The changes, and the values that may be left on a server.
CHANGES = pytest.mark.parametrize(
    "changes, at_once, may_be_left",
    [
        (("delete",), True, {None}),
        (("set", "delete"), False, {None}),
        (("delete", "set"), False, {None, NEW}),
        (("set", "delete"), True, {None, NEW}),
        (("delete", "set"), True, {None, NEW}),
        (("set",), True, {None, NEW}),
    ],
)


def left_by(changes, at_once, rules):
    """({values that are left on one of the servers}, number of states)."""
    final, count = final_states(first_state(changes, at_once, rules), rules)
    assert not any(state.to_primary or state.to_backup or state.waiting for state in final)
    return {item and item.value for state in final for item in (state.primary, state.backup)}, count


@CHANGES
def test_a_verified_fill_never_brings_a_deleted_value_back(changes, at_once, may_be_left):
    """If what is like a delete is sent to the backup first."""
    left, count = left_by(changes, at_once, Rules(verifies=True, backup_first=True))
    assert left <= may_be_left
    assert count > 100, "or little was tried"


@pytest.mark.parametrize("rules", [Rules(False, False), Rules(False, True), Rules(True, False)])
def test_without_one_of_the_two_it_is_brought_back(rules):
    """A plain add, or a delete that the primary may execute first."""
    assert OLD in left_by(("delete",), True, rules)[0]


def test_a_plain_add_may_keep_an_overwritten_value():
    """If the add follows the delete, and there was nothing for the set to overwrite."""
    assert OLD in left_by(("set", "delete"), False, Rules(False, False))[0]
