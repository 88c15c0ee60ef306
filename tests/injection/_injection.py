"""This file becomes gmproxy/_injection.py in the instrumented copy of gmproxy. The test's side is injector.py.

Both map one file into memory; an environment variable has its name. So a point is armed in all processes of the service at once, without
messages.
"""

import mmap
import os
import struct

#: The file contains the state, how often the point is passed before it raises, its number, and one byte for each point: 1 if it was passed.
IDLE, ARMED, RAISED = 0, 1, 2
HEADER = struct.Struct("=BxHI")
REACHED = HEADER.size

VARIABLE = "INJECTION_FILE"


class InjectedError(Exception):
    """An exception that no code of gmproxy expects."""


def _mapped():
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


_memory = _mapped()


def point(number: int) -> None:
    """Called at the start of the function with this number. Raises if the function is armed."""
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
