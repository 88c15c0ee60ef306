"""gmproxy --print-sample-config and --print-systemd-unit: files that an operator can start from."""

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from support.servers import run
from support.timing import PROGRAM_TIMEOUT

ROOT = Path(__file__).resolve().parents[2]


def printed(option):
    done = run(option)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_sample_configuration_is_printed_and_accepted(tmp_path):
    text = printed("--print-sample-config")
    assert text == (ROOT / "conf/gmproxy.conf").read_text(encoding="utf-8")
    file = tmp_path / "gmproxy.conf"
    file.write_text(text)
    done = run("-c", file, "-u", "nobody", "-t")  # the user gmproxy exists only where the package is installed
    assert (done.returncode, done.stderr) == (0, "")
    assert "valid" in done.stdout


def test_the_unit_runs_the_gmproxy_that_printed_it():
    unit = printed("--print-systemd-unit")
    original = (ROOT / "debian/gmproxy.service").read_text(encoding="utf-8")
    started = re.search(r"^ExecStart=(/\S+)/gmproxy -c /etc/gmproxy/gmproxy.conf", unit, re.MULTILINE)
    assert unit == re.sub(r"/usr/bin(?=/gmproxy)", started[1], original)
    assert started[1] == sysconfig.get_path("scripts"), "where commands of this Python are installed"


def test_the_printed_unit_is_one_for_systemd(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    unit = tmp_path / "gmproxy.service"
    unit.write_text(re.sub(r"/\S+/gmproxy(ctl)? ", "/bin/true ", printed("--print-systemd-unit")))  # the program that it names must exist
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")
