"""Sets the name and command line that ps, pidof and killall show for the process: those of the command instead of the Python interpreter."""

import contextlib
import os
import sys

#: Indexes of fields of /proc/PID/stat, 0 being the one after the command name: the addresses at which the command line begins and ends.
ARG_START, ARG_END = 45, 46


def drop_interpreter() -> None:
    """Show `/usr/bin/python3 /usr/bin/magent -D` as `/usr/bin/magent -D`.

    Existing scripts find their process with pidof, which compares only the first word, or with killall, which compares the name. Nothing
    changes if the program was not started as a script (python -m gmproxy) or the kernel does not permit it. Raises nothing.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        shown, start = _shown()
        _, _, rest = shown.partition(b"\0")
        script = rest.split(b"\0")[0]
        if script == os.fsencode(sys.argv[0]):
            _show(rest, os.path.basename(script), len(shown), start)


def show_as(title: str) -> None:
    """Show this process as `title`, cut to the length of its present command line. Raises nothing."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        shown, start = _shown()
        _show(os.fsencode(title)[: len(shown) - 1], os.fsencode(title), len(shown), start)


def _shown() -> tuple[bytes, int]:
    """(the command line, its address in memory). Raises OSError, ValueError or IndexError if the address is unknown."""
    with open("/proc/self/cmdline", "rb") as file:
        shown = file.read()
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[ARG_START]), int(fields[ARG_END])
    if end - start != len(shown):
        raise ValueError("the command line is not at that address")
    return shown, start


def _show(words: bytes, name: bytes, room: int, start: int) -> None:
    """Write `words` over the command line, `room` bytes at the address `start`, and set the command name."""
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(words.ljust(room, b"\0"))
    with open("/proc/self/comm", "wb", buffering=0) as file:  # the kernel cuts it to 15 bytes
        file.write(name)
