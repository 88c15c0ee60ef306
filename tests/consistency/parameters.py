"""Parameters of the loads, from the environment.

GMPROXY_TEST_SEED      seed of all random choices, default 1
GMPROXY_TEST_SECONDS   duration of each long load in seconds; default: what the test says
GMPROXY_TEST_KILLS     the number of kills of the long test, default 200
"""

import os
from pathlib import Path

SEED = os.environ.get("GMPROXY_TEST_SEED", "1")

KILLS = int(os.environ.get("GMPROXY_TEST_KILLS", "200"))


def seconds(default: float) -> float:
    """The duration of a long load."""
    return float(os.environ.get("GMPROXY_TEST_SECONDS", default))


def journal(folder: Path) -> tuple:
    """The options of gmproxy that keep its pending invalidations in `folder`."""
    return "--journal-dir", folder / "journal"
