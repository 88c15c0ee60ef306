"""Times in which gmproxy could not reply are recorded."""

import os
import signal

import pytest
from support.timing import eventually

from faults.pauses import Pauses, Watch, waits_for_processor


@pytest.mark.parametrize(
    "intervals, within",
    [
        ([], 0),
        ([(0, 1)], 0),
        ([(0, 12)], 2),
        ([(11, 12), (14, 15)], 2),
        ([(14, 15), (11, 12)], 2),
        ([(11, 15), (12, 13), (14, 16)], 5),
        ([(19, 30)], 1),
        ([(5, 30), (11, 12)], 10),
    ],
)
def test_what_counts_of_them(intervals, within):
    pauses = Pauses()
    for interval in intervals:
        pauses.add(*interval)
    assert pauses.within(10, 20) == within


def test_a_process_that_waits_for_a_processor_is_noted(memcached):
    """The kernel counts the time that a process waits for a processor. Whether a process really waits depends on the machine."""
    server = memcached()
    waits = waits_for_processor([server.pid, 2**22 + 1])
    assert list(waits) == [server.pid] and waits[server.pid] >= 0


def test_a_watch_goes_on_when_a_process_ends(memcached):
    server = memcached()
    asked = []

    def pids():
        asked.append(server.pid)
        return [server.pid]

    with Watch(Pauses(), pids):
        eventually(lambda: len(asked) > 2)
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        before = len(asked)
        eventually(lambda: len(asked) > before + 2, what="it looks on")
