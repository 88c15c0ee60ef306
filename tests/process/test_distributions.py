"""The source distribution is complete: a wheel is made from it, and the program that pip installs from that has all its files."""

import email
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from gmproxy import __version__

ROOT = Path(__file__).resolve().parents[2]

#: Made by builds, tests and tools: not part of the source.
MADE = (
    ".git",
    ".venv",
    ".pybuild",
    ".*_cache",
    ".hypothesis",
    "build",
    "dist",
    "*.egg-info",
    "*.so",
    "__pycache__",
    "compiled_sources.json",
)

DIRECTORIES = "docs docs/man tests tests/support tests/wire/samples conf debian init.d scripts bench gmproxy/config".split()

FILES = (
    "README.md README.zh-CN.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE Makefile pyproject.toml setup.py "
    ".editorconfig .pre-commit-config.yaml".split()
)

TAKES = 120  # seconds, the maximum for what does not compile
COMPILING_TAKES = 3600


def can_make_wheels():
    """True if this Python can make wheels without a network, and if the source tree is present."""
    if not (ROOT / "setup.py").exists() or not all(map(importlib.util.find_spec, ("pip", "setuptools"))):
        return False
    makes_wheels_itself = int(importlib.metadata.version("setuptools").partition(".")[0]) > 70
    return makes_wheels_itself or importlib.util.find_spec("wheel") is not None


pytestmark = pytest.mark.skipif(not can_make_wheels(), reason="pip, setuptools, wheel and the source tree are needed")


def python(*arguments, executable=sys.executable, cwd=None, timeout=TAKES, **variables):
    """What Python prints. It cannot import the gmproxy under test, and no setting of gmproxy is in its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GMPROXY_", "PYTHONPATH", "CFLAGS"))}
    done = subprocess.run(
        [executable, *map(str, arguments)],
        cwd=cwd,
        env=kept | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def source_tree(tmp_path_factory):
    """The files of the source distribution, unpacked."""
    place = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT, place / "copy", symlinks=True, ignore=shutil.ignore_patterns(*MADE))
    python("setup.py", "--quiet", "sdist", "--dist-dir", place, cwd=place / "copy", GMPROXY_BUILD="pure")
    shutil.unpack_archive(place / f"gmproxy-{__version__}.tar.gz", place)
    return place / f"gmproxy-{__version__}"


def make_wheel(source_tree, place, build, timeout=TAKES):
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", place)
    python("-m", "pip", "wheel", *options, source_tree, timeout=timeout, GMPROXY_BUILD=build)
    (wheel,) = place.glob("gmproxy-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(source_tree, tmp_path_factory):
    """A wheel that needs no compiler."""
    return make_wheel(source_tree, tmp_path_factory.mktemp("wheel"), "pure")


def install(wheel, place):
    """Returns the directory of the commands in a new virtual environment with the wheel. It uses the dependencies of this environment."""
    python("-m", "venv", "--without-pip", place)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python("-m", "pip", "--quiet", "--python", place / "bin/python", "install", "--no-deps", "--no-index", "--no-compile", wheel)
    return place / "bin"


def test_the_source_distribution_has_what_the_source_tree_has(source_tree):
    for name in DIRECTORIES:
        there = {path.name for path in (ROOT / name).iterdir() if not any(path.match(pattern) for pattern in MADE)}
        assert there - {path.name for path in (source_tree / name).iterdir()} <= {"loadgen", "gmproxy@.service", ".debhelper"}, name
    for name in FILES:
        assert (source_tree / name).read_text(encoding="utf-8") == (ROOT / name).read_text(encoding="utf-8")


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"gmproxy-{__version__}.dist-info/METADATA"))
    assert (metadata["License-Expression"] or metadata["License"]) == "Apache-2.0"  # the newer field, or that of setuptools before 77
    assert (metadata["Name"], metadata["Version"], metadata["Requires-Python"]) == ("gmproxy", __version__, ">=3.10")
    assert metadata["Author"] and metadata["Summary"] and metadata["Keywords"] and len(metadata.get_all("Classifier")) > 10
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_what_is_installed_has_its_files(wheel, tmp_path):
    commands = install(wheel, tmp_path / "venv")
    gmproxy, where = commands / "gmproxy", {"executable": commands / "python", "cwd": tmp_path}
    assert "(pure build)" in python(gmproxy, "-V", **where)
    assert {"gmproxyctl", "magent"} <= {path.name for path in commands.iterdir()}
    manuals = {path.name for path in (tmp_path / "venv/share/man").glob("man*/*")}
    assert manuals == {path.name for path in (ROOT / "docs/man").iterdir()}

    sample = tmp_path / "gmproxy.conf"
    sample.write_text(python(gmproxy, "--print-sample-config", **where))
    assert "valid" in python(gmproxy, "-t", "-c", sample, "-u", "nobody", **where)
    assert re.search(r"^ExecStart=(\S+) ", python(gmproxy, "--print-systemd-unit", **where), re.MULTILINE)[1] == str(gmproxy)


@pytest.mark.long
def test_tests_run_from_the_source_distribution(source_tree):
    python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_generated.py", "tests/process/test_demo.py", cwd=source_tree)


@pytest.mark.long
def test_a_compiled_wheel_is_small_and_stripped(source_tree, tmp_path):
    if not shutil.which("cc"):
        pytest.skip("there is no compiler")
    pytest.importorskip("Cython")
    wheel = make_wheel(source_tree, tmp_path, "require", COMPILING_TAKES)
    assert wheel.stat().st_size < 6 << 20  # a third of it is reserve; with debug information it would be twice as large
    commands = install(wheel, tmp_path / "venv")
    assert "(compiled build)" in python(commands / "gmproxy", "-V", executable=commands / "python", cwd=tmp_path)
    modules = list((tmp_path / "venv").rglob("gmproxy/**/*.so"))
    assert modules
    for module in modules:
        assert b".debug_info" not in module.read_bytes() and b".symtab" not in module.read_bytes(), module
