"""scripts/release-check: the version in code, manual pages, documents and changelogs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.timing import PROGRAM_TIMEOUT

from gmproxy import __version__

ROOT = Path(__file__).resolve().parents[2]

FILES = (
    "gmproxy/__init__.py",
    "docs/man/gmproxy.8",
    "docs/man/gmproxyctl.1",
    "docs/installation.md",
    "docs/gmproxyctl.md",
    "docs/protocol.md",
    "CHANGELOG.md",
    "debian/changelog",
)
CHANGELOGS = FILES[-2:]


@pytest.fixture
def copy(tmp_path):
    """A directory with the files that name the version, and the changelogs of a release."""
    for name in ("scripts/release-check", *FILES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    change(tmp_path, "CHANGELOG.md", r"^## .*", f"## {__version__} (2026-11-29)")
    change(tmp_path, "debian/changelog", r"\A.*", f"gmproxy ({__version__}-1) unstable; urgency=medium")
    change(tmp_path, "debian/changelog", r"(?<=>  ).*", "Sun, 29 Nov 2026 12:00:00 +0000")
    return tmp_path


def change(directory, name, old, new):
    """Replace the first match of `old`. There must be one."""
    path = directory / name
    text, count = re.subn(old, new, path.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(text, encoding="utf-8")


def release_check(directory, *arguments):
    return subprocess.run(
        [sys.executable, directory / "scripts/release-check", *arguments], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT
    )


def test_a_release(copy):
    done = release_check(copy)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert {line.partition(":")[0] for line in lines} == set(FILES)
    assert all(__version__ in line for line in lines)


def test_the_files_here_name_one_version():
    """CHANGELOG.md may have a section for the next version."""
    done = release_check(ROOT)
    differ = [line for line in done.stdout.splitlines() if __version__ not in line]
    assert differ in ([], ["CHANGELOG.md: In development, no date"])


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_another_version(copy, name):
    change(copy, name, re.escape(__version__), "9.8.7")
    done = release_check(copy)
    assert (done.returncode, done.stderr) == (1, "release-check: the versions differ\n")
    assert any(line.startswith(f"{name}: 9.8.7") for line in done.stdout.splitlines())


def test_a_file_that_lost_its_version(copy):
    change(copy, "docs/man/gmproxy.8", f"gmproxy {re.escape(__version__)}", "gmproxy")
    done = release_check(copy)
    assert done.returncode == 1 and "docs/man/gmproxy.8: no version\n" in done.stdout


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("CHANGELOG.md", r" \(2026-11-29\)", ""),
        ("CHANGELOG.md", r"2026-11-29", "2026-11-31"),
        ("debian/changelog", "unstable", "UNRELEASED"),
        ("debian/changelog", "Sun, ", "Mon, "),
    ],
)
def test_a_changelog_that_is_not_of_a_release(copy, name, old, new):
    change(copy, name, old, new)
    done = release_check(copy)
    assert (done.returncode, done.stderr) == (1, "release-check: a changelog has no release with a valid date\n")


def test_changelogs_of_different_days(copy):
    change(copy, "CHANGELOG.md", r"2026-11-29", "2026-11-28")
    done = release_check(copy)
    assert (done.returncode, done.stderr) == (1, "release-check: the dates differ\n")


def test_a_new_version_is_written_to_all_but_the_changelogs(copy):
    before = {name: (copy / name).read_bytes() for name in FILES}
    assert release_check(copy, "--set", "9.8.7").returncode == 0
    changed = {name for name in FILES if (copy / name).read_bytes() != before[name]}
    assert changed == set(FILES) - set(CHANGELOGS)
    assert release_check(copy).returncode == 1
    for name in CHANGELOGS:
        change(copy, name, re.escape(__version__), "9.8.7")
    assert release_check(copy).returncode == 0


def test_what_is_not_a_version_is_not_written(copy):
    done = release_check(copy, "--set", "next")
    assert done.returncode == 2 and "three numbers" in done.stderr
