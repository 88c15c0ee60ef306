"""A get of very many keys and writes behind it in one packet, with backups: the work grows with the number of bytes, not with keys times
writes."""

import os

import pytest
from support.talk import storage, value

KEYS = 200_000

#: As many as fill a batch together with the get.
CHANGES = 63

#: How much more the get and the writes may cost in one packet than one after the other. If each write were compared with each key, it would
#: at least double.
ALLOWED = 1.6

#: Seconds that may be added for reading each key once more.
ONCE_MORE = 0.06

#: Each measurement is repeated and the lowest counts: other load on the machine only increases it.
ROUNDS = 3

#: Comparisons of which one must succeed: on a busy machine the two parts of one may be measured under different conditions.
ATTEMPTS = 3

#: Seconds in one unit of /proc/PID/stat.
CLOCK_TICK = 1 / os.sysconf("SC_CLK_TCK")

GET = b"get %b\r\n" % b" ".join(b"key-%d" % number for number in range(KEYS))


def cpu_time(pid):
    """CPU seconds that the process has used, user and system."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * CLOCK_TICK


def cost(front, requests, answers):
    """The lowest CPU time for `requests`, in seconds, of some rounds."""
    costs = []
    with front.talk() as talk:
        for _ in range(ROUNDS):
            before = cpu_time(front.pid)
            talk.expect(requests, answers)
            costs.append(cpu_time(front.pid) - before)
        talk.in_step()
    return min(costs)


@pytest.mark.parametrize(
    "change, answer",
    [
        (lambda number: storage(b"set", b"other-%d" % number, b"x"), b"STORED\r\n"),
        (lambda number: b"gat 0 %b\r\n" % b" ".join(b"none-%d-%d" % (number, key) for key in range(50)), b"END\r\n"),
    ],
    ids=["set", "gat"],
)
def test_writes_behind_a_large_get(memcached, proxy, change, answer):
    front = proxy(
        "-s", memcached().address, "-s", memcached().address, "-b", memcached().address, "--on-miss", "never", "--timeout", "5000"
    )
    changes, answers = b"".join(map(change, range(CHANGES))), answer * CHANGES
    cost(front, GET + changes, b"END\r\n" + answers)  # all connections are open and all buffers have their final size
    for _ in range(ATTEMPTS):
        apart = cost(front, GET, b"END\r\n") + cost(front, changes, answers)
        together = cost(front, GET + changes, b"END\r\n" + answers)
        print(f"one after the other {apart:.2f} s, in one packet {together:.2f} s")
        if together <= apart * ALLOWED + ONCE_MORE:
            return
    pytest.fail("the changes are compared with each key")


def test_a_change_of_one_of_the_keys_still_waits(memcached, proxy):
    """The last of the keys is written behind the get: the get returns the earlier value."""
    front = proxy("-s", memcached().address, "-b", memcached().address, "--on-miss", "never", "--timeout", "5000")
    last = b"key-%d" % (KEYS - 1)
    with front.talk() as talk:
        talk.expect(storage(b"set", last, b"before"), b"STORED\r\n")
        talk.expect(GET + storage(b"set", last, b"after"), value(last, b"before") + b"END\r\nSTORED\r\n")
        talk.in_step()
