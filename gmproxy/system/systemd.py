"""What is particular to a service of systemd: it reports its state (sd_notify), where systemd asked for it by NOTIFY_SOCKET; and its stderr
may be the journal."""

import os
import socket
import time
from collections.abc import Mapping, MutableMapping

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def is_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """True if `descriptor` is the journal: JOURNAL_STREAM has its device and inode. The variable alone proves nothing, as it is passed on to
    programs whose output goes elsewhere."""
    try:
        facts = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{facts.st_dev}:{facts.st_ino}"


class Notifier:
    """
    is_heard             False if there is no systemd that listens
    watchdog_interval    systemd expects WATCHDOG at least once in this many seconds; None if its watchdog is off

    The methods may be called from a loop callback or a greenlet: they do not wait, and raise nothing.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Removes its variables from `environment`, so that child processes do not notify in place of this one."""
        self._address = environment.pop("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        usec = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        self.is_heard = bool(self._address)
        is_on = usec.isdigit() and pid in ("", str(os.getpid())) and self.is_heard
        self.watchdog_interval = int(usec) / 1e6 if is_on else None

    def environment(self) -> dict[str, str]:
        """The variables for a successor, which notifies the same systemd."""
        if not self.is_heard:
            return {}
        usec = {"WATCHDOG_USEC": str(round(self.watchdog_interval * 1e6))} if self.watchdog_interval else {}
        return {"NOTIFY_SOCKET": self._address.replace("\0", "@", 1), **usec}

    def notify(self, *lines: str) -> None:
        """Send `lines` such as READY. If systemd cannot be reached or its queue is full they are dropped."""
        if not self.is_heard:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            pass

    def notify_reloading(self) -> None:
        self.notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
