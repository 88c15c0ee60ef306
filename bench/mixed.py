"""The effect of a client that reads large values without a pause on the small gets of other clients of the same proxy."""

import time

from load import LoadGenerator
from processes import Server
from rows import MixedRow

HEAD_START_SECONDS = 1  # seconds by which the large gets start before the small ones and end after them
WARMUP = 1000


def prepare_mixed(row: MixedRow, proxies: list[Server], generator: LoadGenerator) -> None:
    for load in (row.small, row.large):
        generator.preload(load, proxies[0])
        for proxy in proxies:
            generator.check(load, proxy)


def measure_mixed(row: MixedRow, proxy: Server, generator: LoadGenerator, seed: int) -> dict:
    """One sample: first the small gets alone, then the same gets beside the large ones."""
    small_options = f"--seconds {row.seconds} --warmup {WARMUP} --seed {seed}"
    large_options = f"--seconds {row.seconds + 2 * HEAD_START_SECONDS} --seed {seed}"
    alone = generator.measure(row.small, proxy, small_options)
    with generator.started(row.large, proxy, large_options) as large, generator.started(row.small, proxy, small_options) as small:
        large.go()
        time.sleep(HEAD_START_SECONDS)
        small.go()
        beside = small.result()
        large_gets = large.result()
    return {
        "p99_us_alone": alone["p99_us"],
        "p99_us_beside": beside["p99_us"],
        "p99_us_growth": beside["p99_us"] / alone["p99_us"],
        "ops_per_sec_alone": alone["ops_per_sec"],
        "ops_per_sec_beside": beside["ops_per_sec"],
        "large_per_sec": large_gets["ops_per_sec"],
    }
