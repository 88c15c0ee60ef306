"""What operators ask of a worker, or have it do, beyond what a client can ask: its part of the answer, and how the parts become one.

Every answer is bounded, and no order waits for anything.
"""

import functools
import logging
import os
import time

from gmproxy import internal_errors
from gmproxy.client import stats
from gmproxy.monitoring import events, report, sampling

#: Levels that the log can have, by what an operator calls them.
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

#: Slow requests told of.
SLOW_TOLD = 50

#: Seconds for which requests may be sampled.
LONGEST_SAMPLE = 60.0

#: Seconds after that in which the order to end must have come.
SAMPLE_GRACE = 5.0

log = logging.getLogger("gmproxy")


# -- what a worker does. Each takes the Worker and a list of words, and gives a dict; a LookupError is told to who asks


def _report(worker, words):
    worker.measure()
    return report.of_worker(worker, worker.now())


def _slow(worker, words):
    worker.measure()
    return {"slow": worker.slow.slowest()[:SLOW_TOLD]}


def _sample(worker, words):
    """Begin to sample; `words`: how many requests are to be kept."""
    if any(pool.router.sampler is not None for pool in worker.pools.values()):
        raise LookupError("requests are being sampled already")
    samplers = {pool: sampling.Sampler(pool.title, int(words[0]), worker.now, time.time) for pool in worker.pools.values()}
    for pool, sampler in samplers.items():
        pool.router.sampler = sampler
    return {}


def _sampled(worker, words):
    """End that, and tell."""
    samplers = []
    for pool in worker.pools.values():
        samplers.append(pool.router.sampler)
        pool.router.sampler = None
    return {"samples": [sampler.told() for sampler in samplers if sampler is not None]}


def end_late_samples(pools, now):
    """Take the samplers out that nobody has asked to end: who began that is gone, or could not. `pools`: of the worker; `now`: its time."""
    for pool in pools:
        sampler = pool.router.sampler
        if sampler is not None and now - sampler.began_at > LONGEST_SAMPLE + SAMPLE_GRACE:
            pool.router.sampler = None


def _route(worker, words):
    """Where the keys `words` go now, in each pool."""
    return {"pools": {pool.title: [_way(pool, os.fsencode(word), worker.now()) for word in words] for pool in worker.pools.values()}}


def _way(pool, key, now):
    router, config = pool.router, pool.config
    placement = pool.placement()
    index = placement.locate(key)
    owner = router.backends[index]
    backup = router.backup_of(key) if router.backups else None
    return {
        "key": os.fsdecode(key), "hash": placement.hash(key), "distribution": placement.distribution, "hash_name": placement.hash_name,
        "server": str(config.server[index]), "state": pool.state(owner, now)[0],
        "goes_to": str(config.server[router.locator.locate(key)]),  # another one while servers are ejected and auto_eject_hosts is set
        "backup": None if backup is None else str(backup.server), "backup_state": None if backup is None else pool.state(backup, now)[0],
    }


def _eject(worker, words):
    found = _found(worker, words)
    for backend in found:
        backend.log.warning("ejecting by hand server=%s", backend.label)
        worker.soon(backend.eject)
    return {"ejected": [backend.label for backend in found]}


def _restore(worker, words):
    found = [backend for backend in _found(worker, words) if backend.health.ejected]
    for backend in found:
        backend.log.warning("restoring by hand server=%s", backend.label)
        backend.health.release(worker.now())
    return {"restored": [backend.label for backend in found]}


def _found(worker, words):
    """The backends that are meant by address or name. Raises LookupError."""
    found = []
    for word in words:
        here = [backend for pool in worker.pools.values() for backend in pool.backends if word in (backend.label, backend.server.name)]
        if not here:
            raise LookupError(f"there is no server {word!r}")
        found += here
    return found


def _log_level(worker, words):
    set_log_level(words)
    return {"level": log_level()}


def set_log_level(words):
    """Raises LookupError."""
    if words and words[0] not in LEVELS:
        raise LookupError(f"there is no log level {words[0]!r}; known: {', '.join(LEVELS)}")
    if words:
        log.setLevel(LEVELS[words[0]])


def log_level():
    return next((name for name, level in LEVELS.items() if level >= log.getEffectiveLevel()), "error")


def _drain(worker, words):
    worker.drain()
    return {"clients": worker.clients()}


def _stats(worker, words):
    return stats.snapshot(_pool(worker, words).service)


