"""Reports the state of the service to systemd (sd_notify), where systemd asked for it by NOTIFY_SOCKET. Otherwise does nothing."""

import os
import socket
import time
from collections.abc import MutableMapping

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


class Notifier:
    """
    watchdog_interval    systemd expects WATCHDOG at least once in this many seconds; None if its watchdog is off

    The methods may be called from a loop callback or a greenlet: they do not wait, and raise nothing.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Removes its variables from `environment`, so that child processes do not notify in place of this one."""
        self._address = environment.pop("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        usec = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        is_on = usec.isdigit() and pid in ("", str(os.getpid())) and bool(self._address)
        self.watchdog_interval = int(usec) / 1e6 if is_on else None

    def environment(self) -> dict[str, str]:
        """The variables for a successor, which notifies the same systemd."""
        if not self._address:
            return {}
        usec = {"WATCHDOG_USEC": str(round(self.watchdog_interval * 1e6))} if self.watchdog_interval else {}
        return {"NOTIFY_SOCKET": self._address.replace("\0", "@", 1), **usec}

    def notify(self, *lines: str) -> None:
        """Send `lines` such as READY. If systemd cannot be reached or its queue is full they are dropped."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            pass

    def notify_reloading(self) -> None:
        self.notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
