"""A service that is reloaded again and again does not grow."""

import resource

import pytest
from support.service import order


@pytest.mark.parametrize("workers", [1, 2])
def test_reloads_add_no_memory(workers, memcached, proxy, tmp_path):
    """The objects of an old configuration are freed at once, not when a hundred thousand objects wait for the garbage collector."""
    process = proxy("-s", memcached().address, "--workers", workers, "--control", tmp_path / "control")
    process.control = str(tmp_path / "control")
    pids = {process.pid, *order(process, "pids")["workers"]}

    def memory_after(reloads):
        for _ in range(reloads):
            assert "error" not in order(process, "reload")
        return sum(resident(pid) for pid in pids)

    first = memory_after(20)
    assert memory_after(200) - first < 3 << 20


def resident(pid):
    """Bytes."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()
