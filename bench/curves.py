"""What an operation costs as a parameter of the workload grows: the definitions of the curves.

nutcracker is measured too, wherever it supports the workload.
"""

from collections.abc import Callable
from dataclasses import dataclass

from contenders import GMPROXY
from rows import GETS_OF_100_KEYS

KEYS = 10_000
ALL_VALUES = 50_000_000  # bytes: there are fewer keys if their values are large

NUTCRACKER = "nutcracker"
WITH_BACKUPS = "gmproxy-with-backups"
ASKING_BACKUPS = "gmproxy-asking-backups"

#: Arguments of gmproxy in addition to the usual ones.
VARIANTS = {
    GMPROXY: "",
    WITH_BACKUPS: "{backup_options} --on-miss never",
    ASKING_BACKUPS: "{backup_options} --on-miss always",
}


@dataclass(frozen=True)
class Series:
    """One line of a plot."""

    name: str
    proxy: str  # NUTCRACKER or one of VARIANTS
    load: str = ""  # further options of loadgen


BOTH = (Series("gmproxy", GMPROXY), Series("nutcracker", NUTCRACKER))
TEXT = Series("gmproxy, text", GMPROXY)
BINARY = Series("gmproxy, binary", GMPROXY, "--protocol binary")
NUTCRACKER_TEXT = Series("nutcracker, text", NUTCRACKER)


@dataclass(frozen=True)
class Curve:
    """`load` and `servers` are functions of x."""

    name: str
    title: str
    sentence: str
    x_label: str
    xs: tuple[int, ...]
    load: Callable[[int], str]
    series: tuple[Series, ...] = BOTH
    servers: Callable[[int], int] = lambda x: 2
    warmup: int = 2000  # operations
    preload: str = ""  # options of loadgen, if fewer keys are stored than requested
    keys_per_operation: Callable[[int], int] | None = None  # if the cost is that of a key instead of an operation
    percent: bool = False  # x is a share, from 0 to 100; else x grows by factors
    log_cost: bool = False  # the axis of the cost is logarithmic too

    @property
    def unit(self) -> str:
        return "key" if self.keys_per_operation else "operation"

    def cost(self, x: int, cpu_us_per_op: float) -> float:
        return cpu_us_per_op / (self.keys_per_operation(x) if self.keys_per_operation else 1)


NUMBERS_OF_SERVERS = (2, 5, 10, 20, 50, 100, 200)
GETS_AND_SETS = "--gets-per-set 10 --value-size 100"


def sets_of(percent: int) -> str:
    """Options for this percentage of sets among the requests. The load generator takes the number of gets per set."""
    return "--get-only" if percent == 0 else f"--gets-per-set {100 // percent - 1}"


CURVES = {
    curve.name: curve
    for curve in (
        Curve("pipeline", "Requests sent at once, in each protocol",
              "20 clients, each of which sends this number of requests at once and then reads the replies; 10 gets to 1 set, 100 bytes, "
              "2 servers. nutcracker has only the classic text commands.",
              "requests sent at once", (1, 2, 4, 8, 16, 32, 64), lambda x: f"--clients 20 --pipeline {x} {GETS_AND_SETS}",
              (TEXT, Series("gmproxy, meta", GMPROXY, "--protocol meta"), BINARY, NUTCRACKER_TEXT), log_cost=True),
        Curve("clients", "More clients",
              "This number of clients, each with one request at a time; 10 gets to 1 set, 100 bytes, 2 servers.",
              "clients", (1, 10, 50, 100, 500, 1000, 2000, 5000), lambda x: f"--clients {x} {GETS_AND_SETS}", warmup=10_000),
        Curve("servers", "More servers",
              "50 clients, each with one request at a time; 10 gets to 1 set, 100 bytes, with this number of servers.",
              "memcached servers", NUMBERS_OF_SERVERS, lambda x: f"--clients 50 {GETS_AND_SETS}", servers=lambda x: x),
        Curve("multi-get-servers", "A multi-get over more servers",
              "20 clients, gets of 100 keys with 100 bytes each, with this number of servers.",
              "memcached servers", NUMBERS_OF_SERVERS,
              lambda x: f"--clients 20 {GETS_OF_100_KEYS}", servers=lambda x: x, warmup=200),
        Curve("multi-get-clients", "Multi-gets by more clients",
              "This number of clients, gets of 100 keys with 100 bytes each, 20 servers. Requests of several clients in the same turn of the event "
              "loop are sent to a server together.",
              "clients", (1, 2, 5, 10, 20, 50, 100, 200),
              lambda x: f"--clients {x} {GETS_OF_100_KEYS}", servers=lambda x: 20, warmup=200),
        Curve("multi-get-keys", "A multi-get of more keys",
              "20 clients, gets of this number of keys with 100 bytes each, 2 servers. The cost is that of one key.",
              "keys per get", (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
              lambda x: f"--clients 20 --keys-per-get {x} --get-only --value-size 100",
              keys_per_operation=lambda x: x, warmup=200, log_cost=True),
        Curve("values", "Larger values",
              "20 clients, each with one request at a time; 10 gets to 1 set, 2 servers.",
              "bytes in a value", (10, 100, 1000, 10_000, 100_000, 1_000_000),
              lambda x: f"--clients 20 --gets-per-set 10 --value-size {x} --keys {min(KEYS, ALL_VALUES // x)}",
              (TEXT, BINARY, NUTCRACKER_TEXT), warmup=200, log_cost=True),
        Curve("backups", "Sets that also go to a backup",
              "50 clients, 100 bytes, 2 servers with and without 2 backups. The backup receives a copy of each set, and clients do not wait for "
              "its reply.",
              "sets among the requests, %", (0, 10, 20, 50, 100), lambda x: f"--clients 50 --value-size 100 {sets_of(x)}",
              (Series("without backups", GMPROXY), Series("with backups", WITH_BACKUPS)), percent=True),
        Curve("misses", "Misses that are looked up on the backup",
              "50 clients, only gets, 100 bytes, 2 servers and 2 backups. No server has a key that a get misses: with `--on-miss always` "
              "the miss is looked up on the backup.",
              "gets that find nothing, %", (0, 25, 50, 75, 90),
              lambda x: f"--clients 50 --get-only --value-size 100 --keys {KEYS * 100 // (100 - x)}",
              (Series("without backups", GMPROXY), Series("--on-miss never", WITH_BACKUPS), Series("--on-miss always", ASKING_BACKUPS)),
              preload=f"--value-size 100 --keys {KEYS}", percent=True),
    )
}  # fmt: skip
