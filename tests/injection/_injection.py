"""Goes into the instrumented copy of gmproxy as gmproxy/_injection.py. The other side is injector.py.

Both look at one file, mapped into memory, whose name the environment gives: so every process of the service can be told at once,
without any message.
"""

import mmap
import os
import struct

#: In the file: the state, how often the point is to be passed before it raises, its number, and for each point whether it was passed.
IDLE, ARMED, RAISED = 0, 1, 2
HEADER = struct.Struct("=BxHI")
REACHED = HEADER.size

VARIABLE = "INJECTION_FILE"


class InjectedError(Exception):
    """What no code of gmproxy expects."""


def _mapped():
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


_memory = _mapped()


def point(number: int) -> None:
    """The function with this number begins."""
    if _memory is None:
        return
    _memory[REACHED + number] = 1
    if _memory[0] == ARMED:
        _perhaps_raise(number)


def _perhaps_raise(number: int) -> None:
    state, times, armed = HEADER.unpack_from(_memory)
    if armed != number:
        return
    if times:
        HEADER.pack_into(_memory, 0, ARMED, times - 1, armed)
        return
    HEADER.pack_into(_memory, 0, RAISED, 0, armed)
    raise InjectedError(f"injected at point {number}")
