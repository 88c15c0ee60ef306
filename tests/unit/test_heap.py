"""What is freed stays with the process. In a process of its own: it cannot be unsaid."""

import subprocess
import sys

import pytest
from support.servers import environment

from gmproxy import heap

ROUNDS = 1000

#: Says how many pages it had to ask for again in so many rounds.
PROGRAM = f"""
import resource, sys
from gmproxy import heap
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


def test_elsewhere_nothing_is_said(monkeypatch):
    """musl has no mallopt."""
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: object())
    heap.keep_freed_memory()
