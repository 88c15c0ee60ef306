"""A name server for the proxy under test: it replies with addresses, with "no such name", or not at all.

    with NameServer() as names:
        names.addresses = ["127.0.0.1"]        # the addresses of every name
        Proxy(..., prefix=names.prefix)        # uses only this name server

The proxy runs in its own mount namespace, with another resolv.conf. This needs root (see `needs_root`).
"""

import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from support.timing import PROGRAM_TIMEOUT, join

#: The address of the name server: resolv.conf cannot contain a port, and no other program uses this loopback address.
ADDRESS, PORT = "127.53.53.53", 53

#: It ends with exec, so that the proxy is the process that was started.
RUN_WITH = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"')

TYPE_A, NO_SUCH_NAME = 1, 3


def _can_mount() -> bool:
    if os.getuid() or not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, timeout=PROGRAM_TIMEOUT).returncode == 0


needs_root = pytest.mark.skipif(not _can_mount(), reason="takes root: a mount namespace with another resolv.conf")


class NameServer:
    """
    addresses   IPv4 addresses of every name; if empty, the reply is "no such name"
    silent      True: it does not reply
    asked       number of requests so far
    """

    def __init__(self):
        self.addresses: list[str] = []
        self.silent = False
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((ADDRESS, PORT))
        self._file = tempfile.NamedTemporaryFile("w", suffix=".conf")
        self._file.write(f"nameserver {ADDRESS}\n")
        self._file.flush()
        Path(self._file.name).chmod(0o644)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> "NameServer":
        return self

    def __exit__(self, *failure: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        join(self._thread)
        self._socket.close()
        self._file.close()

    @property
    def prefix(self) -> tuple[str, ...]:
        """Command that runs a process with this name server."""
        return (*RUN_WITH, self._file.name)

    def _serve(self) -> None:
        while True:
            try:
                question, who = self._socket.recvfrom(4096)
            except OSError:
                return
            if not question:
                return
            self.asked += 1
            if not self.silent:
                self._socket.sendto(self._answer(question), who)

    def _answer(self, question: bytes) -> bytes:
        end = question.index(b"\0", 12) + 5  # of the name, its type and its class
        (kind,) = struct.unpack("!H", question[end - 4 : end - 2])
        records = [
            b"\xc0\x0c" + struct.pack("!HHIH", TYPE_A, 1, 0, 4) + socket.inet_aton(each) for each in self.addresses if kind == TYPE_A
        ]
        status = 0 if self.addresses else NO_SUCH_NAME
        return question[:2] + struct.pack("!HHHHH", 0x8180 | status, 1, len(records), 0, 0) + question[12:end] + b"".join(records)
