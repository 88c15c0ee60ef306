"""The door between the two builds."""

import os
import subprocess
import sys

import pytest
from support.servers import environment

from gmproxy import accel


def test_ci_runs_the_build_it_wants():
    """A compiler that fails unseen would leave us testing, and shipping, the slow build."""
    expected = os.environ.get("GMPROXY_EXPECT_BUILD")
    if not expected:
        pytest.skip("GMPROXY_EXPECT_BUILD is not set")
    assert accel.BUILD == expected


@pytest.mark.parametrize("name", [*accel.HOT_MODULES, *accel.TWIN_MODULES])
def test_one_process_runs_one_build(name):
    source = accel.pick(name).__file__
    assert source.endswith(".py") is not accel.COMPILED
    assert accel.pick(name).__name__ == (f"gmproxy._c.{name}" if accel.COMPILED else (accel.HOT_MODULES | accel.TWIN_MODULES)[name])


@pytest.mark.parametrize("value, pure", [("1", True), ("yes", True), ("0", False), ("", False)])
def test_pure_when_asked(value, pure):
    code = "from gmproxy import accel; print(accel.PURE_ASKED, accel.BUILD)"
    variables = environment() | {"GMPROXY_PURE": value}
    asked, build = subprocess.check_output([sys.executable, "-c", code], env=variables, text=True).split()
    assert asked == str(pure)
    if pure:
        assert build == "pure"
