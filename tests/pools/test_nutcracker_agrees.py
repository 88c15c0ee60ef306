"""Files that nutcracker's own check accepts are accepted, and those that it refuses are refused."""

import shutil
import subprocess

import pytest
from support.timing import PROGRAM_TIMEOUT
from test_pool_files import ACCEPTED, REFUSED

pytestmark = pytest.mark.skipif(shutil.which("nutcracker") is None, reason="nutcracker is not installed")

#: Valid for nutcracker, refused by gmproxy.
WE_ALONE_REFUSE = {
    "redis": "we do not speak it",
    "redis-db": "nor choose its databases",
    "listen-mode": "nutcracker takes permissions that are none for some",
}


def nutcracker_accepts(path, log):
    return subprocess.run(["nutcracker", "-t", "-c", path, "-o", log], capture_output=True, timeout=PROGRAM_TIMEOUT).returncode == 0


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_accepted_by_both(path, tmp_path):
    assert nutcracker_accepts(path, tmp_path / "log")


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_refused_by_both(path, tmp_path):
    assert nutcracker_accepts(path, tmp_path / "log") == (path.stem in WE_ALONE_REFUSE)
