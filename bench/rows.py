"""The workloads: one row of the tables each, with its target.

`ops` is chosen so that twemproxy uses about a second of CPU time in a counted run on a small virtual machine.

`one_core` puts everything on one core. It is for loads that leave cores idle: there, waking a sleeping virtual core
costs more CPU time than proxying a request, and the scheduler decides in each run whether that happens.
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Target:
    """What gmproxy's `figure` (of report.summary; the median over the runs) should be. A missed target is reported; it is not an error."""

    figure: str
    sign: str  # "<=" or ">="
    bound: float

    def met_by(self, value: float) -> bool:
        return value <= self.bound if self.sign == "<=" else value >= self.bound


def cpu_ratio(bound: float) -> tuple[Target]:
    return (Target("cpu_us_per_op_ratio", "<=", bound),)


class Needs(NamedTuple):
    """The processes that a row needs. Rows with the same needs are measured with the same processes."""

    servers: int = 2
    workers: int = 1  # of gmproxy
    distribution: str = "modula"
    watched: bool = False  # compares gmproxy with itself while it is monitored
    unix: bool = False  # clients connect to a unix socket
    backups: bool = False  # gmproxy has a backup for each server
    replicas: int = 0  # number of replica sets of gmproxy
    journal: bool = False  # gmproxy keeps pending invalidations in files


@dataclass(frozen=True)
class Row:
    """Operations through each proxy in turn, and the cost of one."""

    name: str
    sentence: str
    ops: int
    load: str  # options of loadgen
    targets: tuple[Target, ...]
    needs: Needs = Needs()
    one_core: bool = False


@dataclass(frozen=True)
class IdleRow:
    """Clients that sent one get each and then are idle: the memory that the proxy uses for them."""

    name: str
    sentence: str
    clients: int
    targets: tuple[Target, ...]
    needs: None = None  # new processes for each run
    together: bool = False  # all gets are in flight at the same time, else one after the other
    silent_seconds: int = 20  # before the memory is measured: gmproxy hibernates clients that are idle for ten seconds


@dataclass(frozen=True)
class MixedRow:
    """Small gets alone, then beside a client that reads large values without a pause: the increase of their latency."""

    name: str
    sentence: str
    seconds: int
    small: str  # options of loadgen
    large: str
    targets: tuple[Target, ...]
    needs: Needs = Needs()
    one_core: bool = False


AnyRow = Row | MixedRow | IdleRow

IDLE_TARGETS = (
    Target("resident_kib_per_client", "<=", 16),
    Target("resident_kib_per_client_ratio", "<=", 1.0),
)

GETS_OF_100_KEYS = "--keys-per-get 100 --get-only --value-size 100"

CONNECTIONS = "--clients 20 --reconnect --value-size 100"

GET_AND_SET = "--clients 50 --gets-per-set 1 --value-size 100"

