"""The workloads: one row of the table each.

`ops` is chosen so that twemproxy burns about a second of CPU in a counted run on a small virtual machine.

`one_core` puts everything on one core. It is for loads that leave cores idle: there, to wake a sleeping virtual core
costs more CPU than to proxy a request, and the scheduler decides anew in each run whether that is paid.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    name: str
    sentence: str
    ops: int
    load: str  # options of loadgen
    servers: int = 2
    one_core: bool = False
    workers: int = 1  # of gmproxy
    watched: bool = False  # compares gmproxy with itself while everything about it is looked at


ROWS = {
    row.name: row
    for row in (
        Row("get-set", "50 clients, 10 gets to 1 set, 100 bytes", 100_000,
            "--clients 50 --gets-per-set 10 --value-size 100"),
        Row("pipelined", "20 clients, 16 requests at once, 10 gets to 1 set, 100 bytes", 300_000,
            "--clients 20 --pipeline 16 --gets-per-set 10 --value-size 100"),
        Row("multi-get", "20 clients, 100 keys per get, 100 bytes", 25_000,
            "--clients 20 --keys-per-get 100 --get-only --value-size 100"),
        Row("one-client", "1 client, one request at a time, 10 gets to 1 set, 100 bytes", 50_000,
            "--clients 1 --gets-per-set 10 --value-size 100", one_core=True),
        Row("set-1k", "50 clients, only sets, 1 KiB", 100_000,
            "--clients 50 --gets-per-set 0 --value-size 1024"),
        Row("value-16k", "50 clients, 10 gets to 1 set, 16 KiB", 60_000,
            "--clients 50 --gets-per-set 10 --value-size 16384 --keys 1000"),
        Row("clients-500", "500 clients, 10 gets to 1 set, 100 bytes", 100_000,
            "--clients 500 --gets-per-set 10 --value-size 100"),
        Row("get-set-2-workers", "as get-set, and gmproxy has two workers", 100_000,
            "--clients 50 --gets-per-set 10 --value-size 100", workers=2),
        Row("pipelined-2-workers", "as pipelined, and gmproxy has two workers", 300_000,
            "--clients 20 --pipeline 16 --gets-per-set 10 --value-size 100", workers=2),
        Row("watched", "as get-set: gmproxy, and gmproxy with metrics scraped and hot keys sampled all the time", 100_000,
            "--clients 50 --gets-per-set 10 --value-size 100", watched=True),
        Row("watched-pipelined", "as pipelined, in the same way", 300_000,
            "--clients 20 --pipeline 16 --gets-per-set 10 --value-size 100", watched=True),
    )
}  # fmt: skip
