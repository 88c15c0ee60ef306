"""The rounds: which proxies run at the same time, and in which order they are measured."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from contenders import GMPROXY, Stage, Watched, running
from idle import measure_idle
from load import LoadGenerator
from mixed import measure_mixed, prepare_mixed
from processes import Server
from report import HEADLINES, Samples
from rows import AnyRow, IdleRow, MixedRow, Needs, Row
from syscalls import measure_syscalls

WARMUP_SHARE = 20  # a twentieth of the counted operations goes before them
QUICK_SHARE = 5  # a quick run has a fifth of the operations


class Bench:
    """`arguments` are those of command_line.py."""

    def __init__(self, arguments: Namespace, generator: LoadGenerator):
        self._arguments = arguments
        self._generator = generator
        self._cores = os.sched_getaffinity(0)
        self.syscalls: dict[Row, dict[str, dict[str, float]]] = {}  # row -> contender -> name -> calls per operation

    def measure(self, rows: list[AnyRow]) -> dict[AnyRow, Samples]:
        """Rows that need the same processes are measured one after the other. The results are in the order of `rows`."""
        results = {}
        for needs in dict.fromkeys(row.needs for row in rows):
            alike = [row for row in rows if row.needs == needs]
            results |= self._measure_loads(alike, needs) if needs else self._measure_idle(alike)
        return {row: results[row] for row in rows}

    def _measure_loads(self, rows: list[Row | MixedRow], needs: Needs) -> dict[AnyRow, Samples]:
        contenders = self._arguments.contenders
        if needs.watched:
            (gmproxy,) = (contender for contender in contenders if contender.name == GMPROXY)
            contenders = [gmproxy, Watched(gmproxy)]
        results = {}
        contenders = [contender.with_workers(needs.workers).that_distributes(needs.distribution) for contender in contenders]
        if needs.backups:
            contenders = [contender.with_backups() for contender in contenders]
        if needs.replicas:
            contenders = [contender.with_replicas() if contender.name == GMPROXY else contender for contender in contenders]
        if needs.journal:  # the others may lack it
            contenders = [contender.with_journal() if contender.name == GMPROXY else contender for contender in contenders]
        further_sets = needs.replicas or int(needs.backups)
        with running(contenders, needs.servers, needs.servers * further_sets, needs.unix) as stage:
            for row in rows:
                stage.run_on({max(self._cores)} if row.one_core or self._arguments.one_core else self._cores)
                results[row] = self._measure_mixed(row, stage) if isinstance(row, MixedRow) else self._measure_row(row, stage)
        return results

    def _measure_idle(self, rows: list[IdleRow]) -> dict[AnyRow, Samples]:
        contenders = self._arguments.contenders
        return {row: self._rounds(row, contenders, lambda contender, _, row=row: measure_idle(row, contender)) for row in rows}

    def _measure_row(self, row: Row, stage: Stage) -> Samples:
        ops = row.ops // QUICK_SHARE if self._arguments.quick else row.ops
        self._generator.preload(row.load, stage.proxies[0])
        for proxy in stage.proxies:
            self._generator.check(row.load, proxy)
        if self._arguments.syscalls:
            self.syscalls[row] = {proxy.name: measure_syscalls(row, proxy, self._generator) for proxy in stage.proxies}

        def measure_one(proxy: Server, seed: int) -> dict:
            return self._generator.measure(row.load, proxy, f"--ops {ops} --warmup {ops // WARMUP_SHARE} --seed {seed}")

        return self._rounds(row, stage.proxies, measure_one)

    def _measure_mixed(self, row: MixedRow, stage: Stage) -> Samples:
        prepare_mixed(row, stage.proxies, self._generator)
        return self._rounds(row, stage.proxies, lambda proxy, seed: measure_mixed(row, proxy, self._generator, seed))

    def _rounds(self, row: AnyRow, contenders: list, measure_one: Callable[[Any, int], dict]) -> Samples:
        """The samples of each contender, in rounds A B A B: other load on the machine then affects all of them."""
        samples: Samples = {contender.name: [] for contender in contenders}
        runs = self._arguments.runs
        for number in range(1, runs + 1):
            for contender in contenders:
                sample = measure_one(contender, number)
                samples[contender.name].append(sample)
                figure, form = HEADLINES[type(row)]
                print(f"{row.name} {number}/{runs} {contender.name}: {form.format(sample[figure])}", file=sys.stderr)
        return samples
