"""Limits of open files of other processes, as `ulimit -n` sets them, and what such a process does."""

import ctypes
import os
import resource
from collections.abc import Callable

#: From linux/prctl.h and linux/capability.h.
PR_CAPBSET_DROP, CAP_SYS_RESOURCE = 24, 24


def few_files(count: int) -> Callable[[], None]:
    """A `preexec_fn`: the process may open `count` files, and cannot raise that, also as root."""
    libc = ctypes.CDLL(None)

    def limit() -> None:
        libc.prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))

    return limit


def no_more_files(pid: int) -> None:
    """From now on the process `pid` can open no file: the limit is at its lowest free descriptor."""
    numbers = sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    gap = next((number for number, used in enumerate(numbers) if number != used), len(numbers))
    set_limit(pid, gap)


def set_limit(pid: int, count: int) -> None:
    """The process `pid` may open `count` files from now on."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, hard))


def is_asleep(pid: int) -> bool:
    """True if the process `pid` waits for an event at this moment. A busy loop never does."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"
