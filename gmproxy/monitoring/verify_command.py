"""The control command `verify [SAMPLE [ACTION [SECONDS [POOL]]]]`: one worker compares the sets of servers (verification.py).

SAMPLE: maximum number of keys from each server, 0: all; ACTION: `repair` or `report`; SECONDS: time limit.
"""

import functools
from collections.abc import Callable, Sequence

from gmproxy import internal_errors
from gmproxy.monitoring.interfaces import CallableWorkers, MonitoredWorker, OnResponse, Response
from gmproxy.monitoring.selection import find_pools

#: Keys from each server: default and maximum. More are compared by SAMPLE 0, which needs a file instead of memory.
SAMPLE, LARGEST_SAMPLE = 1000, 100_000

#: Seconds: default and maximum.
SECONDS, MOST_SECONDS = 60.0, 86400.0

#: Seconds between two calls of the worker: until it has begun, and then until it has finished.
POLL_INTERVAL = 0.1

#: Maximum number of calls in a row without a reply of the worker: it may be starting.
MAX_UNANSWERED = 50

#: The worker that does it.
WORKER = 0

REPAIR, REPORT = ACTIONS = ("repair", "report")


# -- in a worker. Loop callback or greenlet


def begin(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """`verify-begin`, with the arguments of `verify`: {} if this is not the worker that does it, or {"has_begun": True}. Raises LookupError."""
    from gmproxy.monitoring import verification  # needs gevent, which the master must not import

    sample, seconds = _parse_arguments(arguments)
    pools = verification.check_pools(find_pools(worker, arguments[3:4]), bool(arguments[3:4]))
    if worker.context.number == WORKER:
        if worker.verification is not None and worker.verification.is_running():
            raise LookupError("another verify is running: try again when it has ended")
        worker.verification = verification.Verification(pools, sample, arguments[1:2] != [REPORT], seconds)
        return {"has_begun": True}
    return {}


def poll(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """`verify-poll`: {} if this is not the worker that does it, or {"is_running": True}, or {"result": ...}."""
    if worker.verification is None:
        return {}
    return {"is_running": True} if worker.verification.is_running() else {"result": worker.verification.result()}


def _parse_arguments(arguments: Sequence[str]) -> tuple[int, float]:
    """(SAMPLE, SECONDS). Raises LookupError."""
    try:
        sample = int(arguments[0]) if arguments else SAMPLE
        seconds = float(arguments[2]) if len(arguments) > 2 else SECONDS
    except ValueError:
        sample, seconds = -1, 0.0
    if not (0 <= sample <= LARGEST_SAMPLE and 1 <= seconds <= MOST_SECONDS and arguments[1:2] in ([], [REPAIR], [REPORT])):
        raise LookupError(
            f"arguments of verify: keys from 0 to {LARGEST_SAMPLE}, {REPAIR} or {REPORT}, seconds from 1 to {MOST_SECONDS:g}, name of a pool"
        )
    return sample, seconds


# -- in the master, or in the worker of a service with one process


def run(workers: CallableWorkers, arguments: list[str], then: OnResponse) -> None:
    """Start it, and call `then` once with the response, later. Does not wait."""
    unanswered = 0

    def call(command: str, given: list[str], next_step: Callable[[Sequence[Response]], None]) -> None:
        def on_responses(responses: Sequence[Response]) -> None:
            try:
                next_step(responses)
            except Exception as error:
                internal_errors.record("verify_command.run")
                then({"error": repr(error)})

        workers.call_workers(command, given, on_responses)

    def on_begun(responses: Sequence[Response]) -> None:
        if failed := next((response for response in responses if "error" in response), None):
            then(failed)
        elif any("has_begun" in response for response in responses):
            call_again(True, "verify-poll", [], on_polled)
        else:
            call_again(False, "verify-begin", arguments, on_begun)

    def on_polled(responses: Sequence[Response]) -> None:
        result = next((response["result"] for response in responses if "result" in response), None)
        if result is not None:
            then(result)
        else:
            call_again(any("is_running" in response for response in responses), "verify-poll", [], on_polled)

    def call_again(is_answered: bool, command: str, given: list[str], next_step: Callable[[Sequence[Response]], None]) -> None:
        nonlocal unanswered
        unanswered = 0 if is_answered else unanswered + 1
        if unanswered > MAX_UNANSWERED:
            then({"error": f"worker {WORKER + 1}, which compares the servers, does not reply"})
        else:
            workers.call_later(POLL_INTERVAL, functools.partial(call, command, given, next_step))

    call("verify-begin", arguments, on_begun)
