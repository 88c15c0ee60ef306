"""Freed memory stays in the process, or is returned. In a separate process: the setting cannot be undone."""

import subprocess
import sys

import pytest
from support.servers import environment

from gmproxy.system import malloc

ROUNDS = 1000

#: Prints how many pages it had to request again in a number of rounds.
PROGRAM = f"""
import resource, sys
from gmproxy.system import malloc as heap
if sys.argv[2:]:
    heap.keep_freed_memory()
size = int(sys.argv[1])
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def a_round():
    one = b"x" * size
    other = one + b"y"
for _ in range(10):
    a_round()
before = faults()
for _ in range({ROUNDS}):
    a_round()
print(faults() - before)
"""


def faults(size, *kept):
    arguments = [sys.executable, "-c", PROGRAM, str(size), *kept]
    return int(subprocess.run(arguments, capture_output=True, check=True, env=environment(), timeout=60).stdout)


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_the_next_value_finds_the_memory_of_the_last(size):
    assert faults(size, "kept") < ROUNDS


def test_it_makes_a_difference():
    assert faults(100_000) > 10 * ROUNDS


def test_elsewhere_nothing_is_said(monkeypatch, capfd, caplog):
    """musl has neither mallopt nor malloc_trim."""
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda name: object())
    malloc.keep_freed_memory()
    malloc.trim_heap()
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")


#: Makes many objects for a short time, of which one in a thousand is kept. Prints how many KiB remain.
MANY = """
import contextlib, resource, sys
from gmproxy.system import malloc as heap
where = heap.CHeapObjects() if sys.argv[1:] else contextlib.nullcontext()
def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() // 1024
def make():
    with where:
        return [b"%0100d" % number for number in range(200_000)]
make()
heap.trim_heap()
before = resident()
many = make()
few = many[::1000]
again = [one + b"x" for one in many]  # and so objects made as usual live beside them
del many, again
heap.trim_heap()
print(resident() - before)
"""


def left_behind(*apart, **variables):
    arguments = [sys.executable, "-c", MANY, *apart]
    done = subprocess.run(arguments, capture_output=True, check=True, env=environment() | variables, timeout=60)
    return int(done.stdout)


def test_what_was_made_apart_goes_back_although_some_of_it_stays():
    assert left_behind("apart") < 4096
    assert left_behind() > 8192


@pytest.mark.parametrize("allocator", ["debug", "malloc", "malloc_debug"])
def test_where_python_allocates_otherwise_nothing_is_changed(allocator):
    """The program exits normally: left_behind() requires an exit status of 0."""
    left_behind("apart", PYTHONMALLOC=allocator)
