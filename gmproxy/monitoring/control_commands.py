"""Control commands: what each does in a worker, and how the responses of all workers are merged.

The size of every response is bounded, and no command waits.
"""

import functools
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from gmproxy import internal_errors
from gmproxy.client import stats
from gmproxy.config.settings import LOG_LEVELS
from gmproxy.monitoring import events, owed, refill_command, replicas, report, sampling, selection, verify_command
from gmproxy.monitoring.interfaces import CallableWorkers, MonitoredPool, MonitoredWorker, OnResponse, Response
from gmproxy.shared.invalidation_marks import BACKUP, GUTTER, PRIMARY

if TYPE_CHECKING:
    from gmproxy.routing.sets import ServerSet

Number = TypeVar("Number", int, float)

#: Commands that switch something on or off in all workers, and their arguments.
SWITCHES = ("fills", "journal")
ON, OFF = replicas.ON, replicas.OFF

#: The command that switches one replica set off or on in all workers.
REPLICA = "replica"

#: Name of a log level -> its number.
LEVELS = {name: getattr(logging, name.upper()) for name in LOG_LEVELS}

#: Maximum number of slow requests in a response.
MAX_SLOW_REPORTED = 50

#: Maximum length of a sample, in seconds.
LONGEST_SAMPLE = 60.0

#: Seconds after that until a worker ends a sample itself: `sampled` was not sent.
SAMPLE_GRACE = 5.0

log = logging.getLogger("gmproxy")


# -- in a worker. Loop callback or greenlet. Each returns its response as a dict, or raises LookupError, which becomes an error response


def _report(worker: MonitoredWorker, arguments: list[str]) -> Response:
    worker.measure()
    return report.worker_report(worker, worker.now())


