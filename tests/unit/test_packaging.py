"""The Debian package and what it installs agree with the program."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gmproxy import __version__
from gmproxy.config.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = (
    "init.d/gmproxy",
    "debian/tests/service",
    "debian/tests/suite",
    "scripts/install-missing",
    "scripts/run-demo",
    "scripts/test-package",
    "scripts/package-life",
    "debian/gmproxy.postinst",
    "debian/gmproxy-nutcracker.postinst",
    "debian/gmproxy.postrm",
)


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_package_has_the_version_of_the_program():
    upstream, _, _ = re.match(r"gmproxy \(([^)]+)\)", read("debian/changelog"))[1].rpartition("-")
    assert upstream == __version__


def test_the_changes_begin_with_the_version_or_with_what_is_coming():
    first = re.search(r"^## (.+)$", read("CHANGELOG.md"), re.MULTILINE)[1]
    assert first == "In development" or first.split()[0] == __version__


def test_the_package_needs_what_the_program_needs():
    """What pyproject.toml names is there for the tests in the build too, under Debian's names."""
    needed = re.search(r"^dependencies = \[(.*)\]$", read("pyproject.toml"), re.MULTILINE)[1]
    debian = {
        "gevent": "python3-gevent",
        "ConfigArgParse": "python3-configargparse",
        "PyYAML": "python3-yaml",
        "prometheus-client": "python3-prometheus-client",
    }
    names = re.findall(r'"([A-Za-z-]+)', needed)
    assert sorted(names) == sorted(debian)
    assert all(f" {debian[name]} " in read("debian/control") for name in names)


def test_lintian_is_told_of_modules_that_are_there():
    named = re.findall(r"/gmproxy/([\w/]+)\.\*", read("debian/gmproxy.lintian-overrides"))
    assert named and all((ROOT / f"gmproxy/{module}.pyx").exists() for module in named)


def test_the_init_script_is_that_of_the_package():
    assert read("debian/gmproxy.init") == read("init.d/gmproxy")  # a link, but for a source distribution, which has none


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_understood_by_any_shell(name):
    done = subprocess.run(["sh", "-n", ROOT / name], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path):
    unit = tmp_path / "gmproxy.service"
    unit.write_text(read("debian/gmproxy.service").replace("/usr/bin/gmproxy", "/bin/true"))  # it must be there
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_ends_no_sooner_than_the_program():
    """systemd, and the init script, must not kill what still answers within its grace."""
    grace = int(SETTINGS["grace"].default) / 1000
    by_systemd = int(re.search(r"^TimeoutStopSec=(\d+)s$", read("debian/gmproxy.service"), re.MULTILINE)[1])
    by_script = int(re.search(r"^STOP_SECONDS=(\d+)$", read("init.d/gmproxy"), re.MULTILINE)[1])
    assert min(by_systemd, by_script) > grace