ROWS = {
    row.name: row
    for row in (
        Row("get-set", "50 clients, 10 gets to 1 set, 100 bytes", 100_000,
            "--clients 50 --gets-per-set 10 --value-size 100", cpu_ratio(1.0)),
        Row("clients-500", "500 clients, 10 gets to 1 set, 100 bytes", 100_000,
            "--clients 500 --gets-per-set 10 --value-size 100", cpu_ratio(1.0)),
        Row("pipelined", "20 clients, 16 requests at once, 10 gets to 1 set, 100 bytes", 300_000,
            "--clients 20 --pipeline 16 --gets-per-set 10 --value-size 100", cpu_ratio(0.65)),
        Row("multi-get", "50 clients, 100 keys per get, 100 bytes", 25_000,
            f"--clients 50 {GETS_OF_100_KEYS}", cpu_ratio(0.5)),
        Row("multi-get-20-clients", "as multi-get, with 20 clients instead of 50", 25_000,
            f"--clients 20 {GETS_OF_100_KEYS}", ()),
        Row("multi-get-20-servers", "as multi-get, with 20 servers instead of 2", 10_000,
            f"--clients 50 {GETS_OF_100_KEYS}", cpu_ratio(0.5), Needs(servers=20)),
        Row("multi-get-ketama", "as multi-get-20-servers, with the ketama ring, twemproxy's default distribution", 10_000,
            f"--clients 50 {GETS_OF_100_KEYS}", cpu_ratio(0.5), Needs(servers=20, distribution="ketama")),
        Row("value-16k", "50 clients, 10 gets to 1 set, 16 KiB", 60_000,
            "--clients 50 --gets-per-set 10 --value-size 16384 --keys 1000", cpu_ratio(1.0)),
        Row("value-1m", "20 clients, 10 gets to 1 set, 1 MB", 2_000,
            "--clients 20 --gets-per-set 10 --value-size 1000000 --keys 50", ()),
        Row("set-1k", "50 clients, only sets, 1 KiB", 100_000,
            "--clients 50 --gets-per-set 0 --value-size 1024", cpu_ratio(1.0)),
        Row("one-client", "1 client, one request at a time, 10 gets to 1 set, 100 bytes", 50_000,
            "--clients 1 --gets-per-set 10 --value-size 100", (Target("p50_us_ratio", "<=", 1.1),), one_core=True),
        Row("get-set-2-workers", "as get-set, and gmproxy has two workers", 100_000,
            "--clients 50 --gets-per-set 10 --value-size 100", (Target("ops_per_sec_ratio", ">=", 1.0),), Needs(workers=2)),
        Row("pipelined-2-workers", "as pipelined, and gmproxy has two workers", 300_000,
            "--clients 20 --pipeline 16 --gets-per-set 10 --value-size 100", (), Needs(workers=2)),
        Row("connect-get", "20 clients, each of which connects, does one get of 100 bytes, and closes", 30_000,
            f"{CONNECTIONS} --get-only", cpu_ratio(1.0)),
        Row("connect-set", "the same with a set", 30_000, f"{CONNECTIONS} --gets-per-set 0", cpu_ratio(1.0)),
        Row("connect-get-unix", "as connect-get, over a unix socket", 30_000,
            f"{CONNECTIONS} --get-only", cpu_ratio(1.0), Needs(unix=True)),
        Row("connect-set-unix", "as connect-set, over a unix socket", 30_000,
            f"{CONNECTIONS} --gets-per-set 0", cpu_ratio(1.0), Needs(unix=True)),
        Row("connect-get-2-workers", "as connect-get, and gmproxy has two workers", 30_000,
            f"{CONNECTIONS} --get-only", cpu_ratio(1.1), Needs(workers=2)),
        Row("connect-set-2-workers", "as connect-set, and gmproxy has two workers", 30_000,
            f"{CONNECTIONS} --gets-per-set 0", cpu_ratio(1.1), Needs(workers=2)),
        Row("backup-1", "50 clients, 1 get to 1 set, 100 bytes; gmproxy sends a copy of each set to a backup, nutcracker does not", 100_000,
            GET_AND_SET, (), Needs(backups=True)),
        Row("backup-2", "as backup-1, and gmproxy has two workers", 100_000, GET_AND_SET, (), Needs(backups=True, workers=2)),
        Row("backup-2-journal", "as backup-2, and gmproxy keeps pending invalidations in files (journal_dir)", 100_000,
            GET_AND_SET, (), Needs(backups=True, workers=2, journal=True)),
        *(Row(f"replicas-{replicas}-{workers}", f"as backup-1, with {replicas} replica sets in place of the backup; workers: {workers}", 60_000,
              GET_AND_SET, (), Needs(replicas=replicas, workers=workers)) for replicas in (2, 3) for workers in (1, 2)),
        Row("watched", "as get-set: gmproxy, and gmproxy while metrics are scraped and hot keys are sampled all the time", 100_000,
            "--clients 50 --gets-per-set 10 --value-size 100", cpu_ratio(1.05), Needs(watched=True)),
        Row("watched-pipelined", "as pipelined, in the same way", 300_000,
            "--clients 20 --pipeline 16 --gets-per-set 10 --value-size 100", cpu_ratio(1.05), Needs(watched=True)),
        MixedRow("mixed", "20 clients with gets of 100 bytes, first alone, then beside a client that gets 1 MB in a loop", 2,
                 "--clients 20 --get-only --value-size 100",
                 "--clients 1 --get-only --value-size 1000000 --keys 20 --first-key 1000000",
                 (Target("p99_us_growth", "<=", 2.0),)),
        IdleRow("idle-clients", "5,000 clients, each did one get of 100 bytes, one after the other, and then nothing for 20 seconds", 5000,
                IDLE_TARGETS),
        IdleRow("idle-clients-together", "the same, but all gets at once", 5000, IDLE_TARGETS, together=True),
        IdleRow("idle-for-a-second", "as idle-clients, but after one second: gmproxy hibernates a client only after ten", 5000,
                (), silent_seconds=1),
    )
}  # fmt: skip
