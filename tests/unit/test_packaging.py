"""The Debian package and what it installs agree with the program."""

import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
from support.timing import PROGRAM_TIMEOUT

from gmproxy.config.configuration import make_configs, parser_for, read_arguments
from gmproxy.config.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
UNITS = ("gmproxy.service", "gmproxy.socket", "gmproxy.target")
ADMIN_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

#: A nutcracker.yml of the tests.
ACCEPTED = "distributions.yml"

SCRIPTS = (
    "init.d/gmproxy",
    "debian/tests/service",
    "debian/tests/suite",
    "scripts/install-missing",
    "scripts/run-demo",
    "scripts/test-package",
    "scripts/test-matrix",
    "scripts/coverage",
    "scripts/clean-system.sh",
    "scripts/package-life",
    "scripts/confined-life",
    "debian/gmproxy.postinst",
    "debian/gmproxy.prerm",
    "debian/gmproxy-nutcracker.postinst",
    "debian/gmproxy.postrm",
)


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_package_needs_what_the_program_needs():
    """The dependencies in pyproject.toml are also build dependencies, for the tests, under Debian's names."""
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
    assert read("debian/gmproxy.init") == read("init.d/gmproxy")  # a link, except in a source distribution, which has none


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_understood_by_any_shell(name):
    done = subprocess.run(["sh", "-n", ROOT / name], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_understands_the_units(tmp_path):
    for name in UNITS:
        (tmp_path / name).write_text(re.sub("/usr/bin/gmproxy(ctl)?", "/bin/true", read(f"debian/{name}")))  # they must exist
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in UNITS)],
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_start_that_fails_is_tried_again_for_ever_but_not_at_once():
    unit = read("debian/gmproxy.service").splitlines()
    assert {"StartLimitIntervalSec=0", "Restart=on-failure", "RestartSec=2s", "RestartPreventExitStatus=2"} <= set(unit)


def test_the_configuration_that_is_shipped():
    """It is short and valid. Its addresses are those of the sample, of README.Debian and of the socket unit. It has a journal in addition."""
    assert len(read("debian/gmproxy.conf").splitlines()) < 32
    (shipped,), (sample,) = (
        make_configs(read_arguments(parser_for("gmproxy"), ["-c", str(ROOT / name)], {}))
        for name in ("debian/gmproxy.conf", "conf/gmproxy.conf")
    )
    differing = {name: getattr(shipped, name) for name in SETTINGS if getattr(shipped, name) != getattr(sample, name)}
    assert differing == {"journal_dir": "/var/lib/gmproxy"}
    assert f"ListenStream={shipped.listen}:{shipped.port}\n" in read("debian/gmproxy.socket")


def recipes():
    """The configurations of README.Debian, by their first line: blocks of indented lines with "name = value"."""
    blocks = re.findall(r"(?:^    [a-z_]+ = .*\n)+", read("debian/gmproxy.README.Debian"), re.MULTILINE)
    return {block.split("\n")[0].strip(): textwrap.dedent(block) for block in blocks}


def test_recipes_of_readme_debian_can_be_used(tmp_path):
    """Each instance has its own port, control socket and admin listener. Complete takeovers are tested by debian/tests/service."""
    found = recipes()
    assert len(found) == 4
    configs = []
    for number, text in enumerate(found.values()):
        file = tmp_path / f"{number}.conf"
        file.write_text(text.replace("/etc/gmproxy/nutcracker.yml", str(ROOT / "tests/pools/accepted" / ACCEPTED)))
        if "server =" in text or "pools =" in text:
            configs.append(make_configs(read_arguments(parser_for("gmproxy"), ["-c", str(file)], {}))[0])
        else:
            assert read_arguments(parser_for("gmproxy"), ["-c", str(file)], {})["log_file"]
    second, magent, twemproxy = configs
    assert all(config.control and config.admin and config.user == "gmproxy" and config.journal_dir for config in configs)
    assert second.journal_dir != magent.journal_dir == twemproxy.journal_dir
    assert (second.control, second.admin) != (magent.control, magent.admin) == (twemproxy.control, twemproxy.admin)


@pytest.mark.skipif(not shutil.which("apparmor_parser", path=ADMIN_PATH), reason="apparmor is not installed")
def test_apparmor_understands_the_profile():
    parser = shutil.which("apparmor_parser", path=ADMIN_PATH)
    done = subprocess.run(
        [parser, "--skip-kernel-load", "--skip-cache", ROOT / "debian/apparmor/gmproxy"],
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert "complain" not in read("debian/apparmor/gmproxy")


def test_the_unit_ends_no_sooner_than_the_program():
    """systemd and the init script must not kill a process that still replies within its grace time."""
    grace = int(SETTINGS["grace"].default) / 1000
    by_systemd = int(re.search(r"^TimeoutStopSec=(\d+)s$", read("debian/gmproxy.service"), re.MULTILINE)[1])
    by_script = int(re.search(r"^STOP_SECONDS=(\d+)$", read("init.d/gmproxy"), re.MULTILINE)[1])
    assert min(by_systemd, by_script) > grace


def test_every_place_knows_the_directories_of_the_service():
    """The unit, the init script, systemd-tmpfiles, the AppArmor profile and a purge agree with the configuration that is installed."""
    (journal_dir,) = re.findall(r"^journal_dir = (.*)$", read("debian/gmproxy.conf"), re.MULTILINE)
    assert f"StateDirectory={Path(journal_dir).name}\n" in read("debian/gmproxy.service") and journal_dir.startswith("/var/lib/")
    assert f"STATE={journal_dir}\n" in read("init.d/gmproxy")
    assert f"d {journal_dir} 0700 gmproxy gmproxy -\n" in read("debian/gmproxy.tmpfiles")
    assert f"  {journal_dir}/** rwk,\n" in read("debian/apparmor/gmproxy")
    assert re.search(rf"^ *rm -rf .*{journal_dir} ", read("debian/gmproxy.postrm"), re.MULTILINE)
