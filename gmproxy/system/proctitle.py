"""The name and the words under which ps, pidof and killall find the process: those of the command, not of the Python that runs it."""

import contextlib
import os
import sys

#: Fields of /proc/PID/stat, counted from the one after the command's name: where the words of the command line begin and end.
ARG_START, ARG_END = 45, 46


def drop_interpreter() -> None:
    """Have `/usr/bin/python3 /usr/bin/magent -D` shown as `/usr/bin/magent -D`.

    Old scripts find their process with pidof, which compares the first word only, or with killall, which compares the name. Nothing
    changes if the program was not started as a script (python -m gmproxy), or where the system does not allow it. Raises nothing.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        shown, start = _shown()
        _, _, rest = shown.partition(b"\0")
        script = rest.split(b"\0")[0]
        if script == os.fsencode(sys.argv[0]):
            _show(rest, os.path.basename(script), len(shown), start)


def show_as(title: str) -> None:
    """Have this process shown as `title`, cut to the room there is. Raises nothing."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        shown, start = _shown()
        _show(os.fsencode(title)[: len(shown) - 1], os.fsencode(title), len(shown), start)


def _shown() -> tuple[bytes, int]:
    """(the command line, where in memory it is). Raises OSError, ValueError, IndexError if that is not known."""
    with open("/proc/self/cmdline", "rb") as file:
        shown = file.read()
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[ARG_START]), int(fields[ARG_END])
    if end - start != len(shown):
        raise ValueError("the command line is somewhere else")
    return shown, start


def _show(words: bytes, name: bytes, room: int, start: int) -> None:
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(words.ljust(room, b"\0"))
    with open("/proc/self/comm", "wb", buffering=0) as file:  # the kernel cuts it to 15 bytes
        file.write(name)
