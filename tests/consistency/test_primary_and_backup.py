"""Clients write the same keys through two workers: the servers of a key agree whenever the load stops, and no reply was stale."""

import time

import pytest

from consistency.agreement import Agreement
from consistency.installation import Installation
from consistency.load import SharedLoad
from consistency.parameters import SEED, seconds

#: Seconds of the load in the normal run.
SHORT = 1

#: Seconds after which the load stops, and primary and backup are compared: only the last writes of a key can leave a difference.
ROUND = 0.5


def check_agreement(folder, duration, options, backups=1, replicas=0, workers=2):
    found, rounds, both, examples = 0, 0, 0, []
    with Installation(folder, 1, backups, workers, options, replicas) as service:
        with SharedLoad(service.port, seed=SEED, rest=0.001) as load:
            end = time.monotonic() + duration
            while time.monotonic() < end:
                load.run_for(ROUND)
                load.hold()
                service.wait_until_quiet()
                primary, *others = service.servers
                for other in others:
                    agreement = Agreement(primary, other, [*load.histories, *load.counters])
                    rounds += 1
                    both += len(agreement.both)
                    found += len(agreement.differ)
                    examples += [
                        f"{key.decode()}: {one[:50]} {another[:50]}\n{load.history_of(key)}"
                        for key, (one, another) in agreement.differ.items()
                    ]
                load.go_on()
        service.proxy.check_log()
    summary = (
        f"{' '.join(options)}, {workers} workers, {duration} s, seed {SEED}: of {agreement.keys} keys, compared {rounds} times, "
        f"{found} differed; {both / rounds:.0f} were on both servers\n{load.results.summary()}"
    )
    print(summary)
    assert both > 100 * rounds, summary
    assert not found, summary + "\n" + "\n".join(examples[:3])
    assert not load.results.complaint(), f"seed {SEED}\n{load.results.complaint()}"


def test_primary_and_backup_agree(tmp_path):
    check_agreement(tmp_path, SHORT, ("--backup-writes", "async"))


@pytest.mark.long
@pytest.mark.parametrize("how", ["async", "sync"])
def test_primary_and_backup_agree_after_a_long_load(tmp_path, how):
    check_agreement(tmp_path, seconds(60), ("--backup-writes", how))


def test_three_sets_agree(tmp_path):
    check_agreement(tmp_path, SHORT, ("--write", "majority"), backups=0, replicas=2)


@pytest.mark.long
@pytest.mark.parametrize("write", ["main", "majority", "all"])
def test_three_sets_agree_after_a_long_load(tmp_path, write):
    check_agreement(tmp_path, seconds(60), ("--write", write), backups=0, replicas=2)
