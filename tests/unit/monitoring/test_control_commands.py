"""Sampling ends by itself if the operator that started it has disconnected."""

from types import SimpleNamespace

from gmproxy.monitoring import control_commands
from gmproxy.monitoring.sampling import Sampler


def pool(began_at: float) -> SimpleNamespace:
    return SimpleNamespace(router=SimpleNamespace(sampler=Sampler("alpha", 10, lambda: began_at, lambda: 0.0)))


def test_only_what_is_late_ends() -> None:
    old, new = pool(0.0), pool(control_commands.LONGEST_SAMPLE)
    control_commands.end_late_samples([old, new], control_commands.LONGEST_SAMPLE + control_commands.SAMPLE_GRACE + 1)
    assert old.router.sampler is None
    assert new.router.sampler is not None


def test_what_cannot_be_told_is_over_all_the_same() -> None:
    class Failing(Sampler):
        def results(self) -> dict:
            raise ValueError

    failing = pool(0.0)
    failing.router.sampler = Failing("alpha", 10, lambda: 0.0, lambda: 0.0)
    other = pool(0.0)
    worker = SimpleNamespace(pools={"one": failing, "other": other})
    try:
        control_commands.COMMANDS["sampled"](worker, [])
    except ValueError:
        pass
    assert failing.router.sampler is other.router.sampler is None