def _servers(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """The servers of all pools. Unlike a report, it does not start the measuring of latency."""
    return {
        "servers": [
            {"pool": pool.title, "role": role, "label": backend.label, "name": backend.server.name or ""}
            for pool, role, backend in selection.all_servers(worker.pools.values())
        ]
    }


def _slow(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """The slowest requests of all pools, or of the pool in `arguments`."""
    worker.measure()
    titles = [pool.title for pool in selection.find_pools(worker, arguments)]
    return {"slow": [request for request in worker.slow.slowest() if request["pool"] in titles][:MAX_SLOW_REPORTED]}


def _begin_sample(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """Start sampling. `arguments`: the number of requests to keep, and optionally a pool."""
    if any(pool.router.sampler is not None for pool in worker.pools.values()):
        raise LookupError("another hotkeys or tail is running: try again when it has ended")
    pools = selection.find_pools(worker, arguments[1:])
    samplers = {pool: sampling.Sampler(pool.title, int(arguments[0]), worker.now, time.time) for pool in pools}
    for pool, sampler in samplers.items():
        pool.router.sampler = sampler
    return {}


def _end_sample(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """Stop sampling, and return the samples."""
    samplers: list[sampling.Sampler | None] = []
    for pool in worker.pools.values():
        samplers.append(pool.router.sampler)
        pool.router.sampler = None
    return {"samples": [sampler.results() for sampler in samplers if sampler is not None]}


def end_late_samples(pools: Iterable[MonitoredPool], now: float) -> None:
    """Remove the samplers that no `sampled` command has ended in time. `now`: MonitoredWorker.now(). Loop callback or greenlet."""
    for pool in pools:
        sampler = pool.router.sampler
        if sampler is not None and now - sampler.began_at > LONGEST_SAMPLE + SAMPLE_GRACE:
            pool.router.sampler = None


def _route(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """Where each pool sends the keys in `arguments` now."""
    return {
        "pools": {pool.title: [_route_key(pool, os.fsencode(key), worker.now()) for key in arguments] for pool in worker.pools.values()}
    }


def _route_key(pool: MonitoredPool, key: bytes, now: float) -> dict[str, Any]:
    router, config = pool.router, pool.config
    placement = pool.placement()
    index = placement.locate(key)
    owner = router.backends[index]
    locator = router.locator
    assert locator is not None, "the pool is loaded"
    sets = [_route_in_set(pool, one, key, now) for one in selection.all_sets(pool)]
    by_role = {one["role"]: one for one in sets}
    backup = by_role.get(BACKUP)
    return {
        "key": os.fsdecode(key),
        "hash": placement.hash(key),
        "distribution": placement.distribution,
        "hash_name": placement.hash_name,
        "server": str(config.server[index]),
        "state": pool.state(owner, now)[0],
        "goes_to": str(config.server[locator.locate(key)]),  # a stand-in server if auto_eject_hosts is set and the key's server is ejected
        "backup": backup and backup["server"],
        "backup_state": backup and backup["state"],
        "replicas": [one["server"] for one in sets if one["role"] not in (PRIMARY, BACKUP, GUTTER)],
        "gutter": by_role[GUTTER]["server"] if GUTTER in by_role else None,
        "sets": sets,
        "reads": [hop._asdict() for hop in router.explain(key, False)],
        "changes": [hop._asdict() for hop in router.explain(key, True)],
    }


def _route_in_set(pool: MonitoredPool, one: "ServerSet", key: bytes, now: float) -> dict[str, Any]:
    """The server of `key` in a set. `owed`: True if the key has a pending invalidation there."""
    backend = one.server_of(key)
    return {
        "set": one.name,
        "role": backend.role,
        "zone": one.zone,
        "enabled": one.enabled,
        "server": str(backend.server),
        "state": pool.state(backend, now)[0],
        "owed": backend.may_be_stale(key),
    }


def _eject(worker: MonitoredWorker, arguments: list[str]) -> Response:
    backends = [server.backend for server in selection.find_servers(worker.pools.values(), arguments)]
    for backend in backends:
        backend.log.warning("ejecting by hand server=%s", backend.label)
        worker.soon(backend.eject)
    return {"ejected": [backend.label for backend in backends]}


def _restore(worker: MonitoredWorker, arguments: list[str]) -> Response:
    servers = selection.find_servers(worker.pools.values(), arguments)
    backends = [server.backend for server in servers if server.backend.health.ejected]
    for backend in backends:
        backend.log.warning("restoring by hand server=%s", backend.label)
        backend.health.release(worker.now())
    return {"restored": [backend.label for backend in backends]}


def _log_level(worker: MonitoredWorker, arguments: list[str]) -> Response:
    set_log_level(arguments)
    return {"level": log_level()}


def set_log_level(arguments: Sequence[str]) -> None:
    """Set the log level of this process to arguments[0], one of LEVELS; without arguments, do nothing. Raises LookupError. Worker or master."""
    if arguments and arguments[0] not in LEVELS:
        raise LookupError(f"there is no log level {arguments[0]!r}; known: {', '.join(LEVELS)}")
    if arguments:
        log.setLevel(LEVELS[arguments[0]])


def log_level() -> str:
    """The log level of this process, one of LEVELS. Worker or master."""
    return next((name for name, level in LEVELS.items() if level >= log.getEffectiveLevel()), "error")


def _drain(worker: MonitoredWorker, arguments: list[str]) -> Response:
    worker.drain()
    return {"clients": worker.clients()}


def _fills(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """Switch the filling of servers from other sets on or off. Misses are still looked up there."""
    if arguments:
        worker.context.fills_enabled = replicas.is_on(arguments[0])
        for pool in worker.pools.values():
            for options in (pool.router.options, *(backend.options for backend in pool.backends)):  # those of each set
                options.fills_enabled = worker.context.fills_enabled
    return {"fills": ON if worker.context.fills_enabled else OFF}


def _journal(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """Switch the recording of pending invalidations in journal_dir on or off."""
    journal = worker.context.shared.journal
    if arguments:
        is_on = replicas.is_on(arguments[0])
        if journal is None:
            raise LookupError("no journal_dir is set")
        if is_on:
            journal.resume()
        else:
            journal.suspend()
    return {"journal": report.journal_state(journal)}


def _stats(worker: MonitoredWorker, arguments: list[str]) -> Response:
    return stats.snapshot(selection.find_pools(worker, arguments)[0].context)


def _reset(worker: MonitoredWorker, arguments: list[str]) -> Response:
    selection.find_pools(worker, arguments)[0].context.reset_counters()
    return {}


def _ping(worker: MonitoredWorker, arguments: list[str]) -> Response:
    return {"pid": os.getpid()}


COMMANDS: dict[str, Callable[[MonitoredWorker, list[str]], Response]] = {
    "report": _report,
    "servers": _servers,
    "slow": _slow,
    "sample": _begin_sample,
    "sampled": _end_sample,
    "route": _route,
    "eject": _eject,
    "restore": _restore,
    "log-level": _log_level,
    "drain": _drain,
    "stats": _stats,
    "reset": _reset,
    "ping": _ping,
    "fills": _fills,
    "journal": _journal,
    REPLICA: replicas.switch,
    "owed": owed.show,
    "owed-flush": owed.flush,
    "owed-drop": owed.drop,
    "refill": refill_command.show,
    "refill-begin": refill_command.begin,
    "refill-stop": refill_command.stop,
    "verify-begin": verify_command.begin,
    "verify-poll": verify_command.poll,
}

#: Commands that the control socket passes on to the workers as they are. The others are parts of one that takes time.
PUBLIC = tuple(name for name in COMMANDS if name not in ("sample", "sampled", "verify-begin", "verify-poll"))


# -- the responses of all workers as one


def merge_responses(name: str, responses: Sequence[Response]) -> Response:
    """The responses of the workers to the command `name`, merged. Errors are left out, unless there is nothing else. Worker or master."""
    successes = [response for response in responses if "error" not in response]
    if not successes:
        return responses[0] if responses else {"error": "no worker replies"}
    return _MERGED_BY.get(name, _first)(successes)


def _first(responses: Sequence[Response]) -> Response:
    return responses[0]


def _merge_labels(responses: Sequence[Response]) -> Response:
    """Each server once, in order. During a reload the workers may have different servers, or see them in different states."""
    return {name: list(dict.fromkeys(label for response in responses for label in response[name])) for name in responses[0]}


def _merge_reports(responses: Sequence[Response]) -> Response:
    if any(response["pid"] == os.getpid() for response in responses):
        return report.merge(responses, os.getpid())
    whole = report.merge(responses, os.getpid(), events.merge([events.RECENT_EVENTS.as_list()]))
    whole["process"]["internal_errors"] += internal_errors.count()  # of the master, which makes no report
    return whole


def _merge_stats(responses: Sequence[Response]) -> Response:
    whole = stats.merge(responses, os.getpid())
    if all(response["general"]["pid"] != os.getpid() for response in responses):
        whole["general"]["internal_errors"] += internal_errors.count()
    return whole


def _merge_slow(responses: Sequence[Response]) -> Response:
    return {
        "slow": sorted((each for response in responses for each in response["slow"]), key=lambda each: -each["seconds"])[:MAX_SLOW_REPORTED]
    }


def _merge_samples(responses: Sequence[Response]) -> Response:
    samples = [sample for response in responses for sample in response["samples"]]
    return {"keys": sampling.merge_keys(samples), "requests": sampling.merge_requests(samples, sampling.TAIL_KEPT)}


_MERGED_BY: dict[str, Callable[[Sequence[Response]], Response]] = {
    "stats": _merge_stats,
    "ping": lambda responses: {"workers": responses},
    "reset": lambda responses: {},
    "report": _merge_reports,
    "eject": _merge_labels,
    "restore": _merge_labels,
    "slow": _merge_slow,
    "journal": lambda responses: {"journal": report.worst_journal_state([response["journal"] for response in responses])},
    REPLICA: replicas.merge,
    "owed": owed.merge,
    "owed-flush": owed.merge,
    "owed-drop": owed.merge,
    "refill": refill_command.merge,
    "refill-begin": refill_command.merge,
    "refill-stop": refill_command.merge,
    "sampled": _merge_samples,
    "drain": lambda responses: {"clients": sum(response["clients"] for response in responses)},
}


# -- commands that take time


def parse_seconds(arguments: Sequence[str], default: float) -> float:
    """arguments[0] as seconds, or `default` without it. Raises LookupError if it is not from 0.1 to LONGEST_SAMPLE."""
    return _parse_number(arguments, 0, default, float, 0.1, LONGEST_SAMPLE)


def parse_count(arguments: Sequence[str], index: int, default: int) -> int:
    """arguments[index] as a number of requests, or `default` without it. Raises LookupError if it is not from 1 to sampling.TAIL_KEPT."""
    return _parse_number(arguments, index, default, int, 1, sampling.TAIL_KEPT)


def _parse_number(
    arguments: Sequence[str], index: int, default: Number, kind: Callable[[str], Number], least: Number, most: Number
) -> Number:
    text = arguments[index] if len(arguments) > index else str(default)
    try:
        number = kind(text)
    except ValueError:
        number = most + 1
    if not least <= number <= most:
        raise LookupError(f"{text!r} is not a number from {least} to {most}")
    return number


def sample(workers: CallableWorkers, name: str, arguments: Sequence[str], then: OnResponse) -> None:
    """`hotkeys [SECONDS [POOL]]` and `tail [COUNT [SECONDS [POOL]]]`: sample the requests of all workers for SECONDS.

    Does not wait: `then` is called once with the response, later in a loop callback, or at once if the arguments are wrong. Master, or the
    worker of a service with one process.
    """
    try:
        kept = parse_count(arguments, 0, 20) if name == "tail" else 0
        rest = arguments[1:] if name == "tail" else arguments
        seconds = parse_seconds(rest, 1.0 if name == "tail" else 5.0)
    except LookupError as error:
        then({"error": str(error)})
        return

    def on_begun(responses: Sequence[Response]) -> None:
        try:
            if failed := next((response for response in responses if "error" in response), None):
                then(failed)
            else:
                workers.call_later(seconds, functools.partial(workers.call_workers, "sampled", [], on_ended))
        except Exception as error:
            internal_errors.record("control_commands.sample")
            then({"error": repr(error)})

    def on_ended(responses: Sequence[Response]) -> None:
        try:
            result = merge_responses("sampled", responses)
            if "error" not in result:
                result = (
                    {"seconds": seconds, "requests": result["requests"][:kept]}
                    if name == "tail"
                    else {"seconds": seconds, "keys": result["keys"]}
                )
        except Exception as error:
            internal_errors.record("control_commands.sample")
            result = {"error": repr(error)}
        then(result)

    workers.call_workers("sample", [str(kept), *rest[1:2]], on_begun)
