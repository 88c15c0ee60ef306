"""Tells systemd how the service is (sd_notify), where systemd asked for it by NOTIFY_SOCKET. Else nothing is told."""

import os
import socket
import time

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


class Notifier:
    """
    watchdog    systemd must hear WATCHDOG at least every so many seconds; None if it does not wait for that
    """

    def __init__(self, environment):
        """Takes what it needs out of `environment`: our children shall not speak for us."""
        self._address = environment.pop("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        usec = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        self.watchdog = int(usec) / 1e6 if usec.isdigit() and pid in ("", str(os.getpid())) and self._address else None

    def environment(self):
        """For a successor, which shall speak to the same."""
        if not self._address:
            return {}
        usec = {"WATCHDOG_USEC": str(round(self.watchdog * 1e6))} if self.watchdog else {}
        return {"NOTIFY_SOCKET": self._address.replace("\0", "@", 1), **usec}

    def tell(self, *lines):
        """systemd may be gone or full: that is no reason to stop."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            pass

    def reloading(self):
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
