"""The skips that are allowed if GMPROXY_TEST_SKIPS=listed. Then any other skip is a failure.

A test that needs a program or a library skips itself with a reason. This is convenient for developers, but in continuous integration it hides
tests that never run. conftest.py passes each report to `fail_unless_listed`.
"""

import os
import re

from pytest import CollectReport, TestReport

#: {pattern of the reason of an expected skip: why the test need not run}
LISTED = {
    r"^no part of (a single process|two workers) reaches it": "the other kind of service reaches it: test_each_point_is_reached says so",
    r"^not reached this time, by ": "the scenario reaches some points only at times",
    r"^(this process runs the pure build alone|not compiled|only the pure build is here)": "the run of the compiled build has both",
    r"^GMPROXY_TEST_MEMCACHED ": "a second memcached is a choice of who runs the tests",
    r"^this memcached may be another version": "names of one version are compared with gmproxy's",
    r"^this dalli does not speak the meta protocol": "Debian 12 has dalli 3.0, which has no meta protocol",
    r"^servers of the binary protocol list no keys": "one of the combinations of two parameters",
    r"^there is nobody to begin later": "one of the combinations of two parameters",
    r"^only root may mount": "the tests run as root, too",
    r"^no file system can be mounted": "containers may forbid it, even to root",
    r"^there is no RAM disk": "memcached's warm restart needs one",
    r"^another user cannot read this Python": "it may be installed in a home directory, as pyenv does",
}

_STRICT = os.environ.get("GMPROXY_TEST_SKIPS") == "listed"
_LISTED = re.compile("|".join(LISTED))


def reason_of(report: TestReport | CollectReport) -> str:
    """The reason of a skip, from its report."""
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr).removeprefix("Skipped: ")


def fail_unless_listed(report: TestReport | CollectReport) -> None:
    """Turn a skip into a failure if GMPROXY_TEST_SKIPS=listed and its reason is not in LISTED. Expected failures are not skips."""
    if not _STRICT or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = reason_of(report)
    if not _LISTED.search(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped, and not listed in tests/support/skips.py: {reason}"
