"""The command verify, from its start to its result: there is one response, whatever the worker does that compares the servers."""

import pytest

from gmproxy.monitoring import verify_command

RESULT = {"complete": True, "pools": {}}
BEGUN, RUNNING, DONE, OTHER = {"has_begun": True}, {"is_running": True}, {"result": RESULT}, {}
NO_REPLY = {"error": "worker 1, which compares the servers, does not reply"}


class Workers:
    """Replies to each call with the next of `replies`, lists of responses; the last one repeats. `called`: (command, arguments) of each call."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.called = []
        self._later = []

    def call_workers(self, command, arguments, then):
        self.called.append((command, arguments))
        then(self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])

    def call_later(self, seconds, callback):
        self._later.append(callback)

    def run(self, *arguments):
        """All responses to the command."""
        responses = []
        verify_command.run(self, list(arguments), responses.append)
        while self._later:
            self._later.pop(0)()
        return responses


@pytest.mark.parametrize(
    "replies, response",
    [
        ([[OTHER, BEGUN], [RUNNING, OTHER], [DONE, OTHER]], RESULT),
        ([[BEGUN], [DONE]], RESULT),
        ([[OTHER], [OTHER], [OTHER, BEGUN], [DONE]], RESULT),
        ([[BEGUN], [OTHER], [RUNNING], [], [DONE]], RESULT),
        ([[BEGUN], [RUNNING], [OTHER]], NO_REPLY),
        ([[OTHER]], NO_REPLY),
        ([[]], NO_REPLY),
        ([[OTHER, {"error": "there is no pool 'x'"}]], {"error": "there is no pool 'x'"}),
    ],
)
def test_one_response(replies, response):
    workers = Workers(*replies)
    assert workers.run("10", "repair") == [response]
    assert workers.called[0] == ("verify-begin", ["10", "repair"])
    assert len(workers.called) <= verify_command.MAX_UNANSWERED + 4


def test_an_internal_error_is_a_response(internal_errors_counted):
    assert Workers([BEGUN], [None]).run() == [{"error": "TypeError(\"argument of type 'NoneType' is not iterable\")"}]
    assert internal_errors_counted() == 1


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        ([], (verify_command.SAMPLE, verify_command.SECONDS)),
        (["0"], (0, verify_command.SECONDS)),
        (["5", "report", "2.5", "pool"], (5, 2.5)),
        (["-1"], None),
        (["1000000"], None),
        (["5", "delete"], None),
        (["5", "repair", "0"], None),
        (["5", "repair", "nan"], None),
        (["five"], None),
    ],
)
def test_arguments(arguments, wanted):
    if wanted is None:
        with pytest.raises(LookupError, match="arguments of verify"):
            verify_command._parse_arguments(arguments)
    else:
        assert verify_command._parse_arguments(arguments) == wanted