def _reset(worker, words):
    _pool(worker, words).service.reset_counters()
    return {}


def _pool(worker, words):
    name = words[0] if words else next(iter(worker.pools))
    if name not in worker.pools:
        raise LookupError(f"there is no pool {name!r}")
    return worker.pools[name]


def _ping(worker, words):
    return {"pid": os.getpid()}


COMMANDS = {
    "report": _report, "slow": _slow, "sample": _sample, "sampled": _sampled, "route": _route, "eject": _eject, "restore": _restore,
    "log-level": _log_level, "drain": _drain, "stats": _stats, "reset": _reset, "ping": _ping,
}

#: What an operator may ask for as it is.
PUBLIC = ("report", "slow", "route", "eject", "restore", "log-level", "drain", "stats", "reset", "ping")


# -- what the workers' answers are together


def joined(name, answers):
    """The answers of all workers to the question `name`, as one."""
    right = [answer for answer in answers if "error" not in answer]
    if not right:
        return answers[0] if answers else {"error": "no worker answers"}
    return _JOINED.get(name, _first)(right)


def _first(answers):
    return answers[0]


def _join_labels(answers):
    """Each server once, in order; a worker may know of others, or have found them in another state."""
    return {name: list(dict.fromkeys(label for answer in answers for label in answer[name])) for name in answers[0]}


def _join_reports(answers):
    if any(answer["pid"] == os.getpid() for answer in answers):
        return report.merge(answers, os.getpid())
    whole = report.merge(answers, os.getpid(), events.merge([events.RECENT.told()]))
    whole["process"]["internal_errors"] += internal_errors.count()  # of the master, which is none of the workers
    return whole


def _join_stats(answers):
    whole = stats.merge(answers, os.getpid())
    if all(answer["general"]["pid"] != os.getpid() for answer in answers):
        whole["general"]["internal_errors"] += internal_errors.count()
    return whole


def _join_slow(answers):
    return {"slow": sorted((each for answer in answers for each in answer["slow"]), key=lambda each: -each["seconds"])[:SLOW_TOLD]}


def _join_samples(answers):
    samples = [sample for answer in answers for sample in answer["samples"]]
    return {"keys": sampling.merge_keys(samples), "requests": sampling.merge_requests(samples, sampling.TAIL_KEPT)}


_JOINED = {
    "stats": _join_stats,
    "ping": lambda answers: {"workers": answers},
    "reset": lambda answers: {},
    "report": _join_reports,
    "eject": _join_labels,
    "restore": _join_labels,
    "slow": _join_slow,
    "sampled": _join_samples,
    "drain": lambda answers: {"clients": sum(answer["clients"] for answer in answers)},
}


# -- what takes time


def seconds_of(words, default):
    """The number of seconds that stands first in `words`. Raises LookupError."""
    return _number(words, 0, default, float, 0.1, LONGEST_SAMPLE)


def count_of(words, place, default):
    return _number(words, place, default, int, 1, sampling.TAIL_KEPT)


def _number(words, place, default, kind, least, most):
    text = words[place] if len(words) > place else str(default)
    try:
        number = kind(text)
    except ValueError:
        number = most + 1
    if not least <= number <= most:
        raise LookupError(f"{text!r} is not a number from {least} to {most}")
    return number


def sample(workers, name, words, then):
    """`hotkeys [SECONDS]` and `tail [COUNT [SECONDS]]`: sample the requests of all workers for some seconds. `then` gets the answer."""
    try:
        kept = count_of(words, 0, 20) if name == "tail" else 0
        seconds = seconds_of(words[1:] if name == "tail" else words, 1.0 if name == "tail" else 5.0)
    except LookupError as error:
        then({"error": str(error)})
        return

    def begun(answers):
        try:
            if trouble := next((answer for answer in answers if "error" in answer), None):
                then(trouble)
            else:
                workers.call_later(seconds, functools.partial(workers.call_workers, "sampled", [], ended))
        except Exception as error:
            internal_errors.record("operations.sample")
            then({"error": repr(error)})

    def ended(answers):
        try:
            told = joined("sampled", answers)
            if "error" not in told:
                told = {"seconds": seconds, "requests": told["requests"][:kept]} if name == "tail" else {"seconds": seconds, "keys": told["keys"]}
        except Exception as error:
            internal_errors.record("operations.sample")
            told = {"error": repr(error)}
        then(told)

    workers.call_workers("sample", [str(kept)], begun)
