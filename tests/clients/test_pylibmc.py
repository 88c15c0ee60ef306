"""pylibmc, libmemcached's client for Python, with both protocols. It runs in an interpreter that has pylibmc, which may be another one than this."""

import subprocess
import sys

import pytest
from support.timing import PROGRAM_TIMEOUT

TIMEOUT = 30

PROGRAM = r"""
import sys, pylibmc
host, port, binary = sys.argv[1:]
m = pylibmc.Client([f"{host}:{port}"], binary=binary == "binary", behaviors={"cas": True})
m.delete("py")
assert m.set("py", {"a": 1, "b": b"\0\r\n"}) and m.get("py") == {"a": 1, "b": b"\0\r\n"}
assert not m.add("py", 1) and m.replace("py", 4)
value, cas = m.gets("py")
assert value == 4 and m.cas("py", 5, cas) and not m.cas("py", 6, cas)
many = {f"many{number}": number for number in range(200)}
assert not m.set_multi(many)
assert m.get_multi([*many, "none"]) == many
assert m.delete_multi([*many][:10]) and len(m.get_multi(list(many))) == 190
assert m.set("count", 5) and m.incr("count", 3) == 8 and m.decr("count", 100) == 0
assert m.set("text", "b") and m.append("text", "c") and m.prepend("text", "a") and m.get("text") == "abc"
assert m.touch("text", 100)
assert m.set("large", "x" * 500_000) and len(m.get("large")) == 500_000
assert m.delete("py") and m.get("py") is None
((server, stats),) = m.get_stats()
assert stats["version"].startswith(b"1.6." if isinstance(stats["version"], bytes) else "1.6.")
assert int(stats["curr_items"]) > 0 and int(stats["limit_maxbytes"]) > 0
assert m.flush_all() and m.get("many50") is None
"""


@pytest.fixture(scope="module")
def interpreter():
    for path in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([path, "-c", "import pylibmc"], capture_output=True, timeout=PROGRAM_TIMEOUT).returncode == 0:
            return path
    pytest.skip("pylibmc is not installed")


@pytest.mark.parametrize("protocol", ["text", "binary"])
def test_pylibmc(shop, interpreter, protocol):
    done = subprocess.run(
        [interpreter, "-c", PROGRAM, shop.proxy.host, str(shop.proxy.port), protocol],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, "")
