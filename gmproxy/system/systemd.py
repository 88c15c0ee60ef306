"""What a service of systemd has to do: report its state where NOTIFY_SOCKET is set (sd_notify), and know whether its stderr is the journal."""

import os
import socket
import time
from collections.abc import Mapping, MutableMapping

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def is_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """True if `descriptor` is the journal: then JOURNAL_STREAM has its device and inode. The variable alone is not enough, as programs whose
    output goes elsewhere inherit it."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class Notifier:
    """Reports the state of the service to systemd.

    is_active            False if this process is not a service of systemd with Type=notify
    watchdog_interval    systemd expects WATCHDOG at least once in this many seconds; None if its watchdog is disabled

    Loop callback or greenlet. Nothing here blocks or raises.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Remove systemd's variables from `environment`: child processes must not notify in place of this one."""
        self._address = environment.pop("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        usec = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        self.is_active = bool(self._address)
        is_on = usec.isdigit() and pid in ("", str(os.getpid())) and self.is_active
        self.watchdog_interval = int(usec) / 1e6 if is_on else None

    def environment(self) -> dict[str, str]:
        """The variables for a successor, which notifies the same systemd."""
        if not self.is_active:
            return {}
        usec = {"WATCHDOG_USEC": str(round(self.watchdog_interval * 1e6))} if self.watchdog_interval else {}
        return {"NOTIFY_SOCKET": self._address.replace("\0", "@", 1), **usec}

    def notify(self, *lines: str) -> None:
        """Send `lines` such as READY. They are dropped if systemd cannot be reached or its queue is full."""
        if not self.is_active:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            pass

    def notify_reloading(self) -> None:
        self.notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
