"""Clients write the same keys through two workers: primary and backup agree whenever the load stops, and no reply was stale."""

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


def check_agreement(folder, how, duration, workers=2):
    found, rounds, both, examples = 0, 0, 0, []
    with Installation(folder, workers=workers, options=("--backup-writes", how)) as service:
        with SharedLoad(service.port, seed=SEED, rest=0.001) as load:
            end = time.monotonic() + duration
            while time.monotonic() < end:
                load.run_for(ROUND)
                load.hold()
                service.wait_until_quiet()
                agreement = Agreement(service.primaries[0], service.backups[0], [*load.histories, *load.counters])
                rounds += 1
                both += len(agreement.both)
                found += len(agreement.differ)
                examples += [
                    f"{key.decode()}: {one[:50]} {other[:50]}\n{load.history_of(key)}" for key, (one, other) in agreement.differ.items()
                ]
                load.go_on()
        service.proxy.check_log()
    summary = (
        f"backup_writes={how}, {workers} workers, {duration} s, seed {SEED}: of {agreement.keys} keys, compared {rounds} times, "
        f"{found} differed; {both / rounds:.0f} were on both servers\n{load.results.summary()}"
    )
    print(summary)
    assert both > 100 * rounds, summary
    assert not found, summary + "\n" + "\n".join(examples[:3])
    assert not load.results.complaint(), f"seed {SEED}\n{load.results.complaint()}"


def test_primary_and_backup_agree(tmp_path):
    check_agreement(tmp_path, "async", SHORT)


@pytest.mark.long
@pytest.mark.parametrize("how", ["async", "sync"])
def test_primary_and_backup_agree_after_a_long_load(tmp_path, how):
    check_agreement(tmp_path, how, seconds(60))
