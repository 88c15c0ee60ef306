"""Open files limits of other processes, as `ulimit -n` sets them, and the state of a process."""

import ctypes
import os
import resource
from collections.abc import Callable

#: From linux/prctl.h and linux/capability.h.
PR_CAPBSET_DROP, CAP_SYS_RESOURCE = 24, 24


def few_files(count: int) -> Callable[[], None]:
    """A `preexec_fn`: the process may open `count` files, and cannot raise this limit, not even as root."""
    libc = ctypes.CDLL(None)

    def limit() -> None:
        libc.prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))

    return limit


def no_more_files(pid: int) -> None:
    """The process `pid` cannot open any more files: its limit becomes its lowest free file descriptor."""
    numbers = sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    gap = next((number for number, used in enumerate(numbers) if number != used), len(numbers))
    set_limit(pid, gap)


def set_limit(pid: int, count: int) -> None:
    """Set the open files limit of the process `pid` to `count`."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, hard))


def is_asleep(pid: int) -> bool:
    """True if the process `pid` waits for an event now. A process in a busy loop never does."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"
