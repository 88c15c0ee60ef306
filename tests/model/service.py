"""What is explored: a configuration of gmproxy with its servers, and the failures that may happen."""

from typing import NamedTuple


class Service(NamedTuple):
    """A configuration of gmproxy, and the initial items of its servers.

    arguments            its command line, without servers
    primaries, backups   names of servers, a letter each
    has_replicas         True: each of `backups` is the server of a replica set
    empty                the servers that do not have the keys
    just_started         True: the uptime of the servers is short, so they are warming
    workers              of each proxy
    proxies              that many services with this configuration, which share nothing but the servers
    """

    arguments: tuple[str, ...]
    primaries: str
    backups: str = ""
    empty: str = ""
    just_started: bool = False
    workers: int = 1
    proxies: int = 1
    has_replicas: bool = False


class Failure(NamedTuple):
    """At most one failure happens in a path: one of `kinds`, to one of `servers`. DIES happens to one of the workers."""

    kinds: tuple[str, ...]
    servers: str


#: Failures of a server.
#:
#: closes        it closes its connections; it has executed some of the requests that it has not replied to
#: times out     it does not reply in time: its connections are given up, and it executes their requests later
#: is ejected    the same, and it is ejected until a probe succeeds
#: restarts      it is restarted with an empty memory
#: evicts        it evicts both keys. This is no failure, but its backup may have keys that it lacks from then on
#:
#: The first three happen to one of several workers; the others reach the server.
CLOSES, TIMES_OUT, IS_EJECTED, RESTARTS, EVICTS = KINDS = ("closes", "times out", "is ejected", "restarts", "evicts")

#: A failure of a worker: its process dies. Some of its requests that are on their way reach the servers, and are executed later.
DIES = "dies"

NO_FAILURE = Failure((), "")

#: Services of one process, by name.
SERVICES = {
    "one server": Service((), "A"),
    "two servers": Service(("--auto-eject-hosts",), "AB"),
    "backup, async": Service(("--backup-writes", "async"), "A", "B"),
    "backup, sync": Service(("--backup-writes", "sync"), "A", "B"),
    "backup, off": Service(("--backup-writes", "off"), "A", "B", empty="B"),
    "warming": Service(("--backup-writes", "async"), "A", "B", empty="A", just_started=True),
}

#: Services with three sets of servers.
REPLICAS = {
    "replicas": Service((), "A", "BC", has_replicas=True),
    "replicas, majority": Service(("--write", "majority"), "A", "BC", has_replicas=True),
    "replicas, all": Service(("--write", "all"), "A", "BC", has_replicas=True),
    "replicas, spread": Service(("--read", "spread"), "A", "BC", has_replicas=True),
    "replicas, warming": Service((), "A", "BC", empty="B", just_started=True, has_replicas=True),
}

#: Services of two workers, and two services of one process each: client 1 is connected to the first of them, client 2 to the second one.
WORKERS = {f"2 workers, {name}": SERVICES[name]._replace(workers=2) for name in ("two servers", "backup, async", "backup, sync", "warming")}
PROXIES = {
    f"2 proxies, {name}": SERVICES[name]._replace(proxies=2, arguments=(*SERVICES[name].arguments, "--proxies", "several"))
    for name in ("backup, async", "backup, sync", "warming")
}
WORKERS_WITH_REPLICAS = {f"2 workers, {name}": service._replace(workers=2) for name, service in REPLICAS.items()}
ALL_SERVICES = {**SERVICES, **REPLICAS, **WORKERS, **WORKERS_WITH_REPLICAS, **PROXIES}
