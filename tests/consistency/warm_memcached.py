"""A memcached that keeps its memory over a restart: `-e FILE` (warm restart)."""

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

from support.servers import Memcached
from support.timing import PATIENCE, eventually

#: Where there is a RAM disk. memcached maps the file, and writes to it at each request.
RAM_DISK = Path("/dev/shm")

#: MiB. memcached refuses less.
MEMORY = 40


class WarmMemcached(Memcached):
    """Its memory is a file on the RAM disk. After `save`, `start_again` has all items, with a new process ID; `uptime` goes on."""

    def __init__(self, program: str | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="gmproxy-", dir=RAM_DISK))
        os.chmod(self._folder, 0o1777)
        super().__init__("-m", str(MEMORY), "-e", str(self._folder / "memory"), program=program)

    def __exit__(self, *failure) -> None:
        super().__exit__(*failure)
        shutil.rmtree(self._folder)

    def save(self) -> None:
        """End it with SIGUSR1, which keeps the memory."""
        self.signal(signal.SIGUSR1)
        assert self.wait(PATIENCE) == 0
        self._saved_at = time.time()

    def start_again(self) -> None:
        """memcached starts empty within the second in which it was ended: wait for the next one."""
        eventually(lambda: int(time.time()) > int(self._saved_at), what="another second")
        self._launch()
        self._wait_until_it_answers()
