"""The classes of commands that a pool with replicas treats alike, and what it does with each: the table of docs/replicas.md.

A command belongs to the first class whose condition it meets. The conditions are the facts by which the routes decide (gmproxy.protocol.commands).
The *acting main set* of a key is the first set whose server is up and does not owe the deletion of the key.
"""

from collections.abc import Callable
from typing import NamedTuple

from gmproxy.protocol.commands import META_WIN, META_WIN_AND_TOUCH, Command


class CommandClass(NamedTuple):
    """
    title          the commands, for operators
    belongs        whether a Command with these flags (the first letters of its words) belongs to it
    all_up, main_down, replica_down, all_down   what is done in each state
    """

    title: str
    belongs: Callable[[Command, frozenset[str]], bool]
    all_up: str
    main_down: str
    replica_down: str
    all_down: str


ERROR = "SERVER_ERROR"

CLASSES = (
    CommandClass(
        "mg N, R; W, Z, X",
        lambda command, flags: command in (META_WIN, META_WIN_AND_TOUCH),
        "the main set alone; an item that it makes for the client is not copied, the `ms` that fills it is",
        "the acting main set; new tokens",
        "the main set",
        "a miss",
    ),
    CommandClass(
        "touch, gat, mg T",
        lambda command, flags: command.only_touches,
        "the main set; a touch to the others",
        "the acting main set",
        "the main set; it owes the key",
        f"{ERROR}; gat: a miss",
    ),
    CommandClass(
        "gets, mg c",
        lambda command, flags: command.is_read and (command.name == b"gets" or "c" in flags),
        "the main set",
        "the acting main set; the number has the mark of its set",
        "the main set",
        "a miss",
    ),
    CommandClass(
        "get, mg without N, R, T, c",
        lambda command, flags: command.is_read,
        "by `read`; a get of several keys is sent to one set",
        "the acting main set",
        "the other sets",
        "a miss",
    ),
    CommandClass(
        "ms I, md I",
        lambda command, flags: command.is_meta and "I" in flags,
        "the main set; a delete on the others",
        "the acting main set; the main set owes the key",
        "the main set; it owes the key",
        ERROR,
    ),
    CommandClass(
        "add, replace, cas, C, md/ma with C",
        lambda command, flags: command.conditional,
        "the main set decides; then the others receive its value, or a delete",
        "the acting main set decides; the number of another set: EXISTS, EX",
        "as set",
        ERROR,
    ),
    CommandClass(
        "append, prepend, incr, decr, ma, MA, MP",
        lambda command, flags: command.reads_old_value,
        "all sets, in the same order; where a reply differs, the key is deleted",
        "the reply of the acting main set; the main set owes the key",
        "as set",
        ERROR,
    ),
    CommandClass(
        "set, ms, delete, md",
        lambda command, flags: command.is_write,
        "all sets, in one order; the reply of the main set, once `write` is met",
        "the reply of the acting main set; the main set owes the key",
        f"the reply of the main set; it owes the key; `write = all`: {ERROR}",
        f"{ERROR}; all owe the key",
    ),
)


def class_of(command: Command, flags: frozenset[str]) -> CommandClass | None:
    """The class of `command`, a request for a key, with the first letters of its flags; None for one that no replica concerns (`me`)."""
    return next((one for one in CLASSES if one.belongs(command, flags)), None)
