"""What gmproxy and memcached's own proxy lose in the same faults of three sets of two servers: the table of docs/replicas.md.

GMPROXY_TEST_MEMCACHED   a memcached that was built with its proxy
GMPROXY_TEST_SECONDS     seconds of each run, default 20
FAULT_SEED               seed of the choice of faults and requests
"""

from contextlib import ExitStack

import pytest
from faults.driver import SERVER_FAULTS, STOPPED, WIRE_FAULTS, Driver
from faults.scenario import LONG_SECONDS, SEED
from support.servers import OTHER_MEMCACHED
from support.timing import TICK

from replicas import losses
from replicas.contenders import POLICIES, ROUTES, Contender, gmproxy, is_proxy, memcached_proxy

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        OTHER_MEMCACHED is None or not is_proxy(OTHER_MEMCACHED), reason="GMPROXY_TEST_MEMCACHED names no memcached with a proxy"
    ),
]

KILLED, _, RESTARTED = SERVER_FAULTS

#: {what fails: the faults, the probability that a second server or set fails before the first has recovered}
FAULTS = {
    "killed": ((KILLED, RESTARTED), 0.0),
    "stopped": ((STOPPED,), 0.0),
    "cut off": (tuple(fault for fault in WIRE_FAULTS if fault.name in ("held", "dropped", "refused", "cut")), 0.0),
    "two at once": ((KILLED, STOPPED), 1.0),
}

#: Seconds without faults at the end, in which all servers are tried again.
CALM = 40 * TICK


def run(launch, faults, two_at_once):
    """The Losses of one proxy."""
    with ExitStack() as stack:
        contender = Contender(stack, launch)
        driver = Driver(contender.victims, faults, SEED, two_at_once=two_at_once)
        with losses.Losses(contender.port, SEED) as load:
            driver.run(LONG_SECONDS)
            load.run_for(CALM)
        return load


def table(title, results):
    """The table in Markdown."""
    rows = [[title, *losses.COUNTED, "longest request"], ["---", *["---:"] * (len(losses.COUNTED) + 1)]]
    rows += [[name, *(str(load.counts[what]) for what in losses.COUNTED), f"{load.longest:.2f} s"] for name, load in results.items()]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(["", f"{LONG_SECONDS:.0f} s each, seed {SEED}", "", *lines, ""])


@pytest.mark.parametrize("what", FAULTS)
def test_what_is_lost(what, shared_directory):
    faults, two_at_once = FAULTS[what]
    ours = {f"gmproxy, {policy}": run(gmproxy(policy), faults, two_at_once) for policy in POLICIES}
    theirs = {
        f"memcached, {routes}": run(memcached_proxy(OTHER_MEMCACHED, shared_directory, routes), faults, two_at_once) for routes in ROUTES
    }
    print(table(what, ours | theirs))
    for name, load in ours.items():
        wrong = {row: load.counts[row] for row in (losses.STALE, losses.RESURRECTED, losses.STALE_AT_END) if load.counts[row]}
        assert not wrong, (name, wrong)
        assert load.counts[losses.REQUESTS] > load.counts[losses.FAILED_READS] == 0, name
