"""scripts/commit-message, the hook that git runs on the message of a commit."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.timing import PROGRAM_TIMEOUT

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/commit-message"


@pytest.fixture
def checked(tmp_path):
    """Call it with a message. Returns the exit status and the output."""

    def check(message):
        file = tmp_path / "COMMIT_EDITMSG"
        file.write_text(message, encoding="utf-8")
        done = subprocess.run([sys.executable, SCRIPT, file], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT)
        return done.returncode, done.stderr

    return check


@pytest.mark.parametrize(
    "message",
    [
        "routing: a fill ends with its route\n",
        "routing: a fill ends with its route\n\nA route that was replaced ...\n\nMeasured: ...\n",
        "admin, ctl: what an operator sees\n",
        "README, docs/failures.md: what a warming server is\n",
        "x: " + "y" * 69 + "\n",
        "x: " + "é" * 69 + "\n",  # characters, not bytes
        "# a comment of git\nplacement: a distribution\n# another\n",
        "placement: a distribution\n\n# ------------------------ >8 ------------------------\ndiff --git a/x b/x\n",
        "Merge branch 'main' of somewhere\n",
        'Revert "routing: a fill ends with its route, however long this line may get when git writes it"\n',
        "fixup! routing: a fill ends with its route\n",
    ],
)
def test_accepted(checked, message):
    assert checked(message) == (0, "")


@pytest.mark.parametrize(
    "message, fault",
    [
        ("x: " + "y" * 70 + "\n", "the subject has 73 characters, at most 72 are allowed"),
        ("Fix it\n", "the subject is not `area: what changed`: 'Fix it'"),
        ("routing:\n", "the subject is not `area: what changed`: 'routing:'"),
        ("", "the subject is not `area: what changed`: ''"),
        ("# nothing but a comment\n", "the subject is not `area: what changed`: ''"),
        ("routing: a fill ends.\n", "the subject ends with a full stop"),
        ("routing: a fill ends\nwith its route\n", "the second line is not empty"),
    ],
)
def test_refused(checked, message, fault):
    assert checked(message) == (1, f"commit message: {fault}\n")


def test_the_file_is_needed():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT)
    assert done.returncode == 1 and "usage" in done.stderr
