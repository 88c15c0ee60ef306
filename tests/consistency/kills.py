"""The ways in which gmproxy ends, and is started again at the same address."""

import os
import re
import signal
from random import Random

from support.timing import PATIENCE, eventually

from consistency.installation import Installation


def kill_a_worker(service: Installation, chance: Random) -> None:
    """A worker dies; the master replaces it."""
    victim = chance.choice(service.worker_pids())
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: victim not in service.worker_pids(), within=2 * PATIENCE, what="the worker is replaced")
    service.wait_until_serving()


def kill_the_master(service: Installation, chance: Random) -> None:
    """The master dies, and its workers end by themselves. Then the service is started again."""
    os.kill(service.master, signal.SIGKILL)
    service.wait_for_the_end()
    service.start()


def kill_all(service: Installation, chance: Random) -> None:
    """All processes die in the same moment, as by the kernel or by systemd."""
    service.kill_all()
    service.start()


def terminate(service: Installation, chance: Random) -> None:
    """SIGTERM, and a new start."""
    os.kill(service.master, signal.SIGTERM)
    service.wait_for_the_end()
    service.start()


def upgrade(service: Installation, chance: Random) -> None:
    """SIGUSR2: a new process takes over."""
    old = service.master
    upgrades = service.proxy.log().count("upgraded successor=")
    os.kill(old, signal.SIGUSR2)

    def successors():
        return re.findall(r"upgraded successor=(\d+)", service.proxy.log())[upgrades:]

    (service.master,) = map(int, eventually(successors, within=3 * PATIENCE, what="the upgrade"))
    eventually(lambda: old not in service.processes(), within=3 * PATIENCE, what="the old process has ended")
    service.wait_until_serving()


#: Without those that need a master.
OF_ANY_NUMBER_OF_WORKERS = (kill_all, terminate, upgrade)

ALL = (kill_a_worker, kill_the_master, kill_all, terminate, upgrade)
