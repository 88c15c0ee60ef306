"""A client whose keys and servers no fault affects. It has a process of its own, so that it waits for gmproxy only.

As a program: `python -m faults.bystander PORT KEY` sets and gets the key until its stdin ends. It writes the
duration of each request to stdout (doubles, seconds). A wrong reply ends it with an exception.
"""

import os
import random
import subprocess
import sys
import threading
import time
from array import array
from contextlib import contextmanager
from pathlib import Path

from support.talk import Talk, storage, value
from support.timing import PATIENCE, eventually, join

from faults.report import p99

#: Replies that prove that it is served. In the long form they are enough for a p99.
ANSWERS = 2000 if "FAULT_SECONDS" in os.environ else 200

#: Seconds between two requests, on average: the load needs the processors. The times are random, so that they do not fall in step with the load.
REST = 0.001

#: It writes durations after this number of requests.
TELL_AFTER = 20

TESTS = Path(__file__).resolve().parents[1]


class Bystander:
    """Sends requests from before the `with` block to its end. Prints how long the replies took: before the block, and in each `phase`."""

    def __init__(self, proxy, key):
        self.waits = {"before": array("d")}  # {phase: seconds}
        self._phase = "before"
        self._child = subprocess.Popen(
            [sys.executable, "-m", "faults.bystander", str(proxy.port), key.decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))},
        )
        self._told = 0
        self._listener = threading.Thread(target=self._listen)

    def __enter__(self):
        self._listener.start()
        self.is_served()
        self._phase = "meanwhile"
        return self

    @contextmanager
    def phase(self, name):
        """Times in this `with` block are printed as a row of their own."""
        outer, self._phase = self._phase, name
        yield
        self._phase = outer

    def is_served(self):
        """Waits until ANSWERS more requests have replies."""
        goal = self._told + ANSWERS
        eventually(lambda: self._told >= goal or self._child.poll() is not None, what="the bystander is served")

    def __exit__(self, *failure):
        self._child.stdin.close()
        join(self._listener)
        self._child.stdout.close()
        assert self._child.wait(PATIENCE) == 0, "the bystander was not served as it should"
        calm = p99(self.waits["before"])
        for phase, waits in self.waits.items():
            print(
                f"a bystander {phase}: {len(waits)} requests, p99 {p99(waits) * 1000:.2f} ms = {p99(waits) / calm:.1f} of that before, "
                f"longest {max(waits) * 1000:.1f} ms"
            )

    def _listen(self):
        """Receives the times. They arrive a little late, which does not matter: a phase is long."""
        size = TELL_AFTER * array("d").itemsize
        while told := self._child.stdout.read(size):
            waits = array("d", told)
            self.waits.setdefault(self._phase, array("d")).extend(waits)
            self._told += len(waits)


def _serve_as_one(port, key):
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    talk = Talk(port)
    waits = array("d")
    number = 0

    def expect(request, answer):
        start = time.monotonic()
        talk.expect(request, answer)
        waits.append(time.monotonic() - start)
        time.sleep(2 * REST * random.random())

    while not ended.is_set():
        number += 1
        data = b"number %d" % number
        expect(storage(b"set", key, data), b"STORED\r\n")
        expect(b"get %b\r\n" % key, value(key, data) + b"END\r\n")
        if len(waits) >= TELL_AFTER:
            sys.stdout.buffer.write(waits.tobytes())
            sys.stdout.buffer.flush()
            del waits[:]


if __name__ == "__main__":
    _serve_as_one(int(sys.argv[1]), sys.argv[2].encode())
