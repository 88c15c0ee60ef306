"""Which tests may be skipped where nothing is to be left out: with GMPROXY_TEST_SKIPS=listed any other skip is a failure.

A test that needs a program or a library skips itself with a reason. On a developer's machine that is a convenience; in continuous integration
it would hide that a test has never run. conftest.py passes each report through `fail_unless_listed`.
"""

import os
import re

from pytest import CollectReport, TestReport

#: Skips that are expected wherever the tests run: a pattern of the reason, and why the test need not run there.
LISTED = {
    r"^no part of (a single process|two workers) reaches it": "the other kind of service reaches it: test_each_point_is_reached says so",
    r"^not reached this time, by ": "the scenario reaches some points only at times",
    r"^(this process runs the pure build alone|not compiled|only the pure build is here)": "the run of the compiled build has both",
    r"^GMPROXY_TEST_MEMCACHED ": "a second memcached is a choice of who runs the tests",
    r"^this memcached may be another version": "names of one version are compared with gmproxy's",
    r"^this dalli does not speak the meta protocol": "Debian 12 has dalli 3.0, which has no meta protocol",
    r"^servers of the binary protocol list no keys": "one of the combinations of two parameters",
    r"^there is nobody to begin later": "one of the combinations of two parameters",
    r"^another user cannot read this Python": "it may be installed in a home directory, as pyenv does",
}

_STRICT = os.environ.get("GMPROXY_TEST_SKIPS") == "listed"
_LISTED = re.compile("|".join(LISTED))


def reason_of(report: TestReport | CollectReport) -> str:
    """Why `report`, which is of something skipped, says so."""
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr).removeprefix("Skipped: ")


def fail_unless_listed(report: TestReport | CollectReport) -> None:
    """Makes a skip a failure if skips are to be listed and its reason is not. Expected failures are no skips."""
    if not _STRICT or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = reason_of(report)
    if not _LISTED.search(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped, and not listed in tests/support/skips.py: {reason}"
